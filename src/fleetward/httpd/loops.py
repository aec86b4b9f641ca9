"""How a program runs its event loop: uvloop where it is installed, asyncio's own loop else."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, on the fastest loop that there is."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop factory, or None where uvloop is not installed."""
    try:
        import uvloop  # noqa: PLC0415 (optional: the extra `fast`)
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def raise_descriptor_limit() -> None:
    """Let this process open as many descriptors as the system allows it.

    A server holds one or two for each client; the usual soft limit is 1,024. Programs call it
    once at their start; where the system knows no such limit, nothing happens.
    """
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
