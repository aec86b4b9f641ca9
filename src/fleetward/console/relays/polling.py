"""Asking every relay once a round, and keeping what it did since the last one.

A round: rows of the relays that the settings name; each relay asked for its status and for the
timestamp that it serves, a few at a time, each within a deadline and a number of bytes; then one
transaction per relay. What relays answer is read by `reading`; nothing else of it is kept.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from django.apps import apps
from django.db import transaction
from django.db.models import Case, Count, F, Max, Q, When

from fleetward.adapters.clock import Clock
from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.config.console import RelaysSettings
from fleetward.console.fleet.models import Presence
from fleetward.console.fleet.standings import HostStanding
from fleetward.console.pruning import prune_all
from fleetward.console.relays.judging import FROZEN_AFTER, lag_of
from fleetward.console.relays.listing import take_settings
from fleetward.console.relays.models import HOUR, MINUTE, Listed, Relay, Sample
from fleetward.console.relays.reading import (
    Counters,
    Reading,
    counters_of,
    read_status,
    stored,
)
from fleetward.console.wiring import wired
from fleetward.core.limits import KIB, MetadataLimits
from fleetward.errors import FleetwardError
from fleetward.wire.hints import read_timestamp

AT_ONCE: Final = 8
"""Relays that are asked at the same time."""

MAX_STATUS: Final = 256 * KIB
"""Bytes of a relay's answer, at most (endless data)."""

DEADLINE: Final = timedelta(seconds=10)
"""How long an answer may take (slow retrieval)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of asking a relay.

    Attributes:
        reading: what it said; None where it did not answer.
        version: of the timestamp that it serves; 0 where that could not be read.
        problem: why something of it failed; empty: nothing did.
    """

    reading: Reading | None
    version: int
    problem: str = ""


class Asking(Protocol):
    """What asks a relay; never raises for the relay."""

    def __call__(self, url: str) -> Answer:
        """Return what became of asking the relay at `url`."""
        ...


class AskByHttp:
    """Asks over HTTP."""

    def __init__(self, clock: Clock, settings: RelaysSettings) -> None:
        self._session = HttpSession(
            clock, HttpSettings(user_agent="fleetward-console", ca_bundle=settings.ca_bundle)
        )

    def __call__(self, url: str) -> Answer:
        """Return what became of asking the relay at `url`."""
        try:
            reading = read_status(self._fetch(f"{url}/v1/relay", MAX_STATUS))
        except FleetwardError as error:
            return Answer(None, 0, str(error))
        try:
            most = MetadataLimits().timestamp_bytes
            stamp = read_timestamp(self._fetch(f"{url}/metadata/timestamp.json", most))
        except FleetwardError as error:
            return Answer(reading, reading.said.closure, f"its timestamp: {error}")
        return Answer(reading, stamp.version)

    def _fetch(self, url: str, most: int) -> bytes:
        with self._session.get(url, max_bytes=most, deadline=DEADLINE) as answer:
            return answer.read()

    def close(self) -> None:
        """Close the kept connections."""
        self._session.close()


def poll(ask: Asking, settings: RelaysSettings, now: datetime) -> int:
    """Do one round; return how many relays were asked."""
    take_settings(settings.known, now)
    rows = list(Relay.objects.exclude(listed=Listed.NOBODY))
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="relays") as pool:
        answers = list(pool.map(lambda row: ask(row.url), rows))
    newest = max([answer.version for answer in answers] + [verified_version()])
    for row, answer in zip(rows, answers, strict=True):
        take_answer(row, answer, newest, now)
    count_hosts(rows, newest)
    prune(now)
    return len(rows)


def verified_version() -> int:
    """Return the version of the newest timestamp that this console has verified; 0 for none.

    By its model's name, since the catalogue builds on this part.
    """
    repositories = apps.get_model("catalogue", "Repository")._default_manager  # noqa: SLF001 (Django's name for it)
    return int(repositories.aggregate(newest=Max("timestamp"))["newest"] or 0)


def newest_version() -> int:
    """Return the newest version that the console has verified or any listed relay serves."""
    listed = Relay.objects.exclude(listed=Listed.NOBODY)
    served = listed.aggregate(newest=Max("version"))["newest"] or 0
    return max(served, verified_version())


def take_answer(row: Relay, answer: Answer, newest: int, now: datetime) -> None:
    """Write what became of asking a relay.

    Args:
        row: the relay.
        answer: what became of it.
        newest: the newest version of the timestamp that is known.
        now: when.
    """
    before = counters_of(row.counters) if row.counters else None
    done = Counters()
    row.polled = now
    _set_problem(row, answer.problem, now)
    if answer.reading is not None:
        row.answered = now
        row.counters, row.said = stored(answer.reading.counters), stored(answer.reading.said)
        # The first answer tells what was counted since the relay started, which was when?
        done = answer.reading.counters.since(before) if before is not None else done
    if answer.version and answer.version != row.version:
        row.version, row.version_since = answer.version, now
    with transaction.atomic():
        row.save()
        for span in (MINUTE, HOUR):
            _add(row, span, answer, done, newest, now)


def _set_problem(row: Relay, problem: str, now: datetime) -> None:
    if not problem:
        row.problem_since = None
    elif not row.problem:
        row.problem_since = now
    row.problem = problem[:300]


def _add(  # noqa: PLR0917 (a row's columns)
    row: Relay, span: int, answer: Answer, done: Counters, newest: int, now: datetime
) -> None:
    at = datetime.fromtimestamp(now.timestamp() // span * span, now.tzinfo)
    sample, _ = Sample.objects.get_or_create(relay=row, span=span, at=at)
    sample.asked += 1
    sample.answered += answer.reading is not None
    for name in ("hits", "misses", "upstream_bytes", "delivered_bytes", "overloaded"):
        setattr(sample, name, getattr(sample, name) + getattr(done, name))
    if answer.reading is not None:
        sample.spool_bytes = max(sample.spool_bytes, answer.reading.said.spool_bytes)
    sample.lag = max(sample.lag, lag_of(row.version, newest))
    sample.save()


def count_hosts(rows: Iterable[Relay], newest: int) -> None:
    """Count the hosts that each relay served last, and those of them that stand behind.

    Args:
        rows: the relays.
        newest: the newest version of the timestamp that is known.
    """
    reporting = Presence.objects.filter(key__reports_for__standing=HostStanding.ACTIVE)
    is_behind = Q(tuf_timestamp__gt=0, tuf_timestamp__lt=newest - FROZEN_AFTER)
    counted = (
        reporting.exclude(relay="")
        .values("relay")
        .annotate(hosts=Count("pk"), behind=Count(Case(When(is_behind, then=F("pk")))))
    )
    found = {each["relay"]: (each["hosts"], each["behind"]) for each in counted}
    for row in rows:
        hosts, behind = found.get(row.name, (0, 0))
        if (row.hosts, row.hosts_behind) != (hosts, behind):
            Relay.objects.filter(pk=row.pk).update(hosts=hosts, hosts_behind=behind)


def prune(now: datetime) -> None:
    """Remove samples that are older than their span is kept."""
    history = wired().settings.history
    for span, days in ((MINUTE, history.relay_minutes), (HOUR, history.relay_hours)):
        old = Sample.objects.filter(span=span, at__lt=now - timedelta(days=days)).order_by("at")
        prune_all(old)
