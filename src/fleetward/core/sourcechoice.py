"""In which order a host asks its sources: one decision, over what it has measured.

| question | answer |
|---|---|
| whom first | the best tier: relays of the host's site (signed list), configured sources as they are written, the list's default relays, DNS SRV by priority, mDNS, origins |
| among equals | the leader: at first the one that rendezvous hashing gives to this host (so the hosts of a site spread over its relays, and a relay that goes moves its own hosts alone) |
| a faster equal | leads once it was better by `margin` and by `least_gain` in `wins` measurements in a row; until then nothing moves, so hosts do not flap |
| how equals are measured | one poll in `explore_every` asks another equal first, for metadata alone; one that was better is asked again at the next poll |
| one that fails, lags or lies | is put aside for a pause that doubles with each fault in a row, and forgotten by one success; aside, it is still asked where nothing else is left |
| origins | not before no relay has served for `origin_after`; at once where no relay is known |
| a relay that freezes | a share of polls also asks an origin; a relay whose timestamp is older by more than `max_lag` is put aside as stale |
| unsigned finds (SRV, mDNS) | at most `unsigned` of each, below all that is signed or configured: a flood of answers pushes nobody out |

Invariants: every configured source is always in the plan, whatever was found or remembered; a plan
names no source twice; what is remembered only orders, and is never a reason to believe anything.

Deliberately not here: looking for candidates (discovery), the network, the file (agent.sources).
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from typing import Final

from fleetward.core.limits import MIB


class Tier(IntEnum):
    """How a source was found; a lower one is asked first."""

    SITE = 0
    CONFIGURED = 1
    DEFAULT = 2
    SRV = 3
    MDNS = 4
    ORIGIN = 5

    @property
    def word(self) -> str:
        """Return its name in documents."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A source that might be asked.

    Attributes:
        url: base URL, without a slash at its end.
        tier: how it was found.
        group: within the tier, lower is asked first; those of one group are equals.
        weight: its share of hosts among equals.
        is_origin: whether it is an origin, and so no relay that could freeze.
    """

    url: str
    tier: Tier
    group: int = 0
    weight: float = 1.0
    is_origin: bool = False


class Fault(Enum):
    """Why a source is put aside; a later one is worse."""

    FAILED = "failed"
    STALE = "stale"
    FALSE = "false"


def worst_of(*faults: Mapping[str, Fault]) -> dict[str, Fault]:
    """Return the worst fault of each source, by URL."""
    gravity = list(Fault)
    found: dict[str, Fault] = {}
    for url, fault in (pair for each in faults for pair in each.items()):
        found[url] = max(fault, found.get(url, fault), key=gravity.index)
    return found


@dataclass(frozen=True, slots=True)
class Pause:
    """How long a fault puts aside: at first, and at most."""

    first: timedelta
    most: timedelta


@dataclass(frozen=True, slots=True)
class ChoiceLimits:
    """The numbers of the choice.

    Attributes:
        smoothing: the weight of the newest measurement in the running means.
        margin: the share by which a faster equal must be better.
        least_gain: seconds by which it must be better, too: on a LAN half a millisecond is no
            reason to move a whole site to one relay.
        wins: measurements in a row in which it must be.
        reference_bytes: what a transfer is reckoned as, to weigh first byte against throughput.
        explore_every: polls between two measurements of other equals, on average.
        failed: of one that cannot be reached or breaks off.
        stale: of one that serves an older timestamp than another source.
        false: of one that sent what does not verify.
        unsigned: candidates by SRV, and by mDNS (an attacker may answer with thousands).
        tracks: sources that are remembered.
    """

    smoothing: float = 0.3
    margin: float = 0.3
    least_gain: float = 0.02
    wins: int = 3
    reference_bytes: int = 1 * MIB
    explore_every: int = 10
    failed: Pause = Pause(timedelta(minutes=1), timedelta(hours=1))
    stale: Pause = Pause(timedelta(minutes=10), timedelta(hours=4))
    false: Pause = Pause(timedelta(hours=1), timedelta(hours=24))
    unsigned: int = 8
    tracks: int = 64

    def pause(self, fault: Fault) -> Pause:
        """Return how long a fault puts aside."""
        pause: Pause = getattr(self, fault.value)
        return pause


LIMITS: Final = ChoiceLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What a host remembers of one source.

    Attributes:
        url: of the source.
        first_byte: seconds from the request to the answer's header; a running mean.
        rate: bytes per second of bodies that are long enough to tell; a running mean.
        measured: when last.
        wins: measurements in a row in which it was better than the leader.
        failures: faults in a row.
        fault: the last of them; None after a success.
        aside_until: not asked before, where others are left.
    """

    url: str
    first_byte: float | None = None
    rate: float | None = None
    measured: datetime | None = None
    wins: int = 0
    failures: int = 0
    fault: Fault | None = None
    aside_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a host remembers of its sources between polls.

    Attributes:
        tracks: one for each source that was asked.
        leader: the URL that leads its equals; empty before one was faster than the first.
        without_relay_since: when polls began to find no relay that serves.
        direct_in: polls until one also asks an origin; None before the first is drawn.
        explore_in: polls until another equal is measured.
    """

    tracks: tuple[Track, ...] = ()
    leader: str = ""
    without_relay_since: datetime | None = None
    direct_in: int | None = None
    explore_in: int = LIMITS.explore_every

    def track(self, url: str) -> Track:
        """Return what is remembered of a source."""
        return next((track for track in self.tracks if track.url == url), Track(url=url))

    def having(self, track: Track) -> "Memory":
        """Return the memory with this track in place of the source's old one."""
        others = [other for other in self.tracks if other.url != track.url]
        return replace(self, tracks=(track, *others)[: LIMITS.tracks])


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator set.

    Attributes:
        origin_after: how long no relay must have served before an origin is asked.
        direct_share: the share of polls that also ask an origin.
        max_lag: how much older than an origin's a relay's timestamp may be.
    """

    origin_after: timedelta = timedelta(minutes=10)
    direct_share: float = 0.02
    max_lag: timedelta = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom one poll asks.

    Attributes:
        metadata: in this order, until one is fresh.
        blobs: in this order.
        direct: an origin that is asked as well, to find out a relay that freezes; or None.
        explored: the URL that is asked first only to be measured; or None.
    """

    metadata: tuple[Candidate, ...]
    blobs: tuple[Candidate, ...]
    direct: Candidate | None = None
    explored: str | None = None

    def tier_of(self, url: str) -> Tier | None:
        """Return how a source of the plan was found."""
        every = (*self.blobs, *([self.direct] if self.direct else []))
        return next((one.tier for one in every if one.url == url), None)


def plan(
    candidates: Iterable[Candidate], memory: Memory, host: str, now: datetime, rules: Rules
) -> Plan:
    """Return whom to ask at this poll.

    Args:
        candidates: all that are known, in any order.
        memory: what was measured.
        host: the host's id, by which equals are spread.
        now: the wall clock, which may be wrong: a pause longer than any is no pause.
        rules: what the operator set.
    """
    known = _distinct(candidates)
    usable = [one for one in known if one.tier is not Tier.ORIGIN] or known
    if _is_origin_due(memory, now, rules):
        usable = known
    ready = [one for one in usable if not is_aside(memory.track(one.url), now)]
    ready.sort(key=lambda one: _rank(one, memory, host))
    aside = [one for one in usable if one not in ready]
    aside.sort(key=lambda one: (memory.track(one.url).aside_until or now, _rank(one, memory, host)))
    blobs = (*ready, *aside)
    direct = _direct(known, blobs, memory, now, rules)
    explored = _explored(ready, memory)
    first = [one for one in blobs if one.url == explored]
    return Plan((*first, *(one for one in blobs if one.url != explored)), blobs, direct, explored)


def is_aside(track: Track, now: datetime) -> bool:
    """Return whether a source is put aside; a clock that was set back does not keep it there."""
    if track.aside_until is None or track.fault is None:
        return False
    return now < track.aside_until <= now + LIMITS.pause(track.fault).most


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return each URL once, as its best tier has it; unsigned finds cut, each tier for itself."""
    every = sorted(candidates, key=lambda one: (one.tier, one.group))
    origins = {one.url for one in every if one.is_origin}
    found: dict[str, Candidate] = {}
    counts = dict.fromkeys(Tier, 0)
    for one in every:
        is_unsigned = one.tier in {Tier.SRV, Tier.MDNS}
        if one.url in found or (is_unsigned and counts[one.tier] >= LIMITS.unsigned):
            continue
        counts[one.tier] += 1
        found[one.url] = replace(one, is_origin=one.url in origins)
    return list(found.values())


def _is_origin_due(memory: Memory, now: datetime, rules: Rules) -> bool:
    since = memory.without_relay_since
    return since is not None and now - since >= rules.origin_after


def _rank(one: Candidate, memory: Memory, host: str) -> tuple[int, int, bool, float]:
    return one.tier, one.group, one.url != memory.leader, _draw(one, host)


def _draw(one: Candidate, host: str) -> float:
    """Return a host's place at a source, smallest first: weighted rendezvous hashing."""
    digest = hashlib.sha256(f"{host}\n{one.url}".encode()).digest()
    share = (int.from_bytes(digest[:8], "big") + 1) / 2**64
    return -math.log(share) / max(one.weight, 0.01)


def _direct(
    known: Sequence[Candidate],
    order: Sequence[Candidate],
    memory: Memory,
    now: datetime,
    rules: Rules,
) -> Candidate | None:
    if rules.direct_share <= 0 or memory.direct_in != 0 or not order or order[0].is_origin:
        return None
    able = (o for o in known if o.is_origin and not is_aside(memory.track(o.url), now))
    return next(able, None)


def _explored(ready: Sequence[Candidate], memory: Memory) -> str | None:
    """Return the equal of the first that is to be measured at this poll."""
    if not ready:
        return None
    first = (ready[0].tier, ready[0].group)
    equals = [memory.track(one.url) for one in ready[1:] if (one.tier, one.group) == first]
    winning = [track for track in equals if track.wins]
    if not equals or (memory.explore_in > 0 and not winning):
        return None
    latest = [(track.measured.timestamp() if track.measured else -1.0) for track in equals]
    return winning[0].url if winning else equals[latest.index(min(latest))].url


# -- what a poll taught ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Heard:
    """How one source did in one poll.

    Attributes:
        url: of the source.
        fault: what was wrong; None where it served.
        first_byte: seconds from the request to the answer's header, or None.
        rate: bytes per second of a long body, or None.
    """

    url: str
    fault: Fault | None = None
    first_byte: float | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Polled:
    """How a poll went.

    Attributes:
        heard: of each source that was asked.
        served: the URL whose timestamp was fresh, or None.
        draw: an unpredictable number in [0, 1), by which the next direct poll is drawn.
    """

    heard: tuple[Heard, ...]
    served: str | None
    draw: float = field(default=0.5)


def learn(memory: Memory, done: Plan, polled: Polled, now: datetime, rules: Rules) -> Memory:
    """Return the memory after a poll that followed the plan `done`."""
    for heard in polled.heard:
        memory = memory.having(_after(memory.track(heard.url), heard, now))
    if done.explored:
        memory = _contest(memory, _leader_of(done), done.explored, polled)
    relays = {one.url for one in done.blobs if not one.is_origin}
    since = memory.without_relay_since
    if polled.served in relays or not relays:
        since = None
    elif since is None or since > now:
        since = now
    return replace(
        memory,
        without_relay_since=since,
        direct_in=_next_direct(memory, done, polled.draw, rules),
        explore_in=LIMITS.explore_every if done.explored else max(memory.explore_in - 1, 0),
    )


def _after(track: Track, heard: Heard, now: datetime) -> Track:
    is_measured = heard.first_byte is not None or heard.rate is not None
    track = replace(
        track,
        first_byte=_mean(track.first_byte, heard.first_byte),
        rate=_mean(track.rate, heard.rate),
        measured=now if is_measured else track.measured,
    )
    if heard.fault is None:
        return replace(track, failures=0, fault=None, aside_until=None)
    pause, failures = LIMITS.pause(heard.fault), track.failures + 1
    aside = min(pause.first * 2 ** min(failures - 1, 16), pause.most)
    return replace(track, failures=failures, fault=heard.fault, aside_until=now + aside, wins=0)


def _mean(known: float | None, new: float | None) -> float | None:
    if known is None or new is None:
        return new if known is None else known
    return known + LIMITS.smoothing * (new - known)


def _leader_of(done: Plan) -> str:
    return next((one.url for one in done.blobs if one.url != done.explored), "")


def _contest(memory: Memory, leader: str, challenger: str, polled: Polled) -> Memory:
    track = memory.track(challenger)
    was_measured = any(one.url == challenger and one.first_byte is not None for one in polled.heard)
    if track.fault is not None or not was_measured:
        return memory
    if not is_better(track, memory.track(leader)):
        return memory.having(replace(track, wins=0))
    if track.wins + 1 < LIMITS.wins:
        return memory.having(replace(track, wins=track.wins + 1))
    settled = tuple(replace(each, wins=0) for each in memory.tracks)
    return replace(memory, tracks=settled, leader=challenger)


def is_better(one: Track, other: Track) -> bool:
    """Return whether `one` is faster than `other` by more than the margins."""
    if one.first_byte is None or other.first_byte is None:
        return False
    cost, known = one.first_byte, other.first_byte
    if one.rate and other.rate:
        cost += LIMITS.reference_bytes / one.rate
        known += LIMITS.reference_bytes / other.rate
    gain = known - cost
    return gain > known * LIMITS.margin and gain > LIMITS.least_gain


def _next_direct(memory: Memory, done: Plan, draw: float, rules: Rules) -> int | None:
    """Return the polls until the next direct one: uniform, so none foresees it, and bounded."""
    if rules.direct_share <= 0:
        return None
    if memory.direct_in is None or done.direct is not None:
        return int(draw * (2 * round(1 / rules.direct_share) - 1))
    return max(memory.direct_in - 1, 0)
