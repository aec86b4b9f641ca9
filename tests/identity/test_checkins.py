"""Check-ins and inboxes between a host and its console, and whoever stands in between."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.inbox import Acknowledgement, Directive, DirectiveKind, Inbox
from fleetward.core.limits import STATUS
from fleetward.core.status import CheckIn
from fleetward.errors import DocumentError, ExpiredError, RollbackError, SignatureError
from fleetward.identity.checkins import (
    open_check_in,
    open_check_ins,
    seal_check_in,
    sign_inbox,
    verify_check_in,
    verify_inbox,
)
from fleetward.wire.checkins import CHECKIN_TYPE, encode_check_in
from support.fakes import START
from support.status import CONSOLE, EPOCH, OTHER_CONSOLE, event, host_key, sealed, usual

HOST = host_key(7)
TRUSTED = [CONSOLE.public.signing]
INBOX = Inbox(
    host=HOST.id,
    seq=5,
    issued=START,
    expires=START + timedelta(hours=1),
    acks=(Acknowledgement(epoch=EPOCH, e=17),),
    directives=(Directive(id="0a1b2c3d", kind=DirectiveKind.UPDATE_NOW),),
)


def test_a_check_in_reaches_the_console() -> None:
    said = usual(HOST, events=(event(3), event(4)))
    statement = verify_check_in(seal_check_in(said, HOST, CONSOLE.public))
    assert statement.host == HOST.id
    assert open_check_in(statement, [CONSOLE]) == said


def test_a_usual_check_in_fits_one_datagram() -> None:
    """Three products, ports, a relay's name, no event; with long names there is still room."""
    envelope = seal_check_in(usual(HOST), HOST, CONSOLE.public)
    print(len(envelope), "bytes")
    assert len(envelope) <= STATUS.datagram_bytes - 64


def test_a_relay_learns_nothing_of_the_content() -> None:
    envelope = seal_check_in(usual(HOST), HOST, CONSOLE.public)
    statement = verify_check_in(envelope)
    assert b"suricata" not in statement.payload
    assert HOST.id.encode() not in statement.payload


def test_the_attacker_signs_anothers_sealed_words() -> None:
    """The attacker takes another host's seal off the wire and signs it with a key of his own.

    The seal opens, the signature is valid, and the content names somebody else.
    """
    theirs = verify_check_in(sealed(1)).payload
    mine = host_key(2).sign(CHECKIN_TYPE, theirs)
    with pytest.raises(SignatureError, match="signed the words of"):
        open_check_in(verify_check_in(mine), [CONSOLE])


def test_a_host_signs_for_itself_alone() -> None:
    with pytest.raises(SignatureError):
        seal_check_in(usual(host_key(1)), host_key(2), CONSOLE.public)


def test_a_check_in_for_another_console_does_not_open() -> None:
    statement = verify_check_in(seal_check_in(usual(HOST), HOST, OTHER_CONSOLE.public))
    with pytest.raises(SignatureError, match="another console"):
        open_check_in(statement, [CONSOLE])


def test_content_that_was_never_sealed_is_refused() -> None:
    envelope = HOST.sign(CHECKIN_TYPE, encode_check_in(usual(HOST)))
    with pytest.raises(SignatureError):
        open_check_in(verify_check_in(envelope), [CONSOLE])


def test_sealed_nonsense_is_refused() -> None:
    envelope = HOST.sign(CHECKIN_TYPE, CONSOLE.public.seal(b"{}"))
    with pytest.raises(DocumentError):
        open_check_in(verify_check_in(envelope), [CONSOLE])


def test_a_statement_of_another_type_is_no_check_in() -> None:
    statement = replace(verify_check_in(sealed(7)), payload_type="application/other")
    with pytest.raises(SignatureError, match="signed as"):
        open_check_in(statement, [CONSOLE])


def test_an_inbox_reaches_its_host() -> None:
    envelope = sign_inbox(INBOX, CONSOLE)
    assert verify_inbox(envelope, HOST.id, TRUSTED, seen=5, now=START) == INBOX


def test_the_relay_writes_an_acknowledgement_itself() -> None:
    """A relay that could acknowledge events would make hosts forget them; it has no key."""
    forged = sign_inbox(INBOX, OTHER_CONSOLE)
    with pytest.raises(SignatureError):
        verify_inbox(forged, HOST.id, TRUSTED, seen=0, now=START)


def test_the_relay_hands_out_anothers_inbox() -> None:
    envelope = sign_inbox(INBOX, CONSOLE)
    with pytest.raises(SignatureError, match="the inbox of"):
        verify_inbox(envelope, host_key(8).id, TRUSTED, seen=0, now=START)


def test_the_relay_replays_an_old_inbox() -> None:
    envelope = sign_inbox(INBOX, CONSOLE)
    with pytest.raises(RollbackError):
        verify_inbox(envelope, HOST.id, TRUSTED, seen=6, now=START)


def test_the_relay_keeps_an_inbox_back_until_it_is_too_late() -> None:
    envelope = sign_inbox(INBOX, CONSOLE)
    with pytest.raises(ExpiredError):
        verify_inbox(envelope, HOST.id, TRUSTED, seen=0, now=INBOX.expires)


def test_what_was_on_its_way_when_the_consoles_keys_were_replaced_is_still_read() -> None:
    """A host seals to the old key, a relay keeps it for a day, and the console has new keys."""
    old, new = OTHER_CONSOLE, CONSOLE
    on_its_way = verify_check_in(seal_check_in(usual(HOST, 1), HOST, old.public))
    assert open_check_in(on_its_way, [new, old]).n == 1
    with pytest.raises(SignatureError):
        open_check_in(on_its_way, [new])


def test_an_inbox_by_the_old_key_counts_until_it_is_no_longer_trusted() -> None:
    """`fleet/console.json` names both keys for a while, then the new one alone."""
    signed = sign_inbox(INBOX, OTHER_CONSOLE)
    both = [CONSOLE.public.signing, OTHER_CONSOLE.public.signing]
    assert verify_inbox(signed, HOST.id, both, seen=0, now=START) == INBOX
    with pytest.raises(SignatureError):
        verify_inbox(signed, HOST.id, TRUSTED, seen=0, now=START)


def test_a_stolen_console_key_still_cannot_speak_for_hosts() -> None:
    """Whoever has the console's keys reads everything and acknowledges everything; he forges none."""
    envelope = CONSOLE.sign(CHECKIN_TYPE, CONSOLE.public.seal(encode_check_in(usual(HOST))))
    with pytest.raises(DocumentError, match="brings the key"):
        verify_check_in(envelope)


def test_a_check_in_over_udp_is_held_to_its_length() -> None:
    long = seal_check_in(usual(HOST, relay="x" * 200), HOST, CONSOLE.public)
    assert verify_check_in(long).host == HOST.id
    with pytest.raises(DocumentError, match="where 1200 may be"):
        verify_check_in(long, STATUS.datagram_bytes)


def _foreign_words() -> bytes:
    return HOST.sign(CHECKIN_TYPE, CONSOLE.public.seal(encode_check_in(usual(host_key(1)))))


GOOD = [sealed(number, n) for number, n in ((0, 1), (0, 2), (1, 1))]
REFUSED = [
    b"",
    b"rubbish",
    GOOD[0][:-1],
    GOOD[0] + b" ",
    GOOD[0].replace(b'"sig":"', b'"sig":"AAAA', 1),
    seal_check_in(usual(HOST), HOST, OTHER_CONSOLE.public),
    HOST.sign(CHECKIN_TYPE, b"never sealed"),
    HOST.sign(CHECKIN_TYPE, CONSOLE.public.seal(b"{}")),
    HOST.sign("application/x-other", CONSOLE.public.seal(encode_check_in(usual(HOST)))),
    _foreign_words(),
]


def _one(content: bytes) -> CheckIn | None:
    try:
        return open_check_in(verify_check_in(content), [CONSOLE])
    except (DocumentError, SignatureError):
        return None


@given(st.lists(st.sampled_from(GOOD + REFUSED), max_size=12))
def test_many_are_opened_as_each_by_itself(contents: list[bytes]) -> None:
    """Whatever comes beside it, an envelope is believed or refused for what it is."""
    found = open_check_ins(contents, iter([CONSOLE]))
    assert found == [_one(content) for content in contents]


def test_of_many_only_the_good_ones_are_believed() -> None:
    found = open_check_ins([*REFUSED, *GOOD], [CONSOLE])
    assert found[: len(REFUSED)] == [None] * len(REFUSED)
    assert [(one.host, one.n) for one in found if one] == [
        (host_key(0).id, 1),
        (host_key(0).id, 2),
        (host_key(1).id, 1),
    ]
    assert open_check_ins(GOOD, [OTHER_CONSOLE]) == [None] * 3
    assert None not in open_check_ins(GOOD, [OTHER_CONSOLE, CONSOLE])
