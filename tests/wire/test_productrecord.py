"""Which of a host's trees software without an agent may be given."""

from datetime import UTC, datetime

import pytest

from fleetward.agent.records import HeldBack, Installed, Record
from fleetward.core.digest import Sha256, sha256_of
from fleetward.core.install import State
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.errors import DocumentError
from fleetward.wire.documents import encode_json
from fleetward.wire.productrecord import SCHEMA, InstalledTree, ProductRecord, decode_product_record

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def digest(name: str) -> Sha256:
    return sha256_of(name.encode())


def tree(name: str, seq: int) -> InstalledTree:
    return InstalledTree(release=name, seq=seq, tree=digest(name), slot=digest(name)[:16])


def installed(name: str, seq: int) -> Installed:
    found = tree(name, seq)
    return Installed(
        release=ReleaseName(name),
        seq=seq,
        tree=found.tree,
        length=1,
        engine="files",
        slot=found.slot,
    )


OLD, NEW = installed("old", 1), installed("new", 2)


def held(one: Installed, state: State = State.ROLLED_BACK) -> HeldBack:
    return HeldBack(release=one.release, tree=one.tree, state=state, reason="broken")


def record(state: State, **fields: object) -> Record:
    product, channel = ProductName("rules"), ChannelName("stable")
    return Record(product=product, channel=channel, state=state).having(**fields)


def names(written: Record) -> list[str]:
    """The releases that a reader gets from what the agent writes."""
    content = encode_json(SCHEMA, written)
    return [one.release for one in decode_product_record(content).confirmed()]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (record(State.NONE), []),
        (record(State.CONFIRMED, current=NEW, previous=OLD, greatest_seq=2), ["new", "old"]),
        (record(State.CONFIRMED, current=OLD, greatest_seq=1), ["old"]),
        (record(State.STAGING, current=OLD, candidate=NEW, greatest_seq=1), ["old"]),
        (record(State.PREFLIGHT, current=OLD, candidate=NEW, greatest_seq=1), ["old"]),
        (record(State.STAGING, candidate=NEW), []),
        (record(State.ACTIVATING, current=NEW, previous=OLD, greatest_seq=1), ["old"]),
        (record(State.TRIAL, current=NEW, previous=OLD, greatest_seq=1), ["old"]),
        (record(State.TRIAL, current=NEW), []),
        (record(State.TRIAL), []),
        (record(State.ROLLING_BACK, current=NEW, previous=OLD, greatest_seq=1), ["old"]),
        (record(State.ROLLED_BACK, current=OLD, held_back=held(NEW), greatest_seq=1), ["old"]),
        (
            record(
                State.REJECTED, current=OLD, held_back=held(NEW, State.REJECTED), greatest_seq=1
            ),
            ["old"],
        ),
        (record(State.REJECTED, held_back=held(NEW, State.REJECTED)), []),
        (record(State.UNPROTECTED, current=NEW, held_back=held(NEW)), []),
        (record(State.CONFIRMED, current=NEW, previous=OLD, revoked=(OLD.tree,)), ["new"]),
        (record(State.CONFIRMED, current=NEW, previous=OLD, revoked=(NEW.tree,)), ["old"]),
    ],
)
def test_only_confirmed_trees_are_named(written: Record, expected: list[str]) -> None:
    assert names(written) == expected


def test_a_trial_after_a_failure_names_nothing() -> None:
    """A host kept a failed release, since it had no other; its successor is in trial now."""
    last = record(State.TRIAL, current=installed("newer", 3), previous=NEW, held_back=held(NEW))
    assert names(last) == []


def test_a_slot_that_is_repaired_stays_confirmed() -> None:
    """The agent found drift and wrote the same release again; it was tried before."""
    repaired = record(State.TRIAL, current=NEW, previous=OLD, greatest_seq=2, trial_since=NOW)
    assert names(repaired) == ["new", "old"]


def test_slots_and_trees_are_the_agents() -> None:
    content = encode_json(SCHEMA, record(State.CONFIRMED, current=NEW, greatest_seq=2))
    expected = ProductRecord(state=State.CONFIRMED, current=tree("new", 2), greatest_seq=2)
    assert decode_product_record(content) == expected


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"schema":"fleetward.other/1"}', b'{"schema":"' + b"x" * 99]
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_product_record(content)
