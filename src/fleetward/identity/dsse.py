"""Signatures on envelopes: Ed25519 over DSSE's pre-authentication encoding.

Two types of verified statements, because two different things are proven:

    HostStatement       whoever has the key with this id said it; anybody can make such a key
    ConsoleStatement    a key that the caller already trusts said it

Ed25519 is libsodium's, which refuses keys of small order, points that are not canonical, and
signatures that could be altered into another valid one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from fleetward.core.status import ConsoleId, HostId
from fleetward.errors import SignatureError
from fleetward.wire.envelope import (
    Envelope,
    SelfSigned,
    Signature,
    encode_envelope,
    key_id,
    pre_authentication_encoding,
)


@dataclass(frozen=True, slots=True)
class HostStatement:
    """What the holder of a key said; made by `verify_host` alone.

    Attributes:
        host: the id of the key.
        key: the public key's 32 bytes.
        payload_type: what the payload is.
        payload: the bytes that were signed; a seal, for check-ins and enrolments.
    """

    host: HostId
    key: bytes
    payload_type: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class ConsoleStatement:
    """What a trusted console said; made by `verify_console` alone.

    Attributes:
        console: the id of the key that signed it.
        payload_type: what the payload is.
        payload: the bytes that were signed.
    """

    console: ConsoleId
    payload_type: str
    payload: bytes


def sign(key: SigningKey, payload_type: str, payload: bytes, *, brings_key: bool) -> bytes:
    """Return an envelope with one signature.

    Args:
        key: Ed25519.
        payload_type: what the payload is; signed with it.
        payload: any bytes.
        brings_key: whether the public key stands beside the signature (hosts) or the reader is
            expected to have it (consoles).
    """
    public = key.verify_key.encode()
    sig = key.sign(pre_authentication_encoding(payload_type, payload)).signature
    signature = Signature(key_id(public), sig, public if brings_key else None)
    return encode_envelope(Envelope(payload_type, payload, (signature,)))


def verify_host(signed: SelfSigned) -> HostStatement:
    """Return what a host said.

    Proven: the holder of the key whose sha256 is `host` signed exactly this payload as exactly
    this type. Still owed by the caller: whether that host is enrolled, and whether the words are
    new (a replay verifies too).

    Raises:
        SignatureError: the signature is not of that key over that payload.
    """
    message = pre_authentication_encoding(signed.payload_type, signed.payload)
    _verify(signed.key, message, signed.sig)
    return HostStatement(signed.host, signed.key, signed.payload_type, signed.payload)


def verify_console(
    envelope: Envelope, payload_type: str, trusted: Iterable[bytes]
) -> ConsoleStatement:
    """Return what a console said.

    Proven: one of the trusted keys signed exactly this payload as exactly this type. Still owed by
    the caller: whether it is for him, new, and not expired.

    Args:
        envelope: not verified.
        payload_type: that it must have.
        trusted: public keys of 32 bytes, from the signed `fleet/console.json`.

    Raises:
        SignatureError: another type, or no valid signature of a trusted key.
    """
    if envelope.payload_type != payload_type:
        raise SignatureError(f"signed as {envelope.payload_type}, not as {payload_type}")
    known = {key_id(key): key for key in trusted}
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    problem = SignatureError("signed by no console key that this host trusts")
    for signature in envelope.signatures:
        key = known.get(signature.keyid)
        if key is None:
            continue
        try:
            _verify(key, message, signature.sig)
        except SignatureError as error:
            problem = error
        else:
            console = ConsoleId(signature.keyid)
            return ConsoleStatement(console, envelope.payload_type, envelope.payload)
    raise problem


def _verify(key: bytes, message: bytes, sig: bytes) -> None:
    try:
        VerifyKey(key).verify(message, sig)
    except BadSignatureError as error:
        raise SignatureError("the signature is not of the key that is named") from error
