"""DSSE v1 envelopes (github.com/secure-systems-lab/dsse): signed bytes with their type, as JSON.

    {"payloadType": T, "payload": base64, "signatures": [{"keyid": I, "sig": base64, "key": base64}]}

A profile of DSSE that has exactly one form for each content: fields in this order, no white space,
padded base64 of the standard alphabet, no field that is not named here (what is outside the
payload is not signed). So the digest of an envelope's bytes names it, and a copy with other white
space is no second check-in. `keyid` is the sha256 of the 32-byte Ed25519 public key. `key` is that
public key, where the reader cannot know it: an envelope of a host proves its own sender, and
nothing about whether anybody enrolled him.

Everything here is unverified. Whoever wants to believe it calls `identity.dsse`.
"""

import hashlib
from dataclasses import dataclass

import msgspec

from fleetward.core.digest import parse_sha256
from fleetward.core.status import HostId, require
from fleetward.errors import DocumentError
from fleetward.wire.preparing import prepared

MAX_SIGNATURES = 4
"""Of one envelope; room for a console whose signing key is being replaced."""

MAX_TYPE_CHARS = 100
"""Of a payload's type; it is compared with a few known ones."""

_KEY_BYTES = 32
_SIGNATURE_BYTES = 64


class _Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    keyid: str
    sig: bytes
    key: bytes | None = None


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    payload_type: str = msgspec.field(name="payloadType")
    payload: bytes
    signatures: tuple[_Signature, ...]


_DECODER = msgspec.json.Decoder(prepared(_Envelope))
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature, not verified.

    Attributes:
        keyid: the sha256 of the public key, 64 hex digits.
        sig: 64 bytes of Ed25519.
        key: the public key's 32 bytes, where the envelope brings it.
    """

    keyid: str
    sig: bytes
    key: bytes | None = None

    def __post_init__(self) -> None:
        parse_sha256(self.keyid)
        require(len(self.sig) == _SIGNATURE_BYTES, "an Ed25519 signature has 64 bytes")
        if self.key is not None:
            require(len(self.key) == _KEY_BYTES, "an Ed25519 key has 32 bytes")
            require(key_id(self.key) == self.keyid, "the key is not the one that keyid names")


@dataclass(frozen=True, slots=True)
class Envelope:
    """Signed bytes with their type, not verified.

    Attributes:
        payload_type: what the payload is; signed too.
        payload: the bytes that are signed.
        signatures: one to four.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        is_type = self.payload_type.isascii() and self.payload_type.isprintable()
        require(is_type and len(self.payload_type) <= MAX_TYPE_CHARS, "not a payload's type")
        count = len(self.signatures)
        require(1 <= count <= MAX_SIGNATURES, f"{count} signatures")


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """An envelope with one signature that brings its key: its sender is whoever has that key.

    Not verified: `host` is the digest of `key`, and whether `sig` is that key's is still open.

    Attributes:
        host: the id of the key.
        key: the public key's 32 bytes.
        sig: 64 bytes.
        payload_type: what the payload is.
        payload: the bytes that are signed.
    """

    host: HostId
    key: bytes
    sig: bytes
    payload_type: str
    payload: bytes


def key_id(public_key: bytes) -> str:
    """Return the id of an Ed25519 public key: the sha256 of its 32 bytes, in hex."""
    return hashlib.sha256(public_key).hexdigest()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's PAE.

    `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`, lengths in bytes as decimal ASCII.

    Source: DSSE protocol, "Signature Definition".
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the envelope's only form."""
    rows = tuple(_Signature(one.keyid, one.sig, one.key) for one in envelope.signatures)
    return _ENCODER.encode(_Envelope(envelope.payload_type, envelope.payload, rows))


def decode_envelope(content: bytes, max_bytes: int) -> Envelope:
    """Return an envelope, not verified.

    Args:
        content: its bytes.
        max_bytes: a longer one is refused unread.

    Raises:
        DocumentError: too long, not JSON, not in the one form, a key that is not the one its
            keyid names, or a length that is not Ed25519's.
    """
    if len(content) > max_bytes:
        raise DocumentError(f"an envelope of {len(content)} bytes, where {max_bytes} may be")
    try:
        raw = _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise DocumentError(f"not an envelope: {error}") from error
    require(_ENCODER.encode(raw) == content, "an envelope that is not in its one form")
    signatures = tuple(Signature(one.keyid, one.sig, one.key) for one in raw.signatures)
    return Envelope(raw.payload_type, raw.payload, signatures)


def decode_self_signed(content: bytes, max_bytes: int, payload_type: str) -> SelfSigned:
    """Return an envelope that a host made, not verified.

    Args:
        content: its bytes.
        max_bytes: a longer one is refused unread.
        payload_type: that it must have.

    Raises:
        DocumentError: as `decode_envelope`; another type, no key, or several signatures.
    """
    envelope = decode_envelope(content, max_bytes)
    require(envelope.payload_type == payload_type, f"not of the type {payload_type}")
    require(len(envelope.signatures) == 1, "a host's envelope has exactly one signature")
    signature = envelope.signatures[0]
    if signature.key is None:
        raise DocumentError("a host's envelope brings the key that signed it")
    host = HostId(signature.keyid)
    return SelfSigned(host, signature.key, signature.sig, payload_type, envelope.payload)
