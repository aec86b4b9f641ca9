"""Who takes status on: the console, or where none is configured, the upstream relays.

The next of several upstreams is asked where one is away, or does not carry (an origin answers 404
for these paths). Nothing is decided here: the caller gets a status and at most so many bytes.

Deliberately not here: trust. What comes back is verified by the host, what goes out by the console.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fleetward.errors import NetworkError, SlowTransferError
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.relay.loops import Headers, passed_on
from fleetward.relay.settings import RelaySettings
from fleetward.relay.sources import Source, Sources

_FINAL_REFUSALS: Final = frozenset({400, 409, 410, 413, 415, 422})
"""What the next upstream would answer too."""

_LONGEST_WAIT: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered.

    Attributes:
        status: the HTTP status; never 1xx.
        body: all of it.
        retry_after: seconds that it asks to wait; 0 where it does not.
    """

    status: int
    body: bytes
    retry_after: float


@dataclass(frozen=True, slots=True)
class _Target:
    client: UpstreamClient
    always: Headers
    source: Source | None = None


class Carrier:
    """Sends requests on.

    Attributes:
        names: whom it asks, in order.
    """

    def __init__(self, settings: RelaySettings, sources: Sources) -> None:
        """Take whom to ask; nothing is connected yet.

        Args:
            settings: console, proxy, TLS and limits.
            sources: the upstreams, which also know what every request upstream says (`Via`).

        Raises:
            ConfigurationError: the console's URL is none.
        """
        self._seconds = settings.carry_limits.answer_seconds
        self._sources = tuple(sources)
        self._console = _console(settings) if settings.console else None
        self.names = tuple(str(target.client.endpoint) for target in self._targets())

    def _targets(self) -> list[_Target]:
        if self._console is not None:
            always = self._sources[0].headers if self._sources else ()
            return [_Target(self._console, always)]
        return [_Target(source.client, source.headers, source) for source in self._sources]

    async def ask(
        self,
        method: str,
        target: str,
        *,
        max_bytes: int,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> Reply:
        """Return the answer of the first who takes the request, or the last one's refusal.

        Args:
            method: GET or POST; both may arrive twice.
            target: path and query.
            max_bytes: a longer answer is a failure.
            headers: beside the usual ones.
            body: of a POST.

        Raises:
            NetworkError: nobody answered in time and in bounds.
        """
        problem = NetworkError("there is nobody who takes status on")
        refusal: Reply | None = None
        for one in self._targets():
            every = (*(passed_on() or one.always), *headers)
            try:
                reply = await self._ask(one, method, target, every, body, max_bytes)
            except NetworkError as error:
                problem = error
                continue
            if reply.status < 400 or reply.status in _FINAL_REFUSALS:
                return reply
            refusal = reply
        if refusal is None:
            raise problem
        return refusal

    async def _ask(  # noqa: PLR0917 (a request has so many parts)
        self,
        whom: _Target,
        method: str,
        target: str,
        headers: Headers,
        body: bytes,
        max_bytes: int,
    ) -> Reply:
        seconds, client = self._seconds, whom.client
        try:
            async with asyncio.timeout(2 * seconds):
                asked = await client.request(method, target, headers, body=body, seconds=seconds)
                async with asked as response:
                    if whom.source is not None:
                        whom.source.note_via(response)
                    wait = _seconds_of(response.headers.get(b"retry-after", b""))
                    content = await response.read(max_bytes, seconds)
                    return Reply(response.status, content, wait)
        except TimeoutError as error:
            raise SlowTransferError(f"{client.endpoint} took more than {seconds:g} s") from error

    def close(self) -> None:
        """Close the kept connections to the console."""
        if self._console is not None:
            self._console.close()


def _console(settings: RelaySettings) -> UpstreamClient:
    return UpstreamClient(
        Endpoint.upstream(settings.console),
        limits=settings.client_limits,
        tls=settings.upstream_tls,
        proxy=Endpoint.proxy(settings.proxy) if settings.proxy else None,
    )


def _seconds_of(value: bytes) -> float:
    """Return what Retry-After says in seconds; 0 for a date or nonsense."""
    return min(float(value), _LONGEST_WAIT) if value.isdigit() and len(value) < 10 else 0.0
