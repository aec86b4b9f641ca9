"""What the console's code takes from the machine: clock, entropy, settings; passed in once.

Django calls views and models by itself, so what other programs pass as arguments stands here. It is
set before Django starts (`starting`) and by tests, and read through `wired()`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from fleetward.adapters.clock import Clock, SystemClock
from fleetward.adapters.entropy import Entropy, SystemEntropy
from fleetward.config.console import ConsoleFileSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Clock, entropy and settings of this console."""

    settings: ConsoleFileSettings = field(default_factory=ConsoleFileSettings)
    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)


class _Holder:
    """The one place that holds the wiring of this process."""

    wiring = Wiring()


def wired() -> Wiring:
    """Return what this process was wired with."""
    return _Holder.wiring


def wire(wiring: Wiring) -> None:
    """Wire this process; before Django starts."""
    _Holder.wiring = wiring


@contextmanager
def rewired(**changes: object) -> Generator[Wiring]:
    """Change some of the wiring for a while."""
    before = _Holder.wiring
    _Holder.wiring = replace(before, **changes)  # type: ignore[arg-type]
    try:
        yield _Holder.wiring
    finally:
        _Holder.wiring = before
