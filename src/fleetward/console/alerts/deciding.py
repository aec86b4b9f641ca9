"""What becomes of alerts when facts come and go: pure.

Invariants:

- One alert per kind and subject is open at a time; a fact about a thousand hosts is one fact.
- An alert resolves only once its fact has been away for `settle`; one that comes back within
  `window` is the same alert again, opened once more, and not a new one.
- Whoever flaps (came back `flaps` times) must be away for `calm`, and is not told of each time.
- People are told when one opens, when it has doubled, when it is resolved, and every `again` while
  nobody has acknowledged it; never more often.

                     fact there                          fact away
    (none)           open                                (nothing)
    open             seen (grew where it doubled)        away; after settle or calm: resolve
    resolved         reopen within window, else open     (nothing)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.console.alerts.kinds import SEVERITY, Kind, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The damper's numbers.

    Attributes:
        settle: how long a fact must be away before its alert resolves (a check-in that came late).
        window: how long a resolved alert may be opened again (an alert per flap).
        flaps: how often it may come back before it counts as flapping.
        calm: how long a flapping one must be away.
        again: an alert that nobody has acknowledged is told of again after so long.
    """

    settle: timedelta = timedelta(minutes=10)
    window: timedelta = timedelta(hours=24)
    flaps: int = 3
    calm: timedelta = timedelta(hours=1)
    again: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that is wrong now.

    Attributes:
        kind: what.
        subject: with what, as `site:berlin`, `relay:10.0.0.1:2967`, `role:timestamp`.
        title: one line for people.
        detail: more, as names of the first hosts.
        site: the key of the site's row; None for what concerns the whole organisation.
        hosts: how many hosts it concerns; 0 where none.
        link: a path of the console where one sees more.
    """

    kind: Kind
    subject: str
    title: str
    detail: str = ""
    site: int | None = None
    hosts: int = 0
    link: str = ""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return SEVERITY[self.kind]

    @property
    def key(self) -> tuple[str, str]:
        """What makes two facts the same thing."""
        return (self.kind.value, self.subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An alert as it stood before.

    Attributes:
        is_open: or resolved.
        away: since when its fact is away; None while it is there.
        resolved: when it was.
        returns: how often it came back.
        is_acknowledged: whether somebody works on it.
        told: when people were last told.
        told_hosts: how many hosts it concerned then.
    """

    is_open: bool
    away: datetime | None = None
    resolved: datetime | None = None
    returns: int = 0
    is_acknowledged: bool = False
    told: datetime | None = None
    told_hosts: int = 0


class Verb(StrEnum):
    """What becomes of an alert."""

    OPEN = "opened"
    REOPEN = "reopened"
    SEEN = "seen"
    AWAY = "away"
    RESOLVE = "resolved"


class Telling(StrEnum):
    """Why people are told, or that they are not."""

    NOT = ""
    NEW = "new"
    BACK = "back"
    GREW = "grew"
    AGAIN = "again"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one alert.

    Attributes:
        key: its kind and subject.
        verb: what.
        fact: as it is now; None where it is away.
        telling: whether people are told, and why.
    """

    key: tuple[str, str]
    verb: Verb
    fact: Fact | None
    telling: Telling


def decide(
    facts: Iterable[Fact],
    known: Mapping[tuple[str, str], Known],
    now: datetime,
    rules: Rules | None = None,
) -> list[Decision]:
    """Return what becomes of every alert.

    Args:
        facts: what is wrong now; of two with one key the one with more hosts counts.
        known: by kind and subject, each open alert, and the newest resolved one where none is open.
        now: the console's clock.
        rules: the damper's numbers.
    """
    numbers = rules or Rules()
    there: dict[tuple[str, str], Fact] = {}
    for fact in facts:
        if fact.key not in there or fact.hosts > there[fact.key].hosts:
            there[fact.key] = fact
    decisions = [_there(fact, known.get(key), now, numbers) for key, fact in there.items()]
    for key, before in known.items():
        if key not in there and before.is_open:
            decisions.append(_away(key, before, now, numbers))
    return decisions


def _there(fact: Fact, before: Known | None, now: datetime, rules: Rules) -> Decision:
    if before is not None and before.is_open:
        return Decision(fact.key, Verb.SEEN, fact, _telling(fact, before, now, rules))
    is_back = (
        before is not None and before.resolved is not None and now - before.resolved <= rules.window
    )
    if before is None or not is_back:
        return Decision(fact.key, Verb.OPEN, fact, Telling.NEW)
    is_flapping = before.returns + 1 >= rules.flaps
    return Decision(fact.key, Verb.REOPEN, fact, Telling.NOT if is_flapping else Telling.BACK)


def _telling(fact: Fact, before: Known, now: datetime, rules: Rules) -> Telling:
    has_doubled = fact.hosts >= 2 * max(before.told_hosts, 1) and before.told_hosts > 0
    if has_doubled and not before.is_acknowledged:
        return Telling.GREW
    is_due = before.told is None or now - before.told >= rules.again
    if is_due and not before.is_acknowledged and fact.severity > Severity.INFO:
        return Telling.AGAIN
    return Telling.NOT


def _away(key: tuple[str, str], before: Known, now: datetime, rules: Rules) -> Decision:
    is_flapping = before.returns >= rules.flaps
    wait = rules.calm if is_flapping else rules.settle
    if before.away is None or now - before.away < wait:
        return Decision(key, Verb.AWAY, None, Telling.NOT)
    return Decision(key, Verb.RESOLVE, None, Telling.OVER)
