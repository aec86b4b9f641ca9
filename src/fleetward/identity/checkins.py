"""Check-ins and inboxes, signed and verified: what host and console call.

Verifying a check-in, in this order; each step has its own error and its own test:

    1. its form, its length, and that the key it brings is the one that its keyid names
       (wire.envelope, DocumentError)
    2. the signature (dsse.verify_host, SignatureError); relays stop here
    3. the seal (SignatureError), the content's form (DocumentError)
    4. that the content names the signer as its host (SignatureError): otherwise anybody could sign
       another host's sealed words as his own

The console still owes: is the host enrolled and not revoked; is (epoch, n) newer than what it has;
has it each event already.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TypeVar

from fleetward.core.inbox import Inbox
from fleetward.core.limits import STATUS
from fleetward.core.status import CheckIn, HostId
from fleetward.errors import DocumentError, ExpiredError, RollbackError, SignatureError
from fleetward.identity.consoles import ConsoleKeys, ConsolePublic, open_seal
from fleetward.identity.dsse import HostStatement, verify_console, verify_host
from fleetward.identity.hosts import HostKey
from fleetward.wire.checkins import CHECKIN_TYPE, decode_check_in, encode_check_in
from fleetward.wire.envelope import decode_envelope, decode_self_signed
from fleetward.wire.inbox import INBOX_TYPE, decode_inbox, encode_inbox

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def seal_check_in(check_in: CheckIn, key: HostKey, console: ConsolePublic) -> bytes:
    """Return the envelope of a check-in; at most `STATUS.datagram_bytes` may go over UDP.

    Args:
        check_in: whose `host` is `key.id`.
        key: of the host.
        console: to whom it is sealed.

    Raises:
        SignatureError: the check-in is another host's.
    """
    if check_in.host != key.id:
        raise SignatureError(f"a check-in of {check_in.host} cannot be signed by {key.id}")
    return key.sign(CHECKIN_TYPE, console.seal(encode_check_in(check_in)))


def verify_check_in(content: bytes, max_bytes: int = STATUS.envelope_bytes) -> HostStatement:
    """Return a check-in as far as a relay can verify it: steps 1 and 2.

    Args:
        content: the envelope's bytes.
        max_bytes: `STATUS.datagram_bytes` where it came over UDP.

    Raises:
        DocumentError: not a check-in's envelope.
        SignatureError: not signed by the host that it names.
    """
    return verify_host(decode_self_signed(content, max_bytes, CHECKIN_TYPE))


def open_check_in(statement: HostStatement, consoles: Iterable[ConsoleKeys]) -> CheckIn:
    """Return what a verified host said: steps 3 and 4.

    Args:
        statement: from `verify_check_in`.
        consoles: the console's present keys, then those just replaced.

    Raises:
        DocumentError: the content is not a check-in.
        SignatureError: not a check-in's statement, sealed to another console, or another host's.
    """
    return _said(_unsealed(statement, consoles))


def open_check_ins(
    contents: Iterable[bytes], consoles: Iterable[ConsoleKeys]
) -> list[CheckIn | None]:
    """Return what many hosts said; None for each that `verify_check_in` or `open_check_in` refuses.

    Each step is done for all before the next one: so a core keeps the step's code and tables at
    hand, which makes all of it an eighth cheaper than envelope by envelope.

    Args:
        contents: the envelopes' bytes.
        consoles: the console's present keys, then those just replaced.
    """
    keys = tuple(consoles)
    signed = _each(
        contents, lambda one: decode_self_signed(one, STATUS.envelope_bytes, CHECKIN_TYPE)
    )
    statements = _each(signed, verify_host)
    return _each(_each(statements, lambda one: _unsealed(one, keys)), _said)


def _each(given: Iterable[_Given | None], step: Callable[[_Given], _Made]) -> list[_Made | None]:
    """Return what `step` makes of each; None of what it refuses, and of None."""
    made: list[_Made | None] = []
    for one in given:
        try:
            made.append(None if one is None else step(one))
        except (DocumentError, SignatureError):
            made.append(None)
    return made


def _unsealed(
    statement: HostStatement, consoles: Iterable[ConsoleKeys]
) -> tuple[HostStatement, bytes]:
    if statement.payload_type != CHECKIN_TYPE:
        raise SignatureError(f"signed as {statement.payload_type}, not as {CHECKIN_TYPE}")
    return statement, open_seal(statement.payload, consoles)


def _said(unsealed: tuple[HostStatement, bytes]) -> CheckIn:
    statement, content = unsealed
    check_in = decode_check_in(content)
    if check_in.host != statement.host:
        raise SignatureError(f"{statement.host} signed the words of {check_in.host}")
    return check_in


def sign_inbox(inbox: Inbox, keys: ConsoleKeys) -> bytes:
    """Return an inbox's envelope."""
    return keys.sign(INBOX_TYPE, encode_inbox(inbox))


def verify_inbox(
    content: bytes, host: HostId, trusted: Iterable[bytes], *, seen: int, now: datetime
) -> Inbox:
    """Return what the console has for this host.

    Args:
        content: the envelope's bytes, from a relay or the console.
        host: who reads it.
        trusted: the console's public signing keys, from `fleet/console.json`.
        seen: the greatest number that this host has accepted; 0 for none. The caller keeps it.
        now: the caller's best knowledge of time.

    Raises:
        DocumentError: not an inbox.
        SignatureError: not signed by the console, or for another host.
        ExpiredError: too old to be acted on.
        RollbackError: its number is below one that was accepted before.
    """
    envelope = decode_envelope(content, STATUS.inbox_bytes)
    inbox = decode_inbox(verify_console(envelope, INBOX_TYPE, trusted).payload)
    if inbox.host != host:
        raise SignatureError(f"the inbox of {inbox.host}, not of {host}")
    if inbox.seq < seen:
        raise RollbackError(f"inbox {inbox.seq} came after inbox {seen}: an old one was replayed")
    if inbox.expires <= now:
        raise ExpiredError(f"the inbox expired at {inbox.expires}: wait for the next")
    return inbox
