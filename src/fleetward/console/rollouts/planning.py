"""A channel's plan, as the catalogue has it: its waves, who is in which, since when they are open."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward.console.catalogue.models import Channel
from fleetward.core.documents import Wave
from fleetward.core.rollout import HostPlace, first_wave

EVERYBODY = Wave(percent=100.0)
"""The one wave of a channel without a plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A channel's plan.

    Attributes:
        waves: in their order; one that holds all where the channel has no plan.
        opened: when each was opened; None where it is not.
        salt: what places are computed with; None where the console has not read it yet.
        is_now: whether the channel has no plan, and is open to all at once.
    """

    waves: tuple[Wave, ...]
    opened: tuple[datetime | None, ...]
    salt: str | None
    is_now: bool

    @property
    def is_known(self) -> bool:
        """Whether it can be told in which wave a host is."""
        return self.is_now or self.salt is not None

    def place(self, record: str) -> float | None:
        """Return a host's place in percent; None where places are not known or do not matter."""
        if self.is_now or self.salt is None:
            return None
        return HostPlace(record).fraction(self.salt) * 100

    def wave_of(self, record: str, reported: int | None) -> int | None:
        """Return the first wave that holds a host; None where none does.

        Args:
            record: the id of its record.
            reported: the wave that the host says it is in. It counts where that wave has rings,
                since the host alone knows which rings it is in.
        """
        if self.is_now:
            return 0
        if self.salt is None:
            return None
        wave = first_wave(self.waves, self.salt, HostPlace(record))
        if reported is not None and reported < len(self.waves) and self.waves[reported].rings:
            return reported if wave is None else min(wave, reported)
        return wave

    def opened_at(self, wave: int | None) -> datetime | None:
        """Return when a wave was opened; None where it is not, or where there is none."""
        return None if wave is None else self.opened[wave]


def plan_of(row: Channel) -> Plan:
    """Return a channel's plan; asks for its moves."""
    salt = None if row.salt is None else bytes(row.salt).decode()
    if row.plan == "now":
        return Plan((EVERYBODY,), (row.since,), salt, is_now=True)
    waves = tuple(_wave(each) for each in row.waves)
    return Plan(waves, _opened(row, len(waves)), salt, is_now=False)


def _wave(row: dict[str, Any]) -> Wave:
    return Wave(rings=tuple(row.get("rings") or ()), percent=row.get("percent") or 0.0)


def _opened(row: Channel, waves: int) -> tuple[datetime | None, ...]:
    """Return when each wave was opened for the release that the channel points at now.

    A wave that was closed again and opened once more counts from the last time.
    """
    opened: list[datetime | None] = [None] * waves
    for move in row.moves.filter(release=row.points_at, at__gte=row.since).order_by("id"):
        for wave in range(waves):
            if wave >= move.open:
                opened[wave] = None
            elif opened[wave] is None:
                opened[wave] = move.at
    return tuple((opened[wave] or row.since) if wave < row.open else None for wave in range(waves))
