"""Announcements and the claimed version of a timestamp: any bytes give a number or one error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.limits import TIMESTAMP_DATAGRAM_BYTES, MetadataLimits
from fleetward.errors import DocumentError
from fleetward.wire.announcement import (
    MAX_VERSION,
    announced_version,
    claimed_version,
    fits_announcement,
    is_announcement,
)
from support.fakes import FakeClock
from support.timestamps import timestamp
from support.tufsim import SimFleet

HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"timestamp"',
    b'{"signed":null}',
    b'{"signed":[]}',
    b'{"signed":{"version":1}}',
    b'{"signed":{"_type":"snapshot","version":1}}',
    b'{"signed":{"_type":"timestamp"}}',
    b'{"signed":{"_type":"timestamp","version":0}}',
    b'{"signed":{"_type":"timestamp","version":-1}}',
    b'{"signed":{"_type":"timestamp","version":true}}',
    b'{"signed":{"_type":"timestamp","version":"1"}}',
    b'{"signed":{"_type":"timestamp","version":1.5}}',
    b'{"signed":{"_type":"timestamp","version":1e400}}',
    b'{"signed":{"_type":"timestamp","version":9223372036854775808}}',
    b'{"signed":{"_type":"timestamp","version":' + b"9" * 1000 + b"}}",
    b'{"signed":{"_type":"timestamp","version":1}',
    b'{"signed":{"_type":"timestamp","version":1}}x',
    b'{"signed":{"_type":"\xff","version":1}}',
    b'{"signed":' + b"[" * 1100,
    b'{"signed":' + b'{"a":' * 230,
    b'{"signatures":' + b"[" * 500 + b"]" * 500 + b"}",
    b"\x00\x06\x01\x00\x00\x01",
    b"\x01\x10\x00\x00\x14",
]


def test_the_version_of_a_real_timestamp() -> None:
    fleet = SimFleet(FakeClock())
    fleet.release(1)
    content = fleet.files["metadata/timestamp.json"]
    version = json.loads(content)["signed"]["version"]
    assert claimed_version(content) == announced_version(content) == version
    assert is_announcement(content)
    assert fits_announcement(content)


@pytest.mark.parametrize("content", HOSTILE, ids=lambda c: repr(c[:48]))
def test_hostile_bytes_are_one_error(content: bytes) -> None:
    with pytest.raises(DocumentError):
        announced_version(content)


@given(st.binary(max_size=1300))
def test_any_bytes_are_a_number_or_one_error(content: bytes) -> None:
    try:
        version = announced_version(content)
    except DocumentError:
        return
    assert 1 <= version <= MAX_VERSION


@given(st.integers(min_value=1, max_value=MAX_VERSION), st.data())
def test_a_timestamp_with_altered_bytes_is_a_number_or_one_error(
    version: int, data: st.DataObject
) -> None:
    content = bytearray(timestamp(version))
    assert claimed_version(bytes(content)) == version
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DocumentError):
        assert 1 <= claimed_version(bytes(content)) <= MAX_VERSION


@given(
    st.lists(
        st.sampled_from(
            [
                b'{"signed":{"_type":"timestamp","version":7}}',
                b'"signed":{"_type":"timestamp","version":8},',
                b'"version":9,',
                b'"version":1e1,',
                b'"\\u0076ersion":3,',
                b'"_type":"timestamp",',
                b'"_type":"root",',
                b'"signed":',
                b'"meta":{"a":[1,2,{}]},',
                b"{",
                b"}",
                b",",
                b" ",
                b"0",
                b"-",
                b"null",
            ]
        ),
        max_size=9,
    )
)
def test_what_is_read_is_what_any_json_reader_reads(pieces: list[bytes]) -> None:
    """Two readers that differ (repeated names, escapes) would be told two things by one datagram."""
    content = b"".join(pieces)
    try:
        version = claimed_version(content)
    except DocumentError:
        return
    assert json.loads(content)["signed"]["version"] == version


def test_endless_data_is_not_read() -> None:
    padded = timestamp(1).ljust(TIMESTAMP_DATAGRAM_BYTES)
    assert announced_version(padded) == 1
    assert fits_announcement(padded)
    with pytest.raises(DocumentError, match="1201 bytes"):
        announced_version(padded + b" ")
    assert not fits_announcement(padded + b" ")
    assert claimed_version(padded + b" ") == 1
    with pytest.raises(DocumentError, match="bytes"):
        claimed_version(timestamp(1).ljust(MetadataLimits().timestamp_bytes + 1))


def test_a_check_in_is_no_announcement() -> None:
    assert not is_announcement(b'{"payload":"e30=","payloadType":"x","signatures":[]}')
    assert not fits_announcement(b'{"version": 1}')
    assert is_announcement(b'{"signed":{}}')
