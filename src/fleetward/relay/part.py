"""A part of a relay: what it answers, what it does in the background, what it tells of itself.

The relay is its cache and a list of parts (`relay.server` puts them together), so that each
service (pushes, check-ins, mirrors) stands in a module of its own and none knows another.
"""

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from fleetward.httpd.message import Answer, Request


@dataclass(frozen=True, slots=True)
class Route:
    """Where a part answers.

    Attributes:
        path: exact; or everything under it, where it ends with `/`.
        answer: as `httpd.message.Handler.answer`; called in the event loop, must not block.
        methods: others are answered 405.
        max_body: bytes of body that a request may bring.
        authority: set where it answers only requests in absolute form (to a proxy) for this
            `scheme://host[:port]`; such requests for any other authority get what the relay
            itself has under their path, and nothing is ever fetched for them.
    """

    path: str
    answer: Callable[[Request], Answer]
    methods: frozenset[str] = frozenset({"GET", "HEAD"})
    max_body: int = 0
    authority: str = ""


class Kind(enum.Enum):
    """What Prometheus calls the type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of `GET /metrics`.

    Attributes:
        name: without `fleetward_relay_`; a counter's ends in `_total`.
        value: now.
        help: one sentence.
        kind: counter or gauge.
        labels: few, and bounded in number.
    """

    name: str
    value: float
    help: str
    kind: Kind = Kind.COUNTER
    labels: tuple[tuple[str, str], ...] = ()


class Part(Protocol):
    """One service of a relay."""

    def routes(self) -> Iterable[Route]:
        """Return where it answers; asked once."""
        ...

    async def run(self) -> None:
        """Do its work in the background until cancelled; return at once where there is none.

        An exception that leaves it ends the relay, so whatever the network, the disk or a client
        does is dealt with inside.

        Raises:
            ConfigurationError: a setting that shows itself as wrong only now (an address that is
                taken).
        """
        ...

    def status(self) -> Mapping[str, object]:
        """Return its part of `GET /v1/relay`: JSON values under names of its own."""
        ...

    def metrics(self) -> Iterable[Metric]:
        """Return its part of `GET /metrics`."""
        ...
