"""The ingest of this process, put together once: keys, executors, application."""

import gc
import os
from functools import cache
from typing import Final

from fleetward.console.fleet.keys import console_keys, key_paths
from fleetward.console.ingest.application import Ingest
from fleetward.console.ingest.batching import Opener
from fleetward.console.ingest.executors import SharedOpener, processes, threads
from fleetward.console.ingest.opening import Opened
from fleetward.console.wiring import wired

THREADS: Final = 2
"""Threads that open envelopes: what comes one by one, or all where there are no processes."""

PROCESSES_VARIABLE: Final = "FLEETWARD_CONSOLE_OPENERS"
"""The environment's name for how many processes open envelopes (2 unless set); 0 is threads of this one."""


@cache
def ingest() -> Ingest:
    """Return the ingest of this process; made at the first call, once Django is set up."""
    made = Ingest(console_keys(), _opener(), wired().clock)
    gc.collect()
    gc.freeze()  # what is there now stays: a walk through it would hold everybody up for 100 ms
    return made


def _opener() -> Opener[Opened | None]:
    count = os.environ.get(PROCESSES_VARIABLE, "2")
    if count.isdecimal() and int(count) > 0:
        return SharedOpener(threads(THREADS, console_keys()), processes(int(count), key_paths()))
    return threads(THREADS, console_keys())
