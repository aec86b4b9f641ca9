"""Check-ins and batches on the wire: canonical, strict, small, and unchanged since they were fixed."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.install import State
from fleetward.core.limits import STATUS
from fleetward.core.status import (
    CheckIn,
    EventKind,
    HostEvent,
    HostId,
    PortsSummary,
    ProductStatus,
    SeenVersions,
    parse_console_id,
    parse_epoch,
)
from fleetward.errors import DocumentError
from fleetward.wire.checkins import (
    Carried,
    decode_batch,
    decode_check_in,
    encode_batch,
    encode_check_in,
    encoded_length,
    milliseconds_of,
)
from support.fakes import START
from support.status import EPOCH, event, host_key, usual

GOLDEN = Path(__file__).parent / "golden"
HOST = host_key()
FULL = usual(
    HOST,
    events=(
        event(3),
        HostEvent(
            e=4,
            at=START,
            kind=EventKind.LISTENER_OPENED,
            subject="tcp/2967 smc.exe",
            detail="not in the baseline",
        ),
    ),
)
LEAST = CheckIn(host=HOST.id, epoch=EPOCH, n=1, sent=START)


@pytest.mark.parametrize(("name", "check_in"), [("checkin", FULL), ("checkin-least", LEAST)])
def test_golden_check_ins_have_not_changed(name: str, check_in: CheckIn) -> None:
    content = (GOLDEN / f"{name}.json").read_bytes()
    assert encode_check_in(check_in) == content
    assert decode_check_in(content) == check_in
    assert content.startswith(b'{"schema":"fleetward.checkin/1",')


def test_fields_and_row_ends_that_are_not_known_are_passed_over() -> None:
    content = json.loads(encode_check_in(FULL))
    content["later"] = {"x": [1]}
    content["products"][0].append("later")
    content["events"][0]["later"] = 1
    assert decode_check_in(json.dumps(content).encode()) == FULL


def test_fractions_of_a_second_and_zones_do_not_travel() -> None:
    paris = timezone(timedelta(hours=1))
    fine = usual(HOST, sent=datetime(2026, 11, 24, 3, 0, 0, 999999, tzinfo=UTC))
    assert decode_check_in(encode_check_in(fine)).sent == fine.sent.replace(microsecond=0)
    with pytest.raises(DocumentError, match="UTC"):
        usual(HOST, sent=START.astimezone(paris))


CHANGES: list[tuple[str, Any]] = [
    ("schema", "fleetward.checkin/2"),
    ("schema", None),
    ("host", "short"),
    ("host", HOST.id.upper()),
    ("epoch", "0" * 15),
    ("epoch", "G" * 16),
    ("n", 0),
    ("n", 1.5),
    ("n", "1"),
    ("n", 2**53),
    ("sent", "yesterday"),
    ("sent", "2026-11-24T02:00:00"),
    ("sent", "2026-11-24T02:00:00+01:00"),
    ("products", [["yara", "stable"]]),
    ("products", [["Yara", "stable", "r1", 1, "confirmed", "", None]]),
    ("products", [["yara", "../x", "r1", 1, "confirmed", "", None]]),
    ("products", [["yara", "stable", "floor", 1, "confirmed", "", None]]),
    ("products", [["yara", "stable", "r1", -1, "confirmed", "", None]]),
    ("products", [["yara", "stable", "r1", 1, "exploded", "", None]]),
    ("products", [["yara", "stable", "r1", 1, "confirmed", "abc", None]]),
    ("products", [["yara", "stable", "r1", 1, "confirmed", "", -1]]),
    ("products", [["yara", "stable", "r1", 1, "confirmed", "", None]] * 65),
    ("tuf", [1, 2]),
    ("tuf", [1, 2, -3]),
    ("relay", "line\nbreak"),
    ("relay", "\x1b[31mred"),
    ("relay", "x" * 201),
    ("clock", 2**53),
    ("ports", [1, 2, "ab" * 8]),
    ("ports", [-1, 0, "ab" * 8]),
    ("ports", [1, 0, "short"]),
    ("events", [{"e": 1, "at": "2026-11-24T02:00:00Z", "kind": "rm -rf"}]),
    ("events", [{"e": 0, "at": "2026-11-24T02:00:00Z", "kind": "drift"}]),
    ("events", [{"e": 2, "at": "2026-11-24T02:00:00Z", "kind": "drift"}] * 2),
    (
        "events",
        [{"e": n, "at": "2026-11-24T02:00:00Z", "kind": "drift"} for n in (2, 1)],
    ),
    (
        "events",
        [{"e": n, "at": "2026-11-24T02:00:00Z", "kind": "drift"} for n in range(1, 202)],
    ),
    ("events", [{"e": 1, "at": "2026-11-24T02:00:00Z", "kind": "drift", "detail": "a\rb"}]),
]


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_what_is_out_of_range_is_refused(name: str, value: object) -> None:
    content = json.loads(encode_check_in(FULL))
    content[name] = value
    if value is None:
        del content[name]
    with pytest.raises(DocumentError):
        decode_check_in(json.dumps(content).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 60000, b" " * 65537])
def test_what_is_no_check_in_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_check_in(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_one_error(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_check_in(content)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True).filter(
    lambda name: name not in {"floor", "policy"}
)
COUNTS = st.integers(0, STATUS.number)
LINES = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), max_size=60)
INSTANTS = st.integers(0, 2**33).map(lambda second: datetime.fromtimestamp(second, UTC))
PRODUCTS = st.builds(
    ProductStatus,
    product=NAMES,
    channel=NAMES,
    release=NAMES | st.just(""),
    seq=COUNTS,
    state=st.sampled_from(State),
    tree=st.from_regex(r"([0-9a-f]{16,64})?", fullmatch=True),
    wave=st.none() | COUNTS,
)
EVENTS = st.lists(st.integers(1, 10**6), unique=True, max_size=5).flatmap(
    lambda numbers: st.tuples(
        *(
            st.builds(
                HostEvent,
                e=st.just(e),
                at=INSTANTS,
                kind=st.sampled_from(EventKind),
                product=NAMES | st.just(""),
                release=NAMES | st.just(""),
                subject=LINES,
                detail=LINES,
            )
            for e in sorted(numbers)
        )
    )
)
CHECK_INS = st.builds(
    CheckIn,
    host=st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(HostId),
    epoch=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    n=st.integers(1, STATUS.number),
    sent=INSTANTS,
    products=st.lists(PRODUCTS, max_size=4).map(tuple),
    tuf=st.builds(SeenVersions, root=COUNTS, timestamp=COUNTS, snapshot=COUNTS),
    relay=LINES,
    clock=st.none() | st.integers(-STATUS.number, STATUS.number),
    ports=st.none()
    | st.builds(
        PortsSummary,
        listeners=st.just(9),
        unexpected=st.integers(0, 9),
        digest=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    ),
    events=EVENTS,
)


@given(CHECK_INS)
def test_every_check_in_comes_back(check_in: CheckIn) -> None:
    assert decode_check_in(encode_check_in(check_in)) == check_in


def test_ids_are_digests() -> None:
    assert parse_console_id("a" * 64) == "a" * 64
    with pytest.raises(DocumentError):
        parse_console_id("A" * 64)
    with pytest.raises(DocumentError):
        parse_epoch("x")


# -- batches -------------------------------------------------------------------------------------

ENVELOPES = st.binary(min_size=1, max_size=100)
PEERS = st.ip_addresses().map(str) | st.just("")
CARRIED = st.builds(
    Carried,
    received=st.integers(0, 253_402_300_799_999),
    peer=PEERS,
    envelope=ENVELOPES,
    hops=st.integers(0, 255),
)


@given(st.lists(CARRIED, max_size=6))
def test_every_batch_comes_back(batch: list[Carried]) -> None:
    content = encode_batch(batch)
    assert decode_batch(content) == tuple(batch)
    assert len(content) == 8 + sum(encoded_length(one) for one in batch)


def test_a_golden_batch_has_not_changed() -> None:
    batch = [Carried(1_795_485_600_123, "192.0.2.7", b"one", 2), Carried(0, "", b"two")]
    assert encode_batch(batch).hex() == (
        "4657434845434b31"
        "00000003"
        "000001a20b48097b"
        "02"
        "09"
        + b"192.0.2.7".hex()
        + b"one".hex()
        + "00000003"
        + "0000000000000000"
        + "00"
        + "00"
        + b"two".hex()
    )


def test_a_chain_of_relays_has_an_end() -> None:
    with pytest.raises(DocumentError, match="256 relays"):
        Carried(0, "", b"x", 256)


def test_the_time_of_receipt_is_an_instant() -> None:
    instant = START + timedelta(milliseconds=7)
    carried = Carried(milliseconds_of(instant), "::1", b"x")
    assert carried.received_at == instant


@given(st.lists(CARRIED, min_size=1, max_size=3), st.data())
def test_a_batch_that_breaks_off_is_refused(batch: list[Carried], data: st.DataObject) -> None:
    """The connection ends in the middle; what came is no smaller batch."""
    content = encode_batch(batch)
    last = len(content) - encoded_length(batch[-1])
    cut = data.draw(st.integers(last + 1, len(content) - 1))
    with pytest.raises(DocumentError):
        decode_batch(content[:cut])


@given(st.binary(max_size=100))
def test_any_bytes_are_no_batch(content: bytes) -> None:
    for start in (b"", b"FWCHECK1"):
        try:
            assert encode_batch(decode_batch(start + content)) == start + content
        except DocumentError:
            continue


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"FWCHECK2",
        b"FWCHECK1" + bytes(14),
        b"FWCHECK1\x00\x01\x00\x01" + bytes(10) + b"x" * 65537,
        b"FWCHECK1\x00\x00\x00\x01" + b"\xff" * 8 + b"\x00\x00x",
        b"FWCHECK1\x00\x00\x00\x01" + bytes(9) + b"\x01\xe9x",
        b"FWCHECK1\x00\x00\x00\x01" + bytes(9) + b"\x01\nx",
        b"FWCHECK1\x00\x00\x00\x01" + bytes(9) + b"\x2e" + b"1" * 46 + b"x",
        b"FWCHECK1" + bytes(STATUS.batch_bytes),
        b"FWCHECK1" + (b"\x00\x00\x00\x01" + bytes(10) + b"x") * 2001,
    ],
)
def test_what_is_no_batch_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_batch(content)
