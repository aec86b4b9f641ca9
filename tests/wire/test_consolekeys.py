"""What a console prints of its keys, and what of it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.consoles import ConsolePair
from fleetward.core.limits import STATUS
from fleetward.errors import DocumentError
from fleetward.wire.consolekeys import ConsoleKeysFile, decode_console_keys, encode_console_keys

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
PAIRS = st.builds(
    ConsolePair,
    name=st.sampled_from(["main", "stand-by"]),
    signing=HEX,
    sealing=HEX,
    url=st.sampled_from([None, "https://console.example", "http://10.0.0.1:8443/fleet"]),
)


@given(st.lists(PAIRS, max_size=4))
def test_what_is_printed_is_read(pairs: list[ConsolePair]) -> None:
    file = ConsoleKeysFile(keys=tuple(pairs))
    assert decode_console_keys(encode_console_keys(file)) == file


@given(st.binary(max_size=300))
def test_whatever_was_carried_instead_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_console_keys(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema":"fleetward.token-file/1","keys":[]}',
        b'{"schema":"fleetward.console-keys/1"}',
        b'{"schema":"fleetward.console-keys/1","keys":[{"name":"main","signing":"a","sealing":"b"}]}',
        b" " * (STATUS.enrolment_bytes + 1),
    ],
)
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        decode_console_keys(content)
