"""What a TLS ClientHello says in clear: versions, ciphers, extensions, the server name, protocols.

Bytes come from strangers and may end anywhere: what is there is read, nothing is guessed, and no
length in them is believed further than the bytes go. Source: RFC 8446 sections 4.1.2 and 5.1 (a
message may lie in several records), RFC 6066 section 3 (server_name), RFC 7301 (ALPN), RFC 8701
(GREASE: values that mean nothing, which are left out).

Deliberately not here: the fingerprint (core.ja4), certificates, anything after the first message.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_HEADER: Final = 5
_VERSION_AT: Final = 4
_RANDOM_END: Final = 38
"""Where the session id begins: handshake header (4), version (2), random (32)."""

_SERVER_NAME: Final = 0
_SIGNATURES: Final = 13
_ALPN: Final = 16
_VERSIONS: Final = 43

MAX_NAME_CHARS: Final = 255
"""Of a host name (RFC 1035); what is longer is cut before it reaches a report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    """The clear part of a TLS ClientHello, without GREASE.

    Attributes:
        is_whole: whether all of it was there; else the rest is what could be read.
        version: the highest that it offers, as on the wire (0x0304 is TLS 1.3).
        ciphers: in the client's order.
        extensions: their numbers, in the client's order.
        signatures: signature algorithms, in the client's order.
        server_name: what the client asks for; empty where it names none, or was cut before.
        protocols: of ALPN, in the client's order; at most eight, printable.
        first_protocol: the first of ALPN, as it was sent.
    """

    is_whole: bool = False
    version: int = 0
    ciphers: tuple[int, ...] = ()
    extensions: tuple[int, ...] = ()
    signatures: tuple[int, ...] = ()
    server_name: str = ""
    protocols: tuple[str, ...] = ()
    first_protocol: bytes = b""


def is_client_hello(payload: bytes) -> bool:
    """Return whether bytes begin as a TLS record with a ClientHello; six bytes are enough."""
    return (
        len(payload) > _RECORD_HEADER
        and payload[0] == _HANDSHAKE
        and payload[1] == 3
        and payload[2] <= 4
        and payload[_RECORD_HEADER] == _CLIENT_HELLO
    )


def read_client_hello(payload: bytes) -> ClientHello:
    """Return what a ClientHello says; empty fields where the bytes end too early.

    Args:
        payload: that `is_client_hello` takes.
    """
    message = _message(payload)
    end = 4 + int.from_bytes(message[1:4])
    is_whole = len(message) >= end
    message = message[:end]
    ciphers_at = _after(message, _RANDOM_END, 1)
    extensions = dict(_extensions(message, _after(message, _after(message, ciphers_at, 2), 1) + 2))
    versions = _without_grease(extensions.get(_VERSIONS, b"")[1:])
    protocols = tuple(_protocols(extensions.get(_ALPN, b"")[2:]))
    name = extensions.get(_SERVER_NAME, b"")
    return ClientHello(
        is_whole=is_whole,
        version=max(versions, default=int.from_bytes(message[_VERSION_AT : _VERSION_AT + 2])),
        ciphers=_without_grease(_vector(message, ciphers_at, 2)),
        extensions=tuple(one for one in extensions if not _is_grease(one)),
        signatures=_without_grease(extensions.get(_SIGNATURES, b"")[2:]),
        server_name=_text(name[5 : 5 + int.from_bytes(name[3:5])]),
        protocols=tuple(map(_text, protocols)),
        first_protocol=next(iter(protocols), b""),
    )


def _message(payload: bytes) -> bytes:
    """Return the handshake message, put together from its records as far as they go."""
    pieces, at = [], 0
    while payload[at : at + 1] == bytes([_HANDSHAKE]):
        length = int.from_bytes(payload[at + 3 : at + _RECORD_HEADER])
        at += _RECORD_HEADER
        pieces.append(payload[at : at + length])
        at += length
    return b"".join(pieces)


def _after(message: bytes, at: int, width: int) -> int:
    return at + width + int.from_bytes(message[at : at + width])


def _vector(message: bytes, at: int, width: int) -> bytes:
    return message[at + width : _after(message, at, width)]


def _extensions(message: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(message):
        yield int.from_bytes(message[at : at + 2]), _vector(message, at + 2, 2)
        at = _after(message, at + 2, 2)


def _without_grease(content: bytes) -> tuple[int, ...]:
    numbers = (int.from_bytes(content[at : at + 2]) for at in range(0, len(content) - 1, 2))
    return tuple(one for one in numbers if not _is_grease(one))


def _is_grease(number: int) -> bool:
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


def _protocols(content: bytes) -> Iterator[bytes]:
    at = 0
    for _ in range(8):
        if at >= len(content):
            return
        yield content[at + 1 : at + 1 + content[at]]
        at += 1 + content[at]


def _text(name: bytes) -> str:
    """Return bytes of a stranger as text that is safe to print."""
    return "".join(chr(c) if 0x20 < c < 0x7F else "?" for c in name[:MAX_NAME_CHARS])
