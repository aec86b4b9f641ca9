"""What changed among listeners since the last look: opened, closed, changed; without noise.

A listener is known by its identity (protocol, port, who can reach it, executable, unit), never by a
PID: a service that restarts is the same. The first look makes the baseline.

    what was known     what is seen now          then                               told
    nothing            it                        open                               opened
    open               it                        open                               nothing
    open               it, another verdict       open                               changed
    open               not it                    closing                            nothing
    closing            it                        open                               nothing
    closing            another at its slot       the other is open                  changed
    closing            not it, for `settle`      forgotten                          closed

So an opening is told at once, since one that lasts seconds may matter most, and a restart is told
never. The damper: after `burst` observations within `window` the rest is counted and told as one
line when the window has passed.

Unexpected are those whose verdict is suspicious, and those that are neither in the baseline nor
judged expected.

Deliberately not here: when to look, and where what is told goes (agent.portwatch).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from fleetward.core.listeners import Listener, Reach, Transport
from fleetward.core.portrules import Verdict
from fleetward.core.ports import Judged


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """What a watch tells, at most.

    Attributes:
        settle: how long a listener must be gone before it is told as closed.
        burst: observations within `window`; a program that opens ports without end would bury
            what matters.
        window: of the damper.
        known: listeners that are remembered; the rest is counted.
    """

    settle: timedelta = timedelta(seconds=60)
    burst: int = 20
    window: timedelta = timedelta(hours=1)
    known: int = 5_000


LIMITS: Final = WatchLimits()


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """What a listener is, whichever PID it has today.

    Attributes:
        protocol: tcp or udp.
        port: the port.
        reach: who can reach it.
        executable: sha256 of the executable, or its path where it has no digest; empty for
            unknown.
        unit: systemd unit; empty for none.
        elsewhere: the container, or `namespace`, where it is not in the host's network.
    """

    protocol: Transport
    port: int
    reach: Reach
    executable: str = ""
    unit: str = ""
    elsewhere: str = ""

    @property
    def slot(self) -> tuple[str, int, str, str]:
        """Where it listens: what a changed program keeps."""
        return self.protocol, self.port, self.reach, self.elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A listener that the watch remembers.

    Attributes:
        identity: what it is.
        verdict: what was thought of it last.
        reasons: ids of the reasons that decided.
        name: of the program, for people.
        path: of the executable, or of an interpreter's script.
        is_baseline: whether it was there at the first look, or an operator has agreed to it.
        absent_since: when it was missed first; None while it is there.
    """

    identity: Identity
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    name: str = ""
    path: str = ""
    is_baseline: bool = False
    absent_since: datetime | None = None


class Change(StrEnum):
    """What became of a listener."""

    OPENED = "opened"
    CLOSED = "closed"
    CHANGED = "changed"
    MUTED = "muted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One change.

    Attributes:
        change: what.
        now: the listener as it is now; of a closed one, as it was. None for `muted`.
        before: of a changed one, as it was.
        muted: how many observations were not told, for `muted`.
    """

    change: Change
    now: Known | None = None
    before: Known | None = None
    muted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """All that a watch remembers from look to look.

    Attributes:
        known: listeners, by identity.
        told: when observations were told, within the damper's window.
        muted: observations that were not.
        has_baseline: whether there was a first look.
    """

    known: tuple[Known, ...] = ()
    told: tuple[datetime, ...] = ()
    muted: int = 0
    has_baseline: bool = False

    @property
    def unexpected(self) -> int:
        """How many listeners nobody has agreed to."""
        return sum(not is_agreed(one) for one in self.known)


def is_agreed(one: Known) -> bool:
    """Return whether a listener is one that people know of."""
    if one.verdict is Verdict.SUSPICIOUS:
        return False
    return one.is_baseline or one.verdict is Verdict.EXPECTED


def identity_of(listener: Listener) -> Identity:
    """Return what a listener is."""
    owner = listener.principal
    file = owner.executable if owner else None
    container = listener.container or (owner.container if owner else "")
    return Identity(
        protocol=listener.socket.protocol,
        port=listener.socket.port,
        reach=listener.reach,
        executable=(file.sha256 or file.path) if file else "",
        unit=listener.unit or (owner.unit if owner else ""),
        elsewhere="" if listener.in_own_namespace else container or "namespace",
    )


def known_of(judged: Judged) -> Known:
    """Return what is remembered of a listener."""
    owner = judged.listener.principal
    file = owner.executable if owner else None
    script = owner.script if owner else None
    return Known(
        identity=identity_of(judged.listener),
        verdict=judged.verdict,
        reasons=judged.ids,
        name=owner.name if owner else "",
        path=(script.name if script and script.name else file.path) if file else "",
    )


def observe(
    watched: Watched, seen: Iterable[Judged], now: datetime, limits: WatchLimits = LIMITS
) -> tuple[Watched, tuple[Observation, ...]]:
    """Return what is remembered now, and what is to be told.

    Args:
        watched: what the last look left.
        seen: all listeners that are watched, as they are.
        now: the wall clock; one that was set back only delays.
        limits: of the watch.
    """
    look = _Look(watched, _distinct(seen, limits), now, limits)
    observations = look.observations()
    return _damped(look.remembered(), observations, now, limits)


def _distinct(seen: Iterable[Judged], limits: WatchLimits) -> dict[Identity, Known]:
    """Return one for each identity, with the worst verdict among its sockets."""
    found: dict[Identity, Known] = {}
    for one in map(known_of, seen):
        before = found.get(one.identity)
        if before is None and len(found) >= limits.known:
            continue
        if before is None or _BADNESS[one.verdict] > _BADNESS[before.verdict]:
            found[one.identity] = one
    return found


_BADNESS: Final = {Verdict.EXPECTED: 0, Verdict.UNKNOWN: 1, Verdict.SUSPICIOUS: 2}


@dataclass(slots=True)
class _Look:
    """One look, against the one before."""

    watched: Watched
    seen: dict[Identity, Known]
    now: datetime
    limits: WatchLimits
    _gone: list[Known] = field(default_factory=list)
    _superseded: set[Identity] = field(default_factory=set)

    def observations(self) -> list[Observation]:
        before = {one.identity: one for one in self.watched.known}
        self._gone = [one for one in self.watched.known if one.identity not in self.seen]
        told = [*self._appeared(before), *self._judged_anew(before)]
        return [*told, *self._closed()]

    def remembered(self) -> Watched:
        before = {one.identity: one for one in self.watched.known}
        present = [self._with_past(one, before.get(one.identity)) for one in self.seen.values()]
        closing = [
            replace(one, absent_since=one.absent_since or self.now)
            for one in self._gone
            if one.identity not in self._superseded and not self._is_over(one)
        ]
        known = tuple(sorted((*present, *closing), key=lambda one: one.identity))
        return replace(self.watched, known=known, has_baseline=True)

    def _with_past(self, one: Known, before: Known | None) -> Known:
        is_first = not self.watched.has_baseline
        return replace(one, is_baseline=before.is_baseline if before else is_first)

    def _appeared(self, before: dict[Identity, Known]) -> Iterator[Observation]:
        for one in self.seen.values():
            if one.identity in before:
                continue
            past = next((g for g in self._gone if self._was_at(g, one)), None)
            if past is None:
                yield Observation(change=Change.OPENED, now=one)
            else:
                self._superseded.add(past.identity)
                yield Observation(change=Change.CHANGED, now=one, before=past)

    def _was_at(self, past: Known, one: Known) -> bool:
        is_free = past.identity not in self._superseded
        return is_free and past.identity.slot == one.identity.slot

    def _judged_anew(self, before: dict[Identity, Known]) -> Iterator[Observation]:
        for one in self.seen.values():
            past = before.get(one.identity)
            if past is not None and past.verdict is not one.verdict:
                yield Observation(change=Change.CHANGED, now=one, before=past)

    def _closed(self) -> Iterator[Observation]:
        for one in self._gone:
            if one.identity not in self._superseded and self._is_over(one):
                yield Observation(change=Change.CLOSED, now=one)

    def _is_over(self, one: Known) -> bool:
        return one.absent_since is not None and self.now - one.absent_since >= self.limits.settle


def _damped(
    watched: Watched, observations: Sequence[Observation], now: datetime, limits: WatchLimits
) -> tuple[Watched, tuple[Observation, ...]]:
    """Tell at most `burst` within `window`, suspicious ones first; count the rest."""
    recent = [at for at in watched.told if timedelta() <= now - at < limits.window]
    muted = watched.muted
    told: list[Observation] = []
    if muted and len(recent) < limits.burst:
        told.append(Observation(change=Change.MUTED, muted=muted))
        muted = 0
    room = max(0, limits.burst - len(recent) - len(told))
    ranked = sorted(observations, key=_urgency)
    told += ranked[:room]
    muted += len(ranked) - len(ranked[:room])
    recent += [now] * len(told)
    return replace(watched, told=tuple(recent), muted=muted), tuple(told)


def _urgency(observation: Observation) -> int:
    return -_BADNESS[observation.now.verdict] if observation.now else 0


def relearned(watched: Watched) -> Watched:
    """Return a watch whose baseline is what is there now: an operator has agreed to it."""
    return replace(watched, known=tuple(replace(one, is_baseline=True) for one in watched.known))
