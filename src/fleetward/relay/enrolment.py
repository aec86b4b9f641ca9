"""Enrolment, passed on: a new key asks the console to be known.

    POST /v1/enroll   200, 202 with the console's signed answer; 400 not a request; 409; 413; 415;
                      503 over a limit, or the console is away

Never kept: an answer belongs to one request. The relay verifies only that the new key signed the
request, so that nonsense stops here; the token is not in it, and what is in it is sealed. Every
other status of the console becomes 503, and 403 becomes 400: a relay has nothing to forbid.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import STATUS
from fleetward.core.status import HostId
from fleetward.errors import DocumentError, NetworkError, SignatureError
from fleetward.httpd.message import Answer, Request, Response
from fleetward.identity.enrolment import verify_request
from fleetward.relay.bucket import Buckets, retry_after
from fleetward.relay.carrier import Carrier, Reply
from fleetward.relay.downstream import Downstream
from fleetward.relay.part import Metric, Route
from fleetward.relay.settings import CarryLimits
from fleetward.wire.checkins import ENVELOPE_MEDIA_TYPE
from fleetward.wire.enrolment import ENROL_PATH, require_answer_to

_HEADERS: Final = (("Content-Type", ENVELOPE_MEDIA_TYPE), ("Cache-Control", "no-store"))
_MALFORMED: Final = Response(400)
_UNSUPPORTED: Final = Response(415)
_PASSED: Final = {400: 400, 403: 400, 409: 409, 413: 413}
"""The console's refusals, and what the host is told; a relay never says 403."""

_BURST: Final = 10.0


@dataclass(slots=True)
class EnrolmentCounters:
    """Only ever counted up.

    Attributes:
        passed: requests that the console answered.
        malformed: that were none, or not signed by the key that they name.
        failures: that nobody answered, or with something else than an answer.
        overloaded: answered 503 because of a limit.
    """

    passed: int = 0
    malformed: int = 0
    failures: int = 0
    overloaded: int = 0


class EnrolmentPart:
    """Passes enrolments on; a `Part`.

    Attributes:
        counters: what was done so far.
    """

    def __init__(
        self, carrier: Carrier, settings: SpoolSettings, limits: CarryLimits, clock: Clock
    ) -> None:
        """Take whom to ask, and how often."""
        self.counters = EnrolmentCounters()
        self._carrier = carrier
        self._limits = limits
        self._clock = clock
        self._downstream = Downstream(settings.downstream)
        rate = settings.enrolments_per_second
        self._clients = Buckets(rate, rate * _BURST, limits.max_clients)
        self._under_way = 0

    def routes(self) -> Iterable[Route]:
        """Answer POST of a request."""
        return (Route(ENROL_PATH, self._answer, frozenset({"POST"}), STATUS.enrolment_bytes),)

    def _answer(self, request: Request) -> Answer:
        media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != ENVELOPE_MEDIA_TYPE.encode():
            return _UNSUPPORTED
        wait = self._wait_of(request.peer)
        if wait or self._under_way >= self._limits.max_enrolments:
            self.counters.overloaded += 1
            return Response(503, (retry_after(wait or 1),))
        try:
            host = verify_request(request.body).host
        except (DocumentError, SignatureError):
            self.counters.malformed += 1
            return _MALFORMED
        return self._pass_on(host, request.body)

    def _wait_of(self, peer: str) -> float:
        """Take a request off an address's rate; return how long it has to wait, or 0."""
        if peer in self._downstream:
            return 0.0
        now = self._clock.monotonic().total_seconds()
        return self._clients.of(peer, now).take(1, now)

    async def _pass_on(self, host: HostId, body: bytes) -> Response:
        self._under_way += 1
        try:
            reply = await self._carrier.ask(
                "POST",
                ENROL_PATH,
                max_bytes=STATUS.enrolment_bytes,
                headers=(("Content-Type", ENVELOPE_MEDIA_TYPE),),
                body=body,
            )
            response = _response_to(host, reply)
        except (NetworkError, DocumentError):
            self.counters.failures += 1
            return Response(503, (retry_after(self._limits.retry.total_seconds()),))
        finally:
            self._under_way -= 1
        self.counters.passed += 1
        return response

    async def run(self) -> None:
        """Return: there is nothing to do in the background."""

    def status(self) -> Mapping[str, object]:
        """Return what was done."""
        return {"enrolment": asdict(self.counters)}

    def metrics(self) -> Iterable[Metric]:
        """Return what was done, by result."""
        for result, count in asdict(self.counters).items():
            yield Metric("enrolments_total", count, "Enrolments.", labels=(("result", result),))


def _response_to(host: HostId, reply: Reply) -> Response:
    """Return what the host gets.

    Raises:
        NetworkError: a status that is not passed on.
        DocumentError: not an answer to this host.
    """
    if reply.status in {200, 202}:
        require_answer_to(host, reply.body)
        return Response(reply.status, _HEADERS, reply.body)
    if reply.status in _PASSED:
        return Response(_PASSED[reply.status])
    raise NetworkError(f"an enrolment was answered {reply.status}")
