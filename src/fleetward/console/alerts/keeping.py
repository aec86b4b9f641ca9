"""Alerts kept as rows: a round of evaluation, and what people do with them."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.urls import reverse

from fleetward.console.alerts.deciding import Decision, Fact, Known, Rules, Telling, Verb, decide
from fleetward.console.alerts.gathering import gather
from fleetward.console.alerts.kinds import STEP, Kind
from fleetward.console.alerts.models import Alert, Step
from fleetward.console.audit.chain import Actor, record
from fleetward.console.notices.models import Level
from fleetward.console.notices.outbox import announce
from fleetward.console.pruning import prune
from fleetward.console.wiring import wired


def evaluate(now: datetime, facts: Iterable[Fact] | None = None, rules: Rules | None = None) -> int:
    """Do one round; return how many alerts were opened, opened again, or resolved.

    Args:
        now: the console's clock.
        facts: what is wrong; read from the database unless given.
        rules: the damper's numbers.
    """
    there = gather(now) if facts is None else list(facts)
    numbers = rules or Rules(settle=wired().settings.alerts.settle)
    with transaction.atomic():
        rows = _rows(now - numbers.window)
        known = {key: _known(row) for key, row in rows.items()}
        decisions = decide(there, known, now, numbers)
        for decision in decisions:
            _carry_out(decision, rows.get(decision.key), now)
    _prune(now)
    return sum(each.verb in {Verb.OPEN, Verb.REOPEN, Verb.RESOLVE} for each in decisions)


def _rows(since: datetime) -> dict[tuple[str, str], Alert]:
    """Return every open alert, and the newest that was resolved lately where none is open."""
    found: dict[tuple[str, str], Alert] = {}
    for row in Alert.objects.filter(is_open=False, resolved__gte=since).order_by("id"):
        found[(row.kind, row.subject)] = row
    for row in Alert.objects.filter(is_open=True):
        found[(row.kind, row.subject)] = row
    return found


def _known(row: Alert) -> Known:
    return Known(
        is_open=row.is_open,
        away=row.away,
        resolved=row.resolved,
        returns=row.returns,
        is_acknowledged=row.acknowledged is not None,
        told=row.told,
        told_hosts=row.told_hosts,
    )


def _carry_out(decision: Decision, row: Alert | None, now: datetime) -> None:
    fact = decision.fact
    if decision.verb is Verb.OPEN or row is None:
        row = Alert(kind=decision.key[0], subject=decision.key[1], opened=now)
    before = row.hosts
    if fact is not None:
        _take(row, fact, now)
    if decision.verb is Verb.REOPEN:
        row.is_open, row.resolved = True, None
        row.returns += 1
        row.acknowledged, row.acknowledged_by, row.note = None, "", ""
    elif decision.verb is Verb.AWAY:
        row.away = row.away or now
    elif decision.verb is Verb.RESOLVE:
        row.is_open, row.resolved = False, now
    if decision.telling is not Telling.NOT:
        row.told, row.told_hosts = now, row.hosts
    row.save()
    _write_step(row, decision, before, now)
    if decision.telling is not Telling.NOT:
        _tell(row, decision.telling)


def _take(row: Alert, fact: Fact, now: datetime) -> None:
    row.severity, row.site_id = fact.severity, fact.site
    row.title, row.detail, row.link = fact.title[:300], fact.detail, fact.link[:300]
    row.hosts, row.most_hosts = fact.hosts, max(row.most_hosts, fact.hosts)
    row.last_seen, row.away = now, None


def _write_step(row: Alert, decision: Decision, before: int, now: datetime) -> None:
    words = ""
    if decision.verb in {Verb.SEEN, Verb.AWAY}:
        if decision.telling is Telling.NOT:
            return
        what = "grew" if decision.telling is Telling.GREW else "told again"
        words = f"from {before:,} to {row.hosts:,} hosts" if what == "grew" else ""
    else:
        what = decision.verb.value
        words = row.title if decision.verb is not Verb.RESOLVE else ""
    Step.objects.create(alert=row, at=now, what=what, words=words[:300])


_WORDS: Final = {
    Telling.BACK: "Back: ",
    Telling.GREW: "Growing: ",
    Telling.AGAIN: "Still: ",
    Telling.OVER: "Resolved: ",
}


def _tell(row: Alert, telling: Telling) -> None:
    """Announce an alert; the key differs by why, so that the notices' damper keeps no news back."""
    step = "" if telling is Telling.OVER else STEP[Kind(row.kind)]
    announce(
        Level(row.severity),
        f"{row.kind}:{row.subject}:{telling.value}",
        f"{_WORDS.get(telling, '')}{row.title}",
        body="\n\n".join(part for part in (row.detail, step) if part),
        link=reverse("alerts:alert", args=[row.pk]),
    )


def _prune(now: datetime) -> None:
    kept = timedelta(days=wired().settings.history.alerts)
    prune(Alert.objects.filter(is_open=False, resolved__lt=now - kept).order_by("resolved"))


# -- people ------------------------------------------------------------------------------------------


def acknowledge(actor: Actor, row: Alert, note: str = "") -> bool:
    """Take an alert on, for everybody to see; return whether that was new.

    Args:
        actor: who.
        row: the alert; nothing happens to one that is resolved or was taken on.
        note: what they say, at most 300 characters.
    """
    now = wired().clock.now()
    with transaction.atomic():
        mine = Alert.objects.filter(pk=row.pk, is_open=True, acknowledged=None)
        if not mine.update(acknowledged=now, acknowledged_by=actor.name, note=note[:300]):
            return False
        Step.objects.create(alert=row, at=now, what="acknowledged", by=actor.name, words=note[:300])
        after: dict[str, object] = {"acknowledged": True, "note": note[:300]}
        record(actor, "alerts.work", f"alert:{row.pk} {row.kind} {row.subject}", after=after)
    return True


def hand_back(actor: Actor, row: Alert) -> bool:
    """Undo an acknowledgement, so that people are told again; return whether there was one."""
    now = wired().clock.now()
    with transaction.atomic():
        theirs = Alert.objects.filter(pk=row.pk, is_open=True, acknowledged__isnull=False)
        if not theirs.update(acknowledged=None, acknowledged_by="", note=""):
            return False
        Step.objects.create(alert=row, at=now, what="handed back", by=actor.name)
        before: dict[str, object] = {"acknowledged_by": row.acknowledged_by}
        subject = f"alert:{row.pk} {row.kind} {row.subject}"
        record(actor, "alerts.work", subject, before=before, after={"acknowledged": False})
    return True
