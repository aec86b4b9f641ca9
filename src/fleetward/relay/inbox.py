"""Inboxes, passed on: what the console has signed for a host.

    GET /v1/inbox/HOST?after=N   200 an inbox with a greater number; 204 none; 404 no such host

However many ask, the console is asked once, and its answer holds for some seconds; so does its
silence. A relay has no key and cannot verify: it passes on what has the form of an inbox for that
host and is no longer than one may be. A false one is refused by the host, which then asks the
console itself.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import STATUS
from fleetward.core.status import HostId
from fleetward.errors import DocumentError, NetworkError
from fleetward.httpd.message import NOT_FOUND, Answer, Request, Response
from fleetward.relay.bucket import Buckets, retry_after
from fleetward.relay.carrier import Carrier
from fleetward.relay.downstream import Downstream
from fleetward.relay.flights import Flights
from fleetward.relay.part import Metric, Route
from fleetward.relay.settings import CarryLimits
from fleetward.wire.inbox import INBOX_PATH, inbox_target, parse_inbox_path, peek_inbox

_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_NOTHING: Final = Response(204, (("Cache-Control", "no-store"),))
_MALFORMED: Final = Response(400)
_BURST: Final = 10.0

_Asked = tuple[HostId, int]


@dataclass(slots=True)
class InboxCounters:
    """Only ever counted up.

    Attributes:
        hits: answered from memory, or by a request under way.
        asked: requests to the console.
        failures: that nobody answered, or with something else than an inbox.
        overloaded: requests answered 503 because of a limit.
    """

    hits: int = 0
    asked: int = 0
    failures: int = 0
    overloaded: int = 0


class InboxPart:
    """Answers for inboxes; a `Part`.

    Attributes:
        counters: what was done so far.
    """

    def __init__(
        self, carrier: Carrier, settings: SpoolSettings, limits: CarryLimits, clock: Clock
    ) -> None:
        """Take whom to ask, and how often."""
        self.counters = InboxCounters()
        self._carrier = carrier
        self._limits = limits
        self._clock = clock
        self._downstream = Downstream(settings.downstream)
        rate = settings.check_ins_per_second
        self._clients = Buckets(rate, rate * _BURST, limits.max_clients)
        self._flights: Flights[_Asked, Response] = Flights()
        self._known: OrderedDict[_Asked, tuple[float, Response]] = OrderedDict()

    def routes(self) -> Iterable[Route]:
        """Answer GET of an inbox."""
        return (Route(INBOX_PATH, self._answer, frozenset({"GET"})),)

    def _now(self) -> float:
        return self._clock.monotonic().total_seconds()

    def _answer(self, request: Request) -> Answer:
        try:
            asked = parse_inbox_path(request.path, request.query)
        except DocumentError:
            return _MALFORMED
        until, known = self._known.get(asked, (0.0, _NOTHING))
        if self._now() < until:
            self.counters.hits += 1
            return known
        if asked in self._flights:
            self.counters.hits += 1
        else:
            wait = self._wait_of(request.peer)
            if wait or len(self._flights) >= self._limits.max_inbox_requests:
                self.counters.overloaded += 1
                return Response(503, (retry_after(wait or 1),))
        return self._after(self._flights.join(asked, lambda: self._fetch(*asked)))

    def _wait_of(self, peer: str) -> float:
        """Take a request off an address's rate; return how long it has to wait, or 0."""
        if peer in self._downstream:
            return 0.0
        return self._clients.of(peer, self._now()).take(1, self._now())

    async def _after(self, flight: "asyncio.Task[Response]") -> Response:
        return await asyncio.shield(flight)

    async def _fetch(self, host: HostId, after: int) -> Response:
        self.counters.asked += 1
        try:
            response = await self._ask(host, after)
            seconds = self._limits.inbox_lifetime.total_seconds()
        except (NetworkError, DocumentError):
            self.counters.failures += 1
            response = Response(503, (retry_after(self._limits.retry.total_seconds()),))
            seconds = self._limits.first_pause.total_seconds()
        self._known[host, after] = (self._now() + seconds, response)
        self._known.move_to_end((host, after))
        while len(self._known) > self._limits.max_inboxes:
            self._known.popitem(last=False)
        return response

    async def _ask(self, host: HostId, after: int) -> Response:
        """Return what the console answers.

        Raises:
            NetworkError: nobody answered, or with another status.
            DocumentError: not an inbox for this host.
        """
        target = inbox_target(host, after)
        reply = await self._carrier.ask("GET", target, max_bytes=STATUS.inbox_bytes)
        if reply.status == 200:
            is_new = peek_inbox(reply.body, host) > after
            return Response(200, _HEADERS, reply.body) if is_new else _NOTHING
        if reply.status == 204:
            return _NOTHING
        if reply.status == 404:
            return NOT_FOUND
        raise NetworkError(f"an inbox was answered {reply.status}")

    async def run(self) -> None:
        """End what is under way, once cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._flights.cancel()

    def status(self) -> Mapping[str, object]:
        """Return what was done."""
        return {"inbox": asdict(self.counters)}

    def metrics(self) -> Iterable[Metric]:
        """Return what was done, by result."""
        for result, count in asdict(self.counters).items():
            yield Metric(
                "inbox_total", count, "Requests for inboxes.", labels=(("result", result),)
            )
