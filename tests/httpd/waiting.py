"""Waiting for what another thread will do, bounded, and counting what it left behind."""

import os
import threading
from collections.abc import Callable

from httpd.rawhttp import DEADLINE


def wait_until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; fail where it does not within the deadline."""
    over = threading.Event()
    deadline = threading.Timer(DEADLINE, over.set)
    deadline.start()
    while not condition() and not over.wait(0.001):
        pass
    deadline.cancel()
    assert condition()


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 (a count)
