"""The chain: how a row is digested, appended and verified."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC

from django.db import connection, transaction

from fleetward.console.audit.models import FIRST_PREVIOUS, Entry
from fleetward.console.wiring import wired

_APPENDING = 2967_0001
"""The advisory lock under which PostgreSQL appends, one transaction at a time."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    Attributes:
        kind: user, token, host or system.
        name: the user's name; `user/token-prefix` for a token; a host's id.
        address: where from; empty for the command line.
    """

    kind: str
    name: str
    address: str = ""


SYSTEM = Actor("system", "console")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody does.

    Attributes:
        actor: who acts.
        action: what, as in `permissions.ACTIONS`.
        subject: on what, as `kind:name`.
        before: what changed, as it was: values that JSON has; no secrets.
        after: the same, as it is now.
    """

    actor: Actor
    action: str
    subject: str
    before: dict[str, object] | None = None
    after: dict[str, object] | None = None


def record(
    actor: Actor,
    action: str,
    subject: str,
    *,
    before: dict[str, object] | None = None,
    after: dict[str, object] | None = None,
) -> Entry:
    """Append to the log; inside the transaction of the change itself, so that both hold or neither.

    Args: as the attributes of `Act`.
    """
    act = Act(actor=actor, action=action, subject=subject, before=before, after=after)
    return record_all([act])[0]


def record_all(acts: Sequence[Act]) -> list[Entry]:
    """Append several rows to the log, in their order, as `record` appends one."""
    with transaction.atomic():
        _take_turn()
        last = Entry.objects.order_by("-seq").first()
        entries: list[Entry] = []
        for act in acts:
            last = _next(last, act)
            entries.append(last)
        return Entry.objects.bulk_create(entries)


def _next(last: Entry | None, act: Act) -> Entry:
    entry = Entry(
        seq=last.seq + 1 if last else 1,
        at=wired().clock.now(),
        actor_kind=act.actor.kind,
        actor=act.actor.name[:200],
        address=act.actor.address[:64],
        action=act.action,
        subject=act.subject[:300],
        before=_canonical(act.before),
        after=_canonical(act.after),
        previous=last.digest if last else FIRST_PREVIOUS,
    )
    entry.digest = digest_of(entry)
    return entry


def _take_turn() -> None:
    # SQLite's transactions are IMMEDIATE: there, only one process is here at a time anyway.
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_APPENDING])


def _canonical(values: dict[str, object] | None) -> str:
    if values is None:
        return ""
    text = json.dumps(
        values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str
    )
    # PostgreSQL's text holds no NUL; JSON's own escape of it is six harmless characters.
    return text.replace("\x00", "\\u0000")


def digest_of(entry: Entry) -> str:
    """Return sha256, in hex, of the JSON list of all columns but the digest."""
    columns = [
        entry.seq,
        entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        entry.actor_kind,
        entry.actor,
        entry.address,
        entry.action,
        entry.subject,
        entry.before,
        entry.after,
        entry.previous,
    ]
    text = json.dumps(columns, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying found.

    Attributes:
        entries: how many rows hold, from the first on.
        head: the digest of the last of them.
        broken: what is wrong with the first row that does not hold; empty where all do.
    """

    entries: int
    head: str
    broken: str = ""


def verify_chain(entries: Iterable[Entry], kept: tuple[int, str] | None = None) -> Verdict:
    """Walk the log from its first row to the first broken link.

    Args:
        entries: the rows, by ascending `seq`.
        kept: number and digest of a row that were noted elsewhere; the log must contain it.
    """
    count, head = 0, FIRST_PREVIOUS
    for entry in entries:
        wrong = _wrong_with(entry, count, head, kept)
        if wrong:
            return Verdict(count, head, wrong)
        count, head = entry.seq, entry.digest
    if kept and kept[0] > count:
        return Verdict(count, head, f"entry {kept[0]} is gone: the log ends at {count}")
    return Verdict(count, head)


def _wrong_with(entry: Entry, count: int, head: str, kept: tuple[int, str] | None) -> str:
    if entry.seq != count + 1:
        return f"entry {count + 1} is missing: the next one is {entry.seq}"
    if entry.previous != head:
        return f"entry {entry.seq} does not continue entry {count}"
    if digest_of(entry) != entry.digest:
        return f"entry {entry.seq} was altered"
    if kept and kept[0] == entry.seq and kept[1] != entry.digest:
        return f"entry {entry.seq} is not the one that was noted: the log was written anew"
    return ""


def verify_log(kept: tuple[int, str] | None = None) -> Verdict:
    """Verify the whole log in the database, a thousand rows at a time."""
    return verify_chain(Entry.objects.order_by("seq").iterator(chunk_size=1000), kept)
