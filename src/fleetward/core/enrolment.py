"""How a host becomes known to a console, as values: the request and its answer.

The token itself is no part of either: only its public name travels, and a MAC that proves that
the host has the token (identity.enrolment).
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleetward.core.digest import parse_sha256
from fleetward.core.status import (
    ConsoleId,
    HostId,
    parse_console_id,
    parse_host_id,
    require,
    require_text,
    require_utc,
)

_TOKEN_ID = re.compile(r"[0-9a-f]{16}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_RECORD = re.compile(r"[0-9A-Za-z_-]{1,64}")


def require_token_id(text: str) -> None:
    """Refuse what is no token's public name: 16 lower-case hex digits."""
    require(_TOKEN_ID.fullmatch(text) is not None, f"not a token's id: {text[:80]!r}")


def require_nonce(text: str) -> None:
    """Refuse what is no nonce: 32 lower-case hex digits."""
    require(_NONCE.fullmatch(text) is not None, f"not a nonce: {text[:80]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What a host says of itself, for people; nothing is decided by it.

    Attributes:
        name: its host name.
        os: name and version of its system.
        site: where it believes it stands; empty where nobody told it.
        agent: the version of its agent.
    """

    name: str
    os: str = ""
    site: str = ""
    agent: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "os", "site", "agent"):
            require_text(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentRequest:
    """A new key asks to be known.

    Attributes:
        host: the id of the key that signs the request.
        token: the public name of the token that it was given.
        nonce: random; the answer repeats it.
        console: for which console; a request that was taken from one is worthless at another.
        expires: after this the console refuses it.
        mac: 64 hex digits over the four above and the key, under the token's secret.
        facts: see `HostFacts`.
    """

    host: HostId
    token: str
    nonce: str
    console: ConsoleId
    expires: datetime
    mac: str
    facts: HostFacts

    def __post_init__(self) -> None:
        parse_host_id(self.host)
        require_token_id(self.token)
        require_nonce(self.nonce)
        parse_console_id(self.console)
        require_utc("expires", self.expires)
        parse_sha256(self.mac)


class Standing(StrEnum):
    """What came of a request."""

    APPROVED = "approved"
    PENDING = "pending"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentAnswer:
    """The console's answer, which it signs.

    Attributes:
        host: whom it answers.
        nonce: of the request that it answers.
        standing: approved, waits for a person, or refused.
        record: the id of the host's record, by which waves go; empty unless approved.
        reason: for people; empty where nothing is to be said.
        issued: when it was signed.
    """

    host: HostId
    nonce: str
    standing: Standing
    record: str = ""
    reason: str = ""
    issued: datetime

    def __post_init__(self) -> None:
        parse_host_id(self.host)
        require_nonce(self.nonce)
        require_utc("issued", self.issued)
        require_text("reason", self.reason)
        is_approved = self.standing is Standing.APPROVED
        is_record = _RECORD.fullmatch(self.record) is not None
        require(is_record if is_approved else not self.record, "a record belongs to an approval")
