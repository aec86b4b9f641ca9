"""What a TLS ClientHello says in clear: the server name and the protocols that it offers.

Bytes come from strangers and may end anywhere: what is there is read, nothing is guessed, and no
length in them is believed further than the bytes go. Source: RFC 8446 section 4.1.2, RFC 6066
section 3 (server_name), RFC 7301 (ALPN).

Deliberately not here: fingerprints (JA3, JA4), certificates, anything after the first message.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_RANDOM_END: Final = 43
"""Where the session id begins: record (5), handshake header (4), version (2), random (32)."""

MAX_NAME_CHARS: Final = 255
"""Of a host name (RFC 1035); what is longer is cut before it reaches a report."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The clear part of a TLS ClientHello.

    Attributes:
        server_name: what the client asks for; empty where it names none, or was cut before.
        protocols: of ALPN, in the client's order; at most eight.
    """

    server_name: str = ""
    protocols: tuple[str, ...] = ()


def is_client_hello(payload: bytes) -> bool:
    """Return whether bytes begin as a TLS record with a ClientHello; six bytes are enough."""
    return (
        len(payload) > 5
        and payload[0] == _HANDSHAKE
        and payload[1] == 3
        and payload[2] <= 4
        and payload[5] == _CLIENT_HELLO
    )


def read_client_hello(payload: bytes) -> ClientHello:
    """Return what a ClientHello says; empty fields where the bytes end too early.

    Args:
        payload: that `is_client_hello` takes.
    """
    name = ""
    protocols: tuple[str, ...] = ()
    for kind, content in _extensions(payload):
        if kind == _SERVER_NAME:
            name = _text(content[5 : 5 + int.from_bytes(content[3:5])])
        elif kind == _ALPN:
            protocols = tuple(_protocols(content[2:]))
    return ClientHello(name, protocols)


def _extensions(payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = _RANDOM_END
    for width in (1, 2, 1):  # session id, cipher suites, compression methods
        at += width + int.from_bytes(payload[at : at + width])
    at += 2
    while at + 4 <= len(payload):
        kind = int.from_bytes(payload[at : at + 2])
        length = int.from_bytes(payload[at + 2 : at + 4])
        yield kind, payload[at + 4 : at + 4 + length]
        at += 4 + length


def _protocols(content: bytes) -> Iterator[str]:
    at = 0
    for _ in range(8):
        if at >= len(content):
            return
        yield _text(content[at + 1 : at + 1 + content[at]])
        at += 1 + content[at]


def _text(name: bytes) -> str:
    """Return bytes of a stranger as text that is safe to print."""
    return "".join(chr(c) if 0x20 < c < 0x7F else "?" for c in name[:MAX_NAME_CHARS])
