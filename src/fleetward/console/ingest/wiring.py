"""The ingest of this process, put together once: keys, executors, application."""

import os
from functools import cache
from typing import Final

from fleetward.console.fleet.keys import console_keys, key_paths
from fleetward.console.ingest.application import Ingest
from fleetward.console.ingest.batching import Opener
from fleetward.console.ingest.executors import processes, threads
from fleetward.console.ingest.opening import Opened
from fleetward.console.wiring import wired

THREADS: Final = 2
"""Threads that open envelopes where no processes do."""

PROCESSES_VARIABLE: Final = "FLEETWARD_CONSOLE_OPENERS"
"""The environment's name for how many processes open envelopes (2 unless set); 0 is threads of this one."""


@cache
def ingest() -> Ingest:
    """Return the ingest of this process; made at the first call, once Django is set up."""
    return Ingest(console_keys(), _opener(), wired().clock)


def _opener() -> Opener[Opened | None]:
    count = os.environ.get(PROCESSES_VARIABLE, "2")
    if count.isdecimal() and int(count) > 0:
        return processes(int(count), key_paths())
    return threads(THREADS, console_keys())
