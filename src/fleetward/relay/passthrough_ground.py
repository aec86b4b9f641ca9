"""What all questions to one passthrough's upstream share: limits, counters, and the tools."""

from dataclasses import dataclass, field
from datetime import timedelta

from fleetward.adapters.clock import Clock
from fleetward.errors import NetworkError
from fleetward.httpd.client import UpstreamClient
from fleetward.relay.loops import Headers
from fleetward.relay.passthrough_rules import Rules
from fleetward.relay.passthrough_store import PassthroughStore


@dataclass(frozen=True, slots=True)
class PassthroughLimits:
    """What clients and an upstream may take from a passthrough.

    Attributes:
        max_redirects: in a row; loops end here.
        max_fills: URLs being asked for at once; 503 beyond.
        max_files: kept; a crawl through made-up names ends here.
        resumes: how often one retrieval goes on after a break.
        patience: how long a client waits for the upstream's word where something older is kept.
        min_revalidate: how often a client's `no-cache` may cause an upstream request.
        absent_lifetime: how long a 404, or a refusal, is remembered; at most 30 s.
        max_absent: such names remembered.
        failure_pause: how long a failing upstream is left alone; doubles.
        max_failure_pause: see `failure_pause`.
        max_retry_after: the longest pause that an upstream may ask for.
        wake_interval: how often waiters are told of new bytes.
        retry_after: seconds after which a client that got 503 may ask again.
    """

    max_redirects: int = 5
    max_fills: int = 64
    max_files: int = 100_000
    resumes: int = 3
    patience: timedelta = timedelta(seconds=5)
    min_revalidate: timedelta = timedelta(seconds=2)
    absent_lifetime: timedelta = timedelta(seconds=10)
    max_absent: int = 4096
    failure_pause: timedelta = timedelta(seconds=1)
    max_failure_pause: timedelta = timedelta(seconds=30)
    max_retry_after: timedelta = timedelta(minutes=10)
    wake_interval: timedelta = timedelta(milliseconds=20)
    retry_after: int = 30


class RefusedError(NetworkError):
    """The upstream answered, and its answer cannot be passed on.

    Attributes:
        is_of_upstream: whether the upstream as a whole is in trouble, not this file alone.
        pause: seconds for which it asks to be left alone; 0 where it says nothing.
    """

    def __init__(self, reason: str, *, is_of_upstream: bool = False, pause: int = 0) -> None:
        super().__init__(reason)
        self.is_of_upstream = is_of_upstream
        self.pause = pause


@dataclass(slots=True)
class PassthroughCounters:
    """Only ever counted up.

    Attributes:
        requests: of clients.
        hits: answered from the disk without asking.
        coalesced: that joined a question under way.
        stale: answered with something older, since the upstream failed.
        unavailable: answered 503.
        unverified_bytes: of bodies given to clients, which nobody verified.
        upstream_requests: made, redirects included.
        upstream_bytes: of bodies that came, useful or not.
        confirmed: kept files that the upstream said are still right.
        filled: files kept.
        resumed: upstream requests that went on in the middle.
        refused_redirects: out of the allow-list, or too many.
        failures: questions that ended badly.
    """

    requests: int = 0
    hits: int = 0
    coalesced: int = 0
    stale: int = 0
    unavailable: int = 0
    unverified_bytes: int = 0
    upstream_requests: int = 0
    upstream_bytes: int = 0
    confirmed: int = 0
    filled: int = 0
    resumed: int = 0
    refused_redirects: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class PassthroughGround:
    """What retrievals of one passthrough share.

    Attributes:
        rules: what may be asked.
        client: how.
        store: where it is kept.
        clock: dates what is kept.
        limits: see there.
        max_file: bytes of one body.
        via: what every question says of this relay, so that it knows its own (relay.loops).
        counters: see there.
    """

    rules: Rules
    client: UpstreamClient
    store: PassthroughStore
    clock: Clock
    limits: PassthroughLimits
    max_file: int
    via: Headers = ()
    counters: PassthroughCounters = field(default_factory=PassthroughCounters)

    def now(self) -> float:
        """Return the wall clock in seconds since 1970."""
        return self.clock.now().timestamp()
