"""Loops of chained relays, found by `Via` (RFC 9110, section 7.6.3).

Each relay draws an id when it starts. It sends `Via: 1.1 fleetward-ID` upstream, after the Via of
the request that caused it, and in its answers to relays, after the ids of those above it. A request
is answered 508 where it comes

- with the relay's own id: it went round;
- from a relay that stands above this one: it would wait for what waits for it;
- over `MAX_HOPS` relays or more.

Whoever gets the 508 takes it as the failure of that upstream: it leaves it alone for a while and
asks its next one. So a loop ends in one round. Two relays that name each other and have never
spoken may wait for each other once, until the upstream client's own time limit.

Deliberately not here: finding a loop before anybody asks. A relay does not know its upstreams' own.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Final, Protocol

from fleetward.adapters.entropy import Entropy, SystemEntropy
from fleetward.httpd.message import Answer, Repeatable, Request, Response
from fleetward.relay.part import Metric, Route

MAX_HOPS: Final = 8
"""Relays that a request may have passed: a chain that long is a mistake, or a loop of strangers."""

MAX_VIA_CHARS: Final = 1_024
"""A longer Via is refused: it would grow with each hop."""

LOOP_DETECTED: Final = Response(508)

Headers = tuple[tuple[str, str], ...]
_PREFIX: Final = "fleetward-"
_RELAY = re.compile(rf"{_PREFIX}([0-9a-f]{{16}})(?![0-9a-f])")
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_PASSED_ON: ContextVar[Headers] = ContextVar("fleetward_via", default=())
"""What requests upstream say in place of `Loops.headers`, while one with Via is being answered;
tasks that it begins inherit it."""


def passed_on() -> Headers:
    """Return the headers of a request upstream that one with Via caused; else nothing."""
    return _PASSED_ON.get()


class Upstream(Protocol):
    """An upstream, as far as its place in a chain is concerned."""

    @property
    def via(self) -> bytes:
        """The Via of its last answer; empty where it is no relay."""
        ...


class Loops:
    """A part: one relay's id, and what it makes of the Via of requests.

    Attributes:
        id: drawn anew at each start.
        refused: requests that were answered 508.
    """

    def __init__(self, upstreams: Iterable[Upstream], entropy: Entropy | None = None) -> None:
        self.id = (entropy or SystemEntropy()).token(8).hex()
        self.refused = 0
        self._upstreams = upstreams

    @property
    def headers(self) -> Headers:
        """What every request upstream says of this relay."""
        return (("Via", f"1.1 {_PREFIX}{self.id}"),)

    def answer(self, request: Request, respond: Callable[[Request], Answer]) -> Answer:
        """Return what `respond` answers, or 508 where the request came round, or too far.

        Args:
            request: a request with Via; one without needs none of this.
            respond: what answers; requests upstream that it causes carry the Via on.
        """
        via = request.headers[b"via"].decode("latin-1")
        if self._is_refused(via):
            self.refused += 1
            return self._signed(LOOP_DETECTED)
        ((_, own),) = self.headers
        headers = (("Via", f"{via}, {own}"),)
        token = _PASSED_ON.set(headers)
        try:
            answer = respond(request)
        finally:
            _PASSED_ON.reset(token)
        if isinstance(answer, Response):
            return self._signed(answer)
        if isinstance(answer, Repeatable):
            return self._repeatable(answer)
        return self._later(headers, answer)

    def _is_refused(self, via: str) -> bool:
        hops = _RELAY.findall(via)
        is_text = len(via) <= MAX_VIA_CHARS and _PRINTABLE.fullmatch(via) is not None
        return (
            not is_text or len(hops) >= MAX_HOPS or not {self.id, *self._above()}.isdisjoint(hops)
        )

    def _above(self) -> list[str]:
        """Return the ids of the relays between this one and the origin, as far as they told."""
        told = (one.via.decode("latin-1")[:MAX_VIA_CHARS] for one in self._upstreams)
        return list(dict.fromkeys(hop for via in told for hop in _RELAY.findall(via)))[:MAX_HOPS]

    def _signed(self, response: Response) -> Response:
        """Return a response that says whom it came through."""
        via = ", ".join(f"1.1 {_PREFIX}{hop}" for hop in (*self._above(), self.id))
        return replace(response, headers=(*response.headers, ("Via", via)))

    def _repeatable(self, answer: Repeatable) -> Repeatable:
        """Return the signed answer, to be repeated as long as the relays above are the same."""
        above = self._above()

        def holds() -> bool:
            return self._above() == above and answer.holds()

        return Repeatable(self._signed(answer.response), holds, answer.on_repeat)

    async def _later(self, headers: Headers, answer: Awaitable[Response]) -> Response:
        _PASSED_ON.set(headers)
        return self._signed(await answer)

    # -- as a part -------------------------------------------------------------------------------

    def routes(self) -> Iterable[Route]:
        """Return nothing: it looks at requests to all paths."""
        return ()

    async def run(self) -> None:
        """Return: there is nothing to do in the background."""

    def status(self) -> Mapping[str, object]:
        """Return the relay's id, and how many requests came round."""
        return {"id": self.id, "loops": self.refused}

    def metrics(self) -> Iterable[Metric]:
        """Return how many requests came round."""
        return (Metric("loops_total", self.refused, "Requests that came round in a loop."),)
