"""What a console prints of itself, for people to carry to the offline keys: its public keys.

    {"schema": "fleetward.console-keys/1", "keys": [{"name", "signing", "sealing", "url"}, …]}

In the order in which hosts are to take them (core.consoles). It is no secret and proves nothing:
whoever signs it into `fleet/console.json` compares it with what the console shows.
"""

from dataclasses import dataclass
from typing import Final

from fleetward.core.consoles import ConsolePair
from fleetward.core.limits import STATUS
from fleetward.core.status import require
from fleetward.wire.documents import decode_json, encode_json

CONSOLE_KEYS_SCHEMA: Final = "fleetward.console-keys/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleKeysFile:
    """The pairs of one console, the present one first."""

    keys: tuple[ConsolePair, ...]


def encode_console_keys(file: ConsoleKeysFile) -> bytes:
    """Return the file's bytes."""
    return encode_json(CONSOLE_KEYS_SCHEMA, file)


def decode_console_keys(content: bytes) -> ConsoleKeysFile:
    """Return what a console printed.

    Raises:
        DocumentError: too long, not JSON, another schema, or a value out of range.
    """
    require(len(content) <= STATUS.enrolment_bytes, f"a file of keys of {len(content)} bytes")
    return decode_json(CONSOLE_KEYS_SCHEMA, ConsoleKeysFile, content)
