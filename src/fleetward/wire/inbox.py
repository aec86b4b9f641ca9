"""The inbox: what the console has signed for one host, as JSON in a DSSE envelope.

Relays carry and keep it for a short time. They cannot verify it and read only for whom it is and
which number it has; the host verifies it (`identity.console`), refuses another host's, an expired
one and one whose number went back.
"""

from typing import Final

from fleetward.core.documents import whole_second
from fleetward.core.inbox import Inbox
from fleetward.core.limits import STATUS
from fleetward.core.status import HostId, parse_host_id, require
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.envelope import decode_envelope

INBOX_SCHEMA: Final = "fleetward.inbox/1"
INBOX_TYPE: Final = "application/vnd.fleetward.inbox+json"
INBOX_PATH: Final = "/v1/inbox/"
"""`GET /v1/inbox/HOST?after=N`: 200 with an inbox whose seq is above N, or 204."""


def encode_inbox(inbox: Inbox) -> bytes:
    """Return an inbox's payload; instants lose what is finer than a second."""
    return encode_json(
        INBOX_SCHEMA,
        Inbox(
            host=inbox.host,
            seq=inbox.seq,
            issued=whole_second(inbox.issued),
            expires=whole_second(inbox.expires),
            acks=inbox.acks,
            directives=inbox.directives,
        ),
    )


def decode_inbox(payload: bytes) -> Inbox:
    """Return the inbox in a payload.

    Raises:
        DocumentError: too long, not JSON, another schema, or a value out of range.
    """
    require(len(payload) <= STATUS.inbox_bytes, f"an inbox of {len(payload)} bytes")
    return decode_json(INBOX_SCHEMA, Inbox, payload)


def peek_inbox(content: bytes, host: HostId) -> int:
    """Return the number of the inbox in an envelope that nobody verified.

    Raises:
        DocumentError: not an envelope, not an inbox, or another host's.
    """
    envelope = decode_envelope(content, STATUS.inbox_bytes)
    require(envelope.payload_type == INBOX_TYPE, f"not of the type {INBOX_TYPE}")
    inbox = decode_inbox(envelope.payload)
    require(inbox.host == host, f"the inbox of {inbox.host}, not of {host}")
    return inbox.seq


def parse_inbox_path(path: str, query: str) -> tuple[HostId, int]:
    """Return whose inbox a request asks for, and after which number (0 where it says none).

    Raises:
        DocumentError: no host's id, or a query of another form.
    """
    require(path.startswith(INBOX_PATH), f"not under {INBOX_PATH}")
    host = parse_host_id(path.removeprefix(INBOX_PATH))
    if not query:
        return host, 0
    name, _, number = query.partition("=")
    is_number = number.isascii() and number.isdecimal() and len(number) <= len(str(STATUS.number))
    require(name == "after" and is_number, f"the query is after=N, not {query[:80]!r}")
    return host, int(number)


def inbox_target(host: HostId, after: int) -> str:
    """Return the request target that asks for a host's inbox."""
    return f"{INBOX_PATH}{host}?after={after}"
