"""The audit log: append-only, chained, and what verifying finds."""

import json
from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connection, transaction

from fleetward.console.audit.chain import (
    SYSTEM,
    Actor,
    digest_of,
    record,
    verify_chain,
    verify_log,
)
from fleetward.console.audit.models import FIRST_PREVIOUS, Entry

pytestmark = pytest.mark.django_db

ADA = Actor("user", "ada", "192.0.2.7")


@pytest.fixture
def log() -> list[Entry]:
    for number in range(5):
        record(ADA, "sites.manage", f"site:s{number}", after={"title": f"Site {number}"})
    return list(Entry.objects.order_by("seq"))


def test_an_entry_says_who_what_before_after_and_from_where() -> None:
    entry = record(
        ADA, "users.manage", "user:bob", before={"active": True}, after={"active": False}
    )
    kept = Entry.objects.get(seq=entry.seq)
    assert (kept.actor_kind, kept.actor, kept.address) == ("user", "ada", "192.0.2.7")
    assert json.loads(kept.before) == {"active": True}
    assert json.loads(kept.after) == {"active": False}
    assert kept.digest == digest_of(kept)


def test_entries_count_from_one_and_each_names_the_one_before(log: list[Entry]) -> None:
    assert [entry.seq for entry in log] == [1, 2, 3, 4, 5]
    assert log[0].previous == FIRST_PREVIOUS
    assert [entry.previous for entry in log[1:]] == [entry.digest for entry in log[:-1]]
    assert verify_log().entries == 5
    assert not verify_log().broken


def test_an_empty_log_holds() -> None:
    assert verify_log() == verify_chain(iter(()))
    assert not verify_log().broken


def test_a_change_that_fails_leaves_no_entry() -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        record(SYSTEM, "sites.manage", "site:x")
        raise RuntimeError("the change failed")
    assert not Entry.objects.exists()


def test_strange_text_is_kept_and_still_verifies() -> None:
    record(ADA, "sites.manage", "site:x", after={"title": 'a\x00b "c" \N{SNOWMAN} \\u0000'})
    record(ADA, "sites.manage", "s" * 1000)
    assert not verify_log().broken


STATEMENTS = (
    "UPDATE audit_entry SET actor = 'mallory'",
    "UPDATE audit_entry SET seq = seq + 100",
    "DELETE FROM audit_entry",
    "DELETE FROM audit_entry WHERE seq = 3",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_database_refuses_to_change_or_remove_entries(log: list[Entry], statement: str) -> None:
    """Somebody speaks SQL to the database through an injection; the log stays as it is."""
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert verify_log().entries == len(log)
    assert not verify_log().broken


ONE_DATABASE = {
    "sqlite": "REPLACE INTO audit_entry SELECT * FROM audit_entry WHERE seq = 3",
    "postgresql": "TRUNCATE audit_entry",
}


def test_nor_by_what_only_one_of_the_databases_has(log: list[Entry]) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ONE_DATABASE[connection.vendor])
    assert verify_log().entries == len(log)


# -- who edits the file past the database breaks the chain --------------------------------------------


def without(entries: list[Entry], seq: int) -> Iterator[Entry]:
    return (entry for entry in entries if entry.seq != seq)


@pytest.mark.parametrize(
    "column", ["actor", "actor_kind", "address", "action", "subject", "before", "after"]
)
def test_an_altered_column_is_found_at_its_entry(log: list[Entry], column: str) -> None:
    setattr(log[2], column, "something else")
    verdict = verify_chain(log)
    assert verdict.broken == "entry 3 was altered"
    assert verdict.entries == 2


def test_an_entry_whose_digest_was_made_anew_breaks_the_next_link(log: list[Entry]) -> None:
    """The attacker alters an entry and computes its digest, as anybody can."""
    log[2].actor = "nobody"
    log[2].digest = digest_of(log[2])
    assert verify_chain(log).broken == "entry 4 does not continue entry 3"


def test_a_removed_entry_is_found(log: list[Entry]) -> None:
    assert "entry 3 is missing" in verify_chain(without(log, 3)).broken
    assert "entry 1 is missing" in verify_chain(without(log, 1)).broken


def test_a_cut_off_end_is_found_by_a_head_that_was_kept_elsewhere(log: list[Entry]) -> None:
    head = (5, log[4].digest)
    assert not verify_chain(log, head).broken
    assert not verify_chain(log[:4]).broken, "no chain shows that its end is gone"
    assert "entry 5 is gone" in verify_chain(log[:4], head).broken


def test_a_log_written_anew_is_found_by_a_head_that_was_kept_elsewhere(log: list[Entry]) -> None:
    head = (3, log[2].digest)
    previous = FIRST_PREVIOUS
    for entry in log:
        entry.actor = "nobody"
        entry.previous = previous
        entry.digest = previous = digest_of(entry)
    assert not verify_chain(log).broken, "it is a chain like any other"
    assert "entry 3 is not the one that was noted" in verify_chain(log, head).broken


def test_a_head_is_met_however_much_came_since(log: list[Entry]) -> None:
    for seq in range(1, 6):
        assert not verify_chain(log, (seq, log[seq - 1].digest)).broken
