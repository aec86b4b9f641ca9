"""What a relay is told, and every limit of it with the attack or accident that it stops."""

import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from fleetward.config.relay import (
    BandwidthSettings,
    ClientSettings,
    DiscoverySettings,
    MirrorSettings,
    PassthroughSettings,
    PushSettings,
    SpoolSettings,
    StorageSettings,
)
from fleetward.core.limits import GIB, KIB, MIB
from fleetward.errors import ConfigurationError
from fleetward.httpd.limits import ClientLimits, ServerLimits
from fleetward.httpd.tls import TlsFiles

MAX_LIFETIME = timedelta(seconds=30)
"""The longest that a conditional poll or a 404 may be answered from memory."""


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """What clients and upstreams may take from a relay.

    Attributes:
        timestamp_lifetime: how long a timestamp is served before it is asked for again; at most
            30 s, since agents judge freshness by what it says.
        patience: how long a client waits for a new timestamp before it gets the last known one.
        absent_lifetime: how long a 404 is remembered; at most 30 s, since a kept 404 of
            N+1.root.json would hide a new root.
        max_absent: remembered 404s; a crawl through made-up names ends here.
        revalidate_interval: how often a client's `no-cache` may cause an upstream request.
        max_document_bytes: one metadata or target file (endless data).
        max_documents_bytes: all of them on disk; beyond it they are served and not kept.
        max_unkept_bytes: those that the disk did not take, in memory.
        document_deadline: the whole of one document, however it trickles (slow retrieval).
        max_upstream_requests: documents being asked for at once; 503 beyond.
        max_fills: blobs being filled at once; 503 beyond.
        max_blob_bytes: a longer blob is refused.
        held_back_bytes: the end of a blob that no client gets before the digest is verified.
        wake_interval: how often those who wait for a filling blob are told of new bytes; waking
            hundreds for every packet would cost more than sending.
        resumes: how often a fill that made progress asks the same source again.
        false_source_pause: how long a source that sent a wrong digest is put aside.
        failure_pause: how long a failing source is left alone; doubles up to `max_failure_pause`.
        max_failure_pause: see `failure_pause`.
        disk_pause: how long nothing is written after the disk was full, so that the WAN is not
            spent on bytes that cannot be kept; what clients need meanwhile goes through memory.
        max_memory_bytes: blobs that are carried through memory where the disk has no room, all
            together; one more is answered 503.
        memory_linger: how long such a blob can still be had after anybody last asked for it.
        storage_interval: how often retention, quota and free space are looked at, and access
            times written.
        touch_interval: how precisely access times survive a restart; each costs a write.
        eviction_slice: blobs looked at or removed in one go, so that a big folder holds nobody up.
        partial_lifetime: how long the beginning of a blob waits for a resume.
        max_partials: beginnings of blobs; an upstream that breaks off each blob ends here.
        passthrough_linger: how long a blob that is not kept can still be had after it has come.
        max_closure_documents: documents that one timestamp may lead to; 0 follows none.
        max_closure_depth: roles that delegate to each other in a row; each is a task that waits for
            the next, and to cancel a thousand of them in a row would end the relay.
        max_closure_bytes: all of them together; a lying upstream wastes no more.
        max_closure_blobs: blobs that one timestamp may lead to.
        closure_requests: documents of the closure asked for at once.
        closure_retry: pause after a closure could not be read; doubles up to `max_closure_retry`.
        max_closure_retry: see `closure_retry`.
        prefetch_retry: pause before blobs that could not be prefetched are tried again.
        prefetch_tries: how often.
        prefetch_pause: before a blob that gave way, or may not begin now, is begun again.
        max_clients: clients whose budgets are remembered; one that is pushed out begins anew.
        unknown_closure_factor: how many times larger the miss budget is while the relay does not
            know what the current timestamp needs (first start, dead upstream).
    """

    timestamp_lifetime: timedelta = timedelta(seconds=3)
    patience: timedelta = timedelta(seconds=5)
    absent_lifetime: timedelta = timedelta(seconds=3)
    max_absent: int = 4096
    revalidate_interval: timedelta = timedelta(seconds=2)
    max_document_bytes: int = 5 * MIB
    max_documents_bytes: int = 256 * MIB
    max_unkept_bytes: int = 16 * MIB
    document_deadline: timedelta = timedelta(seconds=60)
    max_upstream_requests: int = 64
    max_fills: int = 32
    max_blob_bytes: int = 16 * GIB
    held_back_bytes: int = 16 * KIB
    wake_interval: timedelta = timedelta(milliseconds=20)
    resumes: int = 3
    false_source_pause: timedelta = timedelta(minutes=10)
    failure_pause: timedelta = timedelta(seconds=1)
    max_failure_pause: timedelta = timedelta(seconds=30)
    disk_pause: timedelta = timedelta(seconds=30)
    max_memory_bytes: int = 64 * MIB
    memory_linger: timedelta = timedelta(seconds=60)
    storage_interval: timedelta = timedelta(seconds=60)
    touch_interval: timedelta = timedelta(hours=1)
    eviction_slice: int = 512
    partial_lifetime: timedelta = timedelta(days=1)
    max_partials: int = 256
    passthrough_linger: timedelta = timedelta(seconds=10)
    max_closure_documents: int = 16_384
    max_closure_depth: int = 32
    max_closure_bytes: int = 64 * MIB
    max_closure_blobs: int = 65_536
    closure_requests: int = 8
    closure_retry: timedelta = timedelta(seconds=5)
    max_closure_retry: timedelta = timedelta(minutes=5)
    prefetch_retry: timedelta = timedelta(seconds=60)
    prefetch_tries: int = 5
    prefetch_pause: timedelta = timedelta(seconds=1)
    max_clients: int = 16_384
    unknown_closure_factor: int = 10

    def __post_init__(self) -> None:
        """Refuse lifetimes that would hide a new timestamp or root from a whole site.

        Raises:
            ConfigurationError: a lifetime over 30 s.
        """
        if max(self.timestamp_lifetime, self.absent_lifetime) > MAX_LIFETIME:
            raise ConfigurationError(
                "a relay may keep a timestamp or a 404 for at most "
                f"{MAX_LIFETIME.total_seconds():g} s: lower the lifetime"
            )


@dataclass(frozen=True, slots=True)
class PushLimits:
    """What news, true or forged, may make a relay do.

    Attributes:
        first_pause: after a long poll that failed or whose news were none; it doubles up to
            `PushSettings.poll`, so that a server which answers at once is asked no faster than
            by polls.
        unable_pause: how long an upstream without long polls is polled before it is asked for
            one again.
        hint_interval: announcements cause at most one upstream request in this time, however
            many are heard; it doubles while they turn out false (a flood of forged ones).
        max_hint_interval: see `hint_interval`.
        announce_interval: how often the relay announces at most; an upstream whose timestamp
            changes all the time must not make it a source of floods.
        datagrams_per_turn: datagrams read before others have their turn.
        join_interval: how often the groups are joined anew, for interfaces that came later.
    """

    first_pause: timedelta = timedelta(seconds=1)
    unable_pause: timedelta = timedelta(minutes=10)
    hint_interval: timedelta = timedelta(seconds=1)
    max_hint_interval: timedelta = timedelta(seconds=30)
    announce_interval: timedelta = timedelta(seconds=1)
    datagrams_per_turn: int = 64
    join_interval: timedelta = timedelta(minutes=1)


QUIET = PushSettings(watch=False, poll=timedelta(), udp=False, announce=False)
"""Asks and tells only who asks: what a relay does that was made in code, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class CarryLimits:
    """What check-ins, inboxes and enrolments may take from a relay, beside `[spool]`.

    Attributes:
        segment_bytes: one file of the spool.
        worth_removing_bytes: a segment that is read to its end is ended and removed from this
            length on; a shorter one is written on.
        read_attempts: how often a segment that cannot be read is tried before it counts as damaged
            and what comes after it is sent.
        max_aside: check-ins that the console refused for good and that are kept for people.
        max_waiting_bytes: check-ins whose fsync is under way or next; 503 beyond.
        verified_per_turn: signatures that are verified before others have their turn (60 us each).
        max_datagrams: that wait to be verified; more are dropped.
        all_datagrams_per_second: of all addresses together, since addresses are forged.
        max_clients: addresses whose rates are remembered.
        answer_seconds: how long the console may take to answer a batch, an inbox or an enrolment.
        first_pause: after a failure of the console; doubles up to `max_pause`, with jitter.
        max_pause: see `first_pause`.
        refusals: how often a batch of which the console takes nothing is offered before it is set
            aside: whoever refuses everything is more likely broken than right.
        inbox_lifetime: how long an inbox, or the word that there is none, is answered from memory.
        max_inboxes: so many are held.
        max_inbox_requests: inboxes being asked for at once; 503 beyond.
        max_hops: relays in a chain; a check-in that went through more goes round in a circle.
        max_enrolments: enrolments under way at once; 503 beyond.
        retry: what a client is told to wait where the spool is full or the console is away.
    """

    segment_bytes: int = 4 * MIB
    worth_removing_bytes: int = 256 * KIB
    read_attempts: int = 5
    max_aside: int = 100
    max_waiting_bytes: int = 16 * MIB
    verified_per_turn: int = 32
    max_datagrams: int = 4_096
    all_datagrams_per_second: float = 2_000.0
    max_clients: int = 16_384
    answer_seconds: float = 30.0
    first_pause: timedelta = timedelta(seconds=1)
    max_pause: timedelta = timedelta(minutes=5)
    refusals: int = 5
    inbox_lifetime: timedelta = timedelta(seconds=5)
    max_inboxes: int = 2_048
    max_inbox_requests: int = 64
    max_hops: int = 8
    max_enrolments: int = 64
    retry: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        """Refuse a lifetime that would hide an inbox, or a host, for long.

        Raises:
            ConfigurationError: a lifetime over 30 s.
        """
        if self.inbox_lifetime > MAX_LIFETIME:
            raise ConfigurationError(
                f"a relay may keep an inbox for at most {MAX_LIFETIME.total_seconds():g} s"
            )


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Everything `run_relay` needs.

    Attributes:
        upstreams: URLs of origins or relays, in the order in which they are asked.
        cache: folder for blobs and documents; made where it is absent.
        host: address to listen on.
        port: 0 takes a free one.
        tls: set to serve https.
        upstream_tls: for https upstreams; None takes the system's certificate authorities.
        proxy: URL of an HTTP proxy towards the upstreams; empty for none.
        limits: of the relay itself.
        server_limits: of the connections from clients.
        client_limits: of the connections to upstreams.
        console: URL of the console; empty where check-ins are not carried.
        storage: what the cache may keep.
        bandwidth: what may be taken from upstreams.
        clients: what clients may take.
        push: how news travel.
        push_limits: what news may make the relay do.
        spool: check-ins on their way.
        carry_limits: what else carrying status may take.
        discovery: how hosts find this relay.
        mirrors: what is served to software without an agent.
        passthroughs: unsigned upstreams that are cached.
    """

    upstreams: tuple[str, ...]
    cache: Path
    host: str = "127.0.0.1"
    port: int = 2967
    tls: ssl.SSLContext | TlsFiles | None = None
    upstream_tls: ssl.SSLContext | None = None
    proxy: str = ""
    limits: RelayLimits = field(default_factory=RelayLimits)
    server_limits: ServerLimits = field(default_factory=ServerLimits)
    client_limits: ClientLimits = field(default_factory=ClientLimits)
    console: str = ""
    storage: StorageSettings = field(default_factory=StorageSettings)
    bandwidth: BandwidthSettings = field(default_factory=BandwidthSettings)
    clients: ClientSettings = field(default_factory=ClientSettings)
    push: PushSettings = QUIET
    push_limits: PushLimits = field(default_factory=PushLimits)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    carry_limits: CarryLimits = field(default_factory=CarryLimits)
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    mirrors: tuple[MirrorSettings, ...] = ()
    passthroughs: tuple[PassthroughSettings, ...] = ()


def server_limits(clients: ClientSettings) -> ServerLimits:
    """Return the data plane's limits for what `[clients]` says."""
    return ServerLimits(
        max_connections=clients.max_connections,
        max_connections_per_peer=clients.max_connections_per_client,
    )
