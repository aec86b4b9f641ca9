"""Enrolment: who has the token is known by a MAC, and whoever carries it learns nothing of use."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.enrolment import EnrolmentAnswer, EnrolmentRequest, Standing
from fleetward.errors import DocumentError, ExpiredError, SignatureError, UsageError
from fleetward.identity.enrolment import (
    REQUEST_LIFETIME,
    ClaimedEnrolment,
    EnrolmentToken,
    RequestedEnrolment,
    open_enrolment,
    request_enrolment,
    sign_answer,
    verify_answer,
    verify_enrolment,
    verify_request,
)
from fleetward.wire.enrolment import REQUEST_TYPE
from support.fakes import START, SeededEntropy
from support.status import CONSOLE, FACTS, OTHER_CONSOLE, host_key

HOST = host_key(5)
TOKEN = EnrolmentToken("0123456789abcdef", bytes(range(32)))
TRUSTED = [CONSOLE.public.signing]
ANSWER = EnrolmentAnswer(
    host=HOST.id, nonce="00" * 16, standing=Standing.APPROVED, record="host-17", issued=START
)


def requested(seed: int = 0) -> RequestedEnrolment:
    return request_enrolment(
        HOST, CONSOLE.public, TOKEN, FACTS, entropy=SeededEntropy(seed), now=START
    )


def claimed(envelope: bytes) -> ClaimedEnrolment:
    return open_enrolment(verify_request(envelope), [CONSOLE])


def test_a_host_with_the_token_is_known() -> None:
    asked = requested()
    verified = verify_enrolment(claimed(asked.envelope), TOKEN, CONSOLE.public.id, START)
    assert verified.request == asked.request
    assert verified.key == HOST.public
    assert verified.request.facts == FACTS


def test_the_mac_has_not_changed_since_it_was_fixed() -> None:
    # Computed with `openssl dgst -sha256 -mac HMAC` over the bytes that the docstring names.
    expires = datetime(2026, 11, 24, 2, 15, tzinfo=UTC)
    mac = TOKEN.mac(HOST.public, "ab" * 16, CONSOLE.public.id, expires)
    assert mac == "ebae28d0b47e9edace87f6c3c22c3a9b80016182c7950c9eabc7e7ddde03b58d"


def test_the_token_and_the_facts_are_not_on_the_wire() -> None:
    envelope = requested().envelope
    for secret in (TOKEN.text(), bytes(range(32)).hex(), TOKEN.id, FACTS.name):
        assert secret.encode() not in envelope
        assert secret.encode() not in verify_request(envelope).payload


def test_the_relay_enrols_a_key_of_its_own() -> None:
    """The relay takes the request's seal, and signs it with its own key: the content differs."""
    seal = verify_request(requested().envelope).payload
    stolen = host_key(6).sign(REQUEST_TYPE, seal)
    with pytest.raises(SignatureError, match="signed the request of"):
        claimed(stolen)


def test_an_insider_puts_another_key_under_a_known_mac() -> None:
    """Even with the opened request (a console that is read), the MAC fits one key alone."""
    request = replace(requested().request, host=host_key(6).id)
    with pytest.raises(SignatureError, match="does not have the token"):
        verify_enrolment(
            ClaimedEnrolment(request, host_key(6).public), TOKEN, CONSOLE.public.id, START
        )


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "11" * 16},
        {"expires": START + timedelta(minutes=16)},
        {"mac": "00" * 32},
    ],
)
def test_every_part_under_the_mac_is_bound(change: dict[str, object]) -> None:
    honest = claimed(requested().envelope)
    request: EnrolmentRequest = replace(honest.request, **change)  # type: ignore[arg-type]
    with pytest.raises(SignatureError):
        verify_enrolment(ClaimedEnrolment(request, honest.key), TOKEN, CONSOLE.public.id, START)


def test_a_guessed_token_is_none() -> None:
    guessed = EnrolmentToken(TOKEN.id, bytes(32))
    asked = request_enrolment(
        HOST, CONSOLE.public, guessed, FACTS, entropy=SeededEntropy(), now=START
    )
    with pytest.raises(SignatureError, match="does not have the token"):
        verify_enrolment(claimed(asked.envelope), TOKEN, CONSOLE.public.id, START)


def test_a_request_for_one_console_is_worthless_at_another() -> None:
    with pytest.raises(SignatureError, match="another console"):
        open_enrolment(verify_request(requested().envelope), [OTHER_CONSOLE])
    with pytest.raises(SignatureError, match="another token or another console"):
        verify_enrolment(claimed(requested().envelope), TOKEN, OTHER_CONSOLE.public.id, START)
    other = EnrolmentToken("f" * 16, bytes(range(32)))
    with pytest.raises(SignatureError, match="another token"):
        verify_enrolment(claimed(requested().envelope), other, CONSOLE.public.id, START)


def test_a_request_that_was_kept_back_expires() -> None:
    honest = claimed(requested().envelope)
    late = START + REQUEST_LIFETIME
    with pytest.raises(ExpiredError):
        verify_enrolment(honest, TOKEN, CONSOLE.public.id, late)


def test_a_request_from_a_clock_far_ahead_is_refused() -> None:
    honest = claimed(requested().envelope)
    with pytest.raises(ExpiredError, match="clocks"):
        verify_enrolment(honest, TOKEN, CONSOLE.public.id, START - timedelta(days=1))


def test_the_same_host_asks_twice_with_different_bytes() -> None:
    assert requested(0).request.nonce != requested(1).request.nonce


def test_the_answer_reaches_the_host() -> None:
    request = requested().request
    answer = replace(ANSWER, nonce=request.nonce)
    assert verify_answer(sign_answer(answer, CONSOLE), request, TRUSTED) == answer


def test_the_relay_answers_in_the_consoles_place() -> None:
    """A relay that could answer would tell hosts that they are known, and to whom they belong."""
    request = requested().request
    forged = sign_answer(replace(ANSWER, nonce=request.nonce), OTHER_CONSOLE)
    with pytest.raises(SignatureError):
        verify_answer(forged, request, TRUSTED)


def test_an_old_answer_is_replayed() -> None:
    with pytest.raises(SignatureError, match="another request"):
        verify_answer(sign_answer(ANSWER, CONSOLE), requested().request, TRUSTED)


def test_an_answer_to_another_host_is_refused() -> None:
    request = requested().request
    answer = replace(ANSWER, host=host_key(1).id, nonce=request.nonce)
    with pytest.raises(SignatureError, match="another request"):
        verify_answer(sign_answer(answer, CONSOLE), request, TRUSTED)


def test_a_check_in_is_no_request() -> None:
    with pytest.raises(DocumentError):
        verify_request(HOST.sign("application/other", b"x"))
    statement = replace(verify_request(requested().envelope), payload_type="application/other")
    with pytest.raises(SignatureError, match="signed as"):
        open_enrolment(statement, [CONSOLE])


# -- tokens ------------------------------------------------------------------------------------


def test_a_token_is_read_back_from_its_file() -> None:
    token = EnrolmentToken.make(SeededEntropy())
    again = EnrolmentToken.parse(f"  {token.text()}\n")
    assert again.text() == token.text()
    assert again.id == token.id
    assert len(token.text()) == 5 + 16 + 1 + 43


def test_a_token_does_not_show_its_secret() -> None:
    assert repr(TOKEN) == "EnrolmentToken(0123456789abcdef)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fwt1",
        "fwt1.0123456789abcdef",
        "fwt2.0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "fwt1.0123456789abcdeX.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "fwt1.0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh",
        "fwt1.0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9",
        "fwt1.0123456789abcdef.é",
    ],
)
def test_what_is_no_token_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        EnrolmentToken.parse(text)
    assert len(text) < 20 or text not in str(refused.value)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(UsageError):
        EnrolmentToken.parse(text)


def test_a_secret_has_its_length() -> None:
    with pytest.raises(DocumentError):
        EnrolmentToken(TOKEN.id, b"short")
    with pytest.raises(DocumentError):
        TOKEN.mac(HOST.public, "short", CONSOLE.public.id, START)
