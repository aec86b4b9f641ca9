"""Enrolment: the request, sealed and signed like a check-in, and the console's signed answer.

A relay that carries them sees a key's id, a size and, in the answer, what became of it.
"""

from typing import Final

from fleetward.core.documents import whole_second
from fleetward.core.enrolment import EnrolmentAnswer, EnrolmentRequest
from fleetward.core.limits import STATUS
from fleetward.core.status import HostId, require
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.envelope import decode_envelope

REQUEST_SCHEMA: Final = "fleetward.enrolment/1"
REQUEST_TYPE: Final = "application/vnd.fleetward.enrolment"
"""The payload's type in a request's envelope: the request, sealed to the console."""

ANSWER_SCHEMA: Final = "fleetward.enrolment-answer/1"
ANSWER_TYPE: Final = "application/vnd.fleetward.enrolment-answer+json"
ENROL_PATH: Final = "/v1/enroll"


def encode_request(request: EnrolmentRequest) -> bytes:
    """Return a request's content, before it is sealed."""
    return encode_json(REQUEST_SCHEMA, request)


def decode_request(content: bytes) -> EnrolmentRequest:
    """Return the request in opened content.

    Raises:
        DocumentError: too long, not JSON, another schema, or a value out of range.
    """
    require(len(content) <= STATUS.enrolment_bytes, f"an enrolment of {len(content)} bytes")
    return decode_json(REQUEST_SCHEMA, EnrolmentRequest, content)


def encode_answer(answer: EnrolmentAnswer) -> bytes:
    """Return an answer's payload; its instant loses what is finer than a second."""
    return encode_json(
        ANSWER_SCHEMA,
        EnrolmentAnswer(
            host=answer.host,
            nonce=answer.nonce,
            standing=answer.standing,
            record=answer.record,
            reason=answer.reason,
            issued=whole_second(answer.issued),
        ),
    )


def decode_answer(payload: bytes) -> EnrolmentAnswer:
    """Return the answer in a payload.

    Raises:
        DocumentError: as `decode_request`.
    """
    require(len(payload) <= STATUS.enrolment_bytes, f"an answer of {len(payload)} bytes")
    return decode_json(ANSWER_SCHEMA, EnrolmentAnswer, payload)


def require_answer_to(host: HostId, content: bytes) -> None:
    """Refuse an envelope, which nobody verified, that is no answer to this host.

    Raises:
        DocumentError: not an envelope, not an answer, or another host's.
    """
    envelope = decode_envelope(content, STATUS.enrolment_bytes)
    require(envelope.payload_type == ANSWER_TYPE, f"not of the type {ANSWER_TYPE}")
    answer = decode_answer(envelope.payload)
    require(answer.host == host, f"the answer to {answer.host}, not to {host}")
