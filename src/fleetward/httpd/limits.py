"""Every limit of the data plane: a name, a unit, a default, and the attack that it stops."""

from dataclasses import dataclass
from datetime import timedelta

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What clients may take from a server.

    Attributes:
        max_head_bytes: request line and headers together; absurd headers fill memory (431).
        max_target_bytes: the request target; no path of a repository comes near it (414).
        max_pipelined_bytes: bytes read ahead of the request being answered, beside one read of 32
            KiB; a flood of pipelined requests stays in the kernel, and so with its sender. Ten
            thousand long polls that each send on take half a gigabyte at most.
        max_bodies_bytes: bodies of requests in memory, of all connections together; one more is
            answered 503. Ten thousand clients that send a megabyte each fill memory.
        max_bodies_bytes_per_peer: the same of one client, so that one does not shut out the others.
        requests_per_turn: answers to one connection before the others have their turn.
        max_connections: open connections; one more is answered 503.
        max_connections_per_peer: the same for one address (of IPv6: one /64); generous, since a
            whole site may sit behind one (NAT, a proxy). A single host cannot take all of
            `max_connections`.
        max_repeats: answers kept for the same request bytes (`httpd.repeats`).
        max_repeat_head_bytes: longer heads are not kept there; made-up heads fill memory.
        max_repeat_bytes: all such answers together.
        head_timeout: from a head's first byte to its last, however it trickles (slowloris).
        body_timeout: the same for a body.
        idle_timeout: a kept connection without a request.
        stall_timeout: a client that reads less than `min_stall_bytes` in this time is cut.
        min_stall_bytes: see `stall_timeout`; a byte now and then must not hold a connection.
        linger: how long a refused client may take to read why, before the reset.
        stop_timeout: how long running answers may take once the server stops.
        sweep_interval: how often deadlines are looked at; their precision.
        tls_handshake_timeout: a client that connects and never shakes hands.
        backlog: connections that wait in the kernel to be accepted.
    """

    max_head_bytes: int = 8 * KIB
    max_target_bytes: int = 2 * KIB
    max_pipelined_bytes: int = 16 * KIB
    max_bodies_bytes: int = 64 * MIB
    max_bodies_bytes_per_peer: int = 16 * MIB
    requests_per_turn: int = 64
    max_connections: int = 20_000
    max_connections_per_peer: int = 1024
    max_repeats: int = 2048
    max_repeat_head_bytes: int = 1 * KIB
    max_repeat_bytes: int = 16 * MIB
    head_timeout: timedelta = timedelta(seconds=10)
    body_timeout: timedelta = timedelta(seconds=30)
    idle_timeout: timedelta = timedelta(seconds=75)
    stall_timeout: timedelta = timedelta(seconds=30)
    min_stall_bytes: int = 16 * KIB
    linger: timedelta = timedelta(seconds=2)
    stop_timeout: timedelta = timedelta(seconds=10)
    sweep_interval: timedelta = timedelta(seconds=0.5)
    tls_handshake_timeout: timedelta = timedelta(seconds=10)
    backlog: int = 1024


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What serving a repository may keep in memory.

    Attributes:
        max_cached_file: bytes; longer files are sent from the disk by the kernel.
        max_cached_bytes: all cached files together; a crawl through small files ends here.
        max_cached_files: the same in number, since an empty file costs memory too.
    """

    max_cached_file: int = 256 * KIB
    max_cached_bytes: int = 32 * MIB
    max_cached_files: int = 4096


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What an upstream may take from us.

    Attributes:
        connect_timeout: an upstream that does not answer SYN or shake hands.
        head_timeout: from our request to the end of its response head.
        read_timeout: an upstream that stops in the middle of a body.
        min_bytes_per_second: slow retrieval: measured over each `rate_window`.
        rate_window: how long a body may stay under the minimum rate.
        max_head_bytes: response head; endless headers.
        read_ahead_bytes: body bytes held in memory before reading pauses.
        max_idle: kept connections to one upstream.
        idle_timeout: a kept connection older than this is not used again.
    """

    connect_timeout: timedelta = timedelta(seconds=10)
    head_timeout: timedelta = timedelta(seconds=20)
    read_timeout: timedelta = timedelta(seconds=20)
    min_bytes_per_second: int = 512
    rate_window: timedelta = timedelta(seconds=10)
    max_head_bytes: int = 16 * KIB
    read_ahead_bytes: int = 1 * MIB
    max_idle: int = 8
    idle_timeout: timedelta = timedelta(seconds=30)
