"""Enrolment by a token that is never sent.

    token    fwt1.ID.SECRET    ID: 16 hex digits, sent; SECRET: 32 bytes in base64url, never sent

The host proves that it has the secret by a MAC over its new public key, so whoever carries the
request (a relay, a proxy, a listener on the line) cannot enrol a key of his own with it. The
request is sealed to the console and signed by the new key, like a check-in.

    MAC = HMAC-SHA256(SECRET, "fleetward.enrolment-mac/1" NUL ‖ public key (32) ‖ nonce (16)
                              ‖ console id (32) ‖ expiry (8, seconds since 1970, big-endian))

Every part has a fixed length, so two different requests never give the same bytes. The console
still owes: is the token known, unused and not expired; was the nonce seen before.
"""

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from fleetward.adapters.entropy import Entropy
from fleetward.core.documents import whole_second
from fleetward.core.enrolment import (
    EnrolmentAnswer,
    EnrolmentRequest,
    HostFacts,
    require_nonce,
    require_token_id,
)
from fleetward.core.limits import STATUS
from fleetward.core.status import ConsoleId
from fleetward.errors import DocumentError, ExpiredError, SignatureError, UsageError
from fleetward.identity.consoles import ConsoleKeys, ConsolePublic, open_seal
from fleetward.identity.dsse import HostStatement, verify_console, verify_host
from fleetward.identity.hosts import HostKey
from fleetward.wire.enrolment import (
    ANSWER_TYPE,
    REQUEST_TYPE,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from fleetward.wire.envelope import decode_envelope, decode_self_signed

TOKEN_PREFIX: Final = "fwt1"  # noqa: S105 (the format's name, no secret)
REQUEST_LIFETIME: Final = timedelta(minutes=15)
"""How long a request may be on its way; a longer one would be worth stealing."""

_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 16
_ID_BYTES: Final = 8
_MAC_DOMAIN: Final = b"fleetward.enrolment-mac/1\0"
_INSTANT: Final = struct.Struct(">Q")


class EnrolmentToken:
    """A token; its `repr` does not show the secret.

    Attributes:
        id: the public name, 16 hex digits.
    """

    __slots__ = ("_secret", "id")

    def __init__(self, token_id: str, secret: bytes) -> None:
        """Take the name and 32 unpredictable bytes.

        Raises:
            DocumentError: the name is none, or the secret has another length.
        """
        require_token_id(token_id)
        if len(secret) != _SECRET_BYTES:
            raise DocumentError(f"a token's secret has {_SECRET_BYTES} bytes")
        self.id = token_id
        self._secret = secret

    def __repr__(self) -> str:
        """Return the name alone."""
        return f"EnrolmentToken({self.id})"

    @classmethod
    def make(cls, entropy: Entropy) -> Self:
        """Return a new token."""
        return cls(entropy.token(_ID_BYTES).hex(), entropy.token(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the token in a token file, whose white space around it is passed over.

        Raises:
            UsageError: it is not a token; the message does not repeat it.
        """
        parts = text.strip().split(".")
        try:
            prefix, token_id, secret = parts
            token = cls(token_id, urlsafe_b64decode(secret + "="))
        except (ValueError, Base64Error, DocumentError) as error:
            raise UsageError(
                "not an enrolment token: copy it whole, from 'fwt1.' to its end"
            ) from error
        if prefix != TOKEN_PREFIX or token.text() != text.strip():
            raise UsageError("not an enrolment token: copy it whole, from 'fwt1.' to its end")
        return token

    def text(self) -> str:
        """Return the token as people hand it over; it is a secret."""
        secret = urlsafe_b64encode(self._secret).decode("ascii").rstrip("=")
        return f"{TOKEN_PREFIX}.{self.id}.{secret}"

    def mac(self, public_key: bytes, nonce: str, console: ConsoleId, expires: datetime) -> str:
        """Return the MAC of the module's docstring, 64 hex digits.

        Args:
            public_key: the host's new key, 32 bytes.
            nonce: 32 hex digits.
            console: for which console.
            expires: an aware instant; whole seconds count.
        """
        require_nonce(nonce)
        seconds = _INSTANT.pack(int(expires.timestamp()))
        message = b"".join((public_key, bytes.fromhex(nonce), bytes.fromhex(console), seconds))
        return hmac.new(self._secret, _MAC_DOMAIN + message, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class RequestedEnrolment:
    """A request that a host made, and the bytes that carry it.

    Attributes:
        request: to be kept until the answer comes.
        envelope: to be posted; the same again until there is an answer.
    """

    request: EnrolmentRequest
    envelope: bytes


@dataclass(frozen=True, slots=True)
class ClaimedEnrolment:
    """An opened request: its key signed it, and whether it has the token is open.

    Attributes:
        request: what it says.
        key: the new public key, 32 bytes.
    """

    request: EnrolmentRequest
    key: bytes


@dataclass(frozen=True, slots=True)
class VerifiedEnrolment:
    """A request whose sender has the token; made by `verify_enrolment` alone.

    Attributes:
        request: what it says.
        key: the new public key, 32 bytes.
    """

    request: EnrolmentRequest
    key: bytes


def request_enrolment(
    key: HostKey,
    console: ConsolePublic,
    token: EnrolmentToken,
    facts: HostFacts,
    *,
    entropy: Entropy,
    now: datetime,
) -> RequestedEnrolment:
    """Return a request to be known, which expires `REQUEST_LIFETIME` after `now`."""
    expires = whole_second(now + REQUEST_LIFETIME)
    nonce = entropy.token(_NONCE_BYTES).hex()
    request = EnrolmentRequest(
        host=key.id,
        token=token.id,
        nonce=nonce,
        console=console.id,
        expires=expires,
        mac=token.mac(key.public, nonce, console.id, expires),
        facts=facts,
    )
    return RequestedEnrolment(
        request, key.sign(REQUEST_TYPE, console.seal(encode_request(request)))
    )


def verify_request(content: bytes) -> HostStatement:
    """Return a request as far as a relay can verify it: the new key signed it.

    Raises:
        DocumentError: not an enrolment's envelope.
        SignatureError: not signed by the key that it names.
    """
    return verify_host(decode_self_signed(content, STATUS.enrolment_bytes, REQUEST_TYPE))


def open_enrolment(statement: HostStatement, consoles: Iterable[ConsoleKeys]) -> ClaimedEnrolment:
    """Return the request that a key signed; look its token up, then call `verify_enrolment`.

    Raises:
        DocumentError: the content is not a request.
        SignatureError: sealed to another console, or another key's request.
    """
    if statement.payload_type != REQUEST_TYPE:
        raise SignatureError(f"signed as {statement.payload_type}, not as {REQUEST_TYPE}")
    request = decode_request(open_seal(statement.payload, consoles))
    if request.host != statement.host:
        raise SignatureError(f"{statement.host} signed the request of {request.host}")
    return ClaimedEnrolment(request, statement.key)


def verify_enrolment(
    claimed: ClaimedEnrolment, token: EnrolmentToken, console: ConsoleId, now: datetime
) -> VerifiedEnrolment:
    """Return the request, where its sender has the token.

    Args:
        claimed: from `open_enrolment`.
        token: the one that the request names.
        console: this console.
        now: the console's clock.

    Raises:
        SignatureError: another token or console, or the MAC is wrong.
        ExpiredError: the request is too old, or is to live longer than any may.
    """
    request = claimed.request
    if request.token != token.id or request.console != console:
        raise SignatureError("the request is for another token or another console")
    expected = token.mac(claimed.key, request.nonce, console, request.expires)
    if not hmac.compare_digest(expected, request.mac):
        raise SignatureError("the host does not have the token that it names")
    if not now < request.expires <= now + 2 * REQUEST_LIFETIME:
        raise ExpiredError(f"the request expires at {request.expires}: set the clocks, ask again")
    return VerifiedEnrolment(request, claimed.key)


def sign_answer(answer: EnrolmentAnswer, keys: ConsoleKeys) -> bytes:
    """Return an answer's envelope."""
    return keys.sign(ANSWER_TYPE, encode_answer(answer))


def verify_answer(
    content: bytes, request: EnrolmentRequest, trusted: Iterable[bytes]
) -> EnrolmentAnswer:
    """Return the console's answer to this request.

    Args:
        content: the envelope's bytes, from a relay or the console.
        request: that was sent.
        trusted: the console's public signing keys, from `fleet/console.json`.

    Raises:
        DocumentError: not an answer.
        SignatureError: not signed by the console, or the answer to another request.
    """
    envelope = decode_envelope(content, STATUS.enrolment_bytes)
    answer = decode_answer(verify_console(envelope, ANSWER_TYPE, trusted).payload)
    if (answer.host, answer.nonce) != (request.host, request.nonce):
        raise SignatureError("the answer to another request")
    return answer
