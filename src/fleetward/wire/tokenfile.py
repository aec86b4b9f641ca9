"""The token file: all that a host needs to be enrolled, in one file that a person hands over.

    {"schema": "fleetward.token-file/1", "console": URL, "signing": [KEY…], "sealing": KEY,
     "token": "fwt1.ID.SECRET"}

It pins the console: its answer is believed only where one of these keys signed it, so neither a
relay nor whoever answers at the console's address can enrol a host into a fleet of his own. Keys
are the 32 bytes in hex. The file is a secret, since the token is one.

Deliberately not here: what a token is and proves (identity.enrolment).
"""

import re
from dataclasses import dataclass
from typing import Final

from fleetward.core.consoles import CONSOLES
from fleetward.core.fleet import parse_source_url
from fleetward.core.limits import STATUS
from fleetward.core.status import require
from fleetward.wire.documents import decode_json, encode_json

TOKEN_FILE_SCHEMA: Final = "fleetward.token-file/1"  # noqa: S105 (a schema's name)

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePins:
    """What a host believes of its console.

    Attributes:
        console: its base URL, where it is asked directly.
        signing: Ed25519 public keys, 64 hex digits each; the first is the one in use.
        sealing: its X25519 public key, 64 hex digits.
    """

    console: str
    signing: tuple[str, ...]
    sealing: str

    def __post_init__(self) -> None:
        require(parse_source_url(self.console) == self.console, "the console's URL ends in a slash")
        require(1 <= len(self.signing) <= CONSOLES.keys, f"{len(self.signing)} console keys")
        for key in (*self.signing, self.sealing):
            require(_KEY.fullmatch(key) is not None, f"not a console's key: {key[:80]!r}")

    def signing_keys(self) -> tuple[bytes, ...]:
        """Return the signing keys, 32 bytes each."""
        return tuple(bytes.fromhex(key) for key in self.signing)

    def sealing_key(self) -> bytes:
        """Return the sealing key's 32 bytes."""
        return bytes.fromhex(self.sealing)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A console and a token for it; its `repr` does not show the token.

    Attributes:
        pins: the console.
        token: as `identity.enrolment.EnrolmentToken.parse` takes it.
    """

    pins: ConsolePins
    token: str

    def __repr__(self) -> str:
        """Return the console alone."""
        return f"TokenFile({self.pins.console})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    console: str
    signing: tuple[str, ...]
    sealing: str
    token: str


def encode_token_file(file: TokenFile) -> bytes:
    """Return a token file's bytes; they are a secret."""
    pins = file.pins
    return encode_json(
        TOKEN_FILE_SCHEMA,
        _File(console=pins.console, signing=pins.signing, sealing=pins.sealing, token=file.token),
    )


def decode_token_file(content: bytes) -> TokenFile:
    """Return what a token file says; white space around it is passed over.

    Raises:
        DocumentError: too long, not JSON, another schema, or a value out of range.
    """
    require(len(content) <= STATUS.enrolment_bytes, f"a token file of {len(content)} bytes")
    raw = decode_json(TOKEN_FILE_SCHEMA, _File, content)
    pins = ConsolePins(console=raw.console, signing=raw.signing, sealing=raw.sealing)
    return TokenFile(pins=pins, token=raw.token)
