"""Where a host stands in a rollout: pure arithmetic that host and origin do alike.

A host's place is `sha256(salt ‖ record id)`, read as a fraction of 1 (DESIGN, "Rollouts"). For
the channel's waves the salt is the channel document's. For the policy's ramp it is the release's
tree digest, so that a stolen channels key cannot choose who comes first.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fleetward.core.documents import Channel, Wave


@dataclass(frozen=True, slots=True)
class HostPlace:
    """What a host knows of itself when it computes its place.

    Attributes:
        record: the console's id of the host's record, or the host's own id before enrolment.
        rings: the rings that its configuration puts it in.
    """

    record: str
    rings: Collection[str] = ()

    def fraction(self, salt: str) -> float:
        """Return the host's place in [0, 1) for `salt`."""
        digest = hashlib.sha256(salt.encode() + self.record.encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def is_within(self, percent: float, salt: str) -> bool:
        """Return whether the host is among the first `percent` of all places."""
        return self.fraction(salt) * 100 < percent


def first_wave(waves: Sequence[Wave], salt: str, host: HostPlace) -> int | None:
    """Return the index of the first wave that holds the host, by its rings or by its place.

    None where no wave holds it. A wave may hold a host by its share that an earlier one holds by a
    ring, so the first one is what counts.
    """
    place = host.fraction(salt) * 100
    return next(
        (
            index
            for index, wave in enumerate(waves)
            if place < wave.percent or not set(wave.rings).isdisjoint(host.rings)
        ),
        None,
    )


def wave_of(channel: Channel, host: HostPlace) -> int | None:
    """Return the index of the first wave that holds the host; None without a plan, or in no wave."""
    return None if channel.plan == "now" else first_wave(channel.waves, channel.salt, host)


def is_open_to(channel: Channel, host: HostPlace) -> bool:
    """Return whether the channel's open waves hold this host."""
    if channel.plan == "now":
        return True
    wave = wave_of(channel, host)
    return wave is not None and wave < channel.open
