"""The relay's settings: the TOML file of `fleetward relay run --config`.

Flags of the command line win over the file. Sizes are bytes, durations seconds, rates bytes per
second. An absent table means its defaults.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

from fleetward.adapters.disk import Disk
from fleetward.config.addresses import require_group, require_host_and_port
from fleetward.config.strict import load_settings
from fleetward.core.limits import GIB, MIB, STATUS
from fleetward.core.names import parse_product
from fleetward.errors import ConfigurationError, UsageError

_PASSTHROUGH_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_OWN_PATHS = ("/v1/", "/mirror/", "/passthrough/", "/metadata/", "/targets/", "/blobs/")
_DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFileSettings:
    """`[tls]`: serve https. Changed files are taken up without a restart.

    Attributes:
        certificate: PEM file, the server's certificate first.
        key: PEM file of its key.
        client_ca: PEM file of the authorities whose client certificates are accepted.
        require_client_certificate: whether a client without one is refused.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    require_client_certificate: bool = False

    def __post_init__(self) -> None:
        if self.require_client_certificate and self.client_ca is None:
            raise ConfigurationError(
                "tls.require_client_certificate needs tls.client_ca: the PEM file of the "
                "authorities that sign the clients' certificates"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """`[storage]`: what the cache may keep.

    Attributes:
        quota: bytes of blobs; what the current timestamp needs is never evicted, and where that
            alone is larger, blobs are passed through and not kept. 0 is no quota.
        retention_days: a blob that the current timestamp does not need, and that nobody asked for
            in so many days, is removed. 0 keeps it for ever.
        min_free: bytes of the disk that are left to others; below it nothing new is kept.
        prefetch: whether what most hosts will take next is fetched before they ask: of each
            channel the smallest delta from its previous release, or the pack of a first one.
        prefetch_all: also the packs and the deltas from older releases, smallest first. Hosts that
            were away long are then served without the WAN, which carries far more.
        prefetch_products: only of these; empty is all.
    """

    quota: int = 20 * GIB
    retention_days: float = 30.0
    min_free: int = 256 * MIB
    prefetch: bool = True
    prefetch_all: bool = False
    prefetch_products: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.quota, self.retention_days, self.min_free) < 0:
            raise ConfigurationError(
                "storage.quota, retention_days and min_free are 0 or more: 0 turns each off"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSettings:
    """`[[bandwidth.schedule]]`: another rate at some hours; the first that fits is taken.

    Attributes:
        rate: bytes per second from all upstreams together; 0 is no limit.
        days: of the week, `mon` to `sun`; empty is every day.
        start: `HH:MM`, local time of the relay.
        end: `HH:MM`; one before `start` is on the next day.
    """

    rate: int
    days: tuple[str, ...] = ()
    start: str = "00:00"
    end: str = "24:00"

    def __post_init__(self) -> None:
        wrong = [day for day in self.days if day not in _DAY_NAMES]
        if wrong:
            raise ConfigurationError(
                f"bandwidth.schedule.days has {wrong[0]!r}: write {', '.join(_DAY_NAMES)}"
            )
        start, end = minutes_of(self.start), minutes_of(self.end)
        if start in {end, 24 * 60}:
            raise ConfigurationError(
                f"bandwidth.schedule from {self.start} to {self.end} is no span of time: write "
                "00:00 to 24:00 for the whole day"
            )
        if self.rate < 0:
            raise ConfigurationError("bandwidth.schedule.rate is 0 or more: 0 is no limit")


def minutes_of(text: str) -> int:
    """Return `HH:MM` as minutes since midnight, up to `24:00`.

    Raises:
        ConfigurationError: another form.
    """
    hours, colon, minutes = text.partition(":")
    if not (colon and len(hours) == len(minutes) == 2 and (hours + minutes).isdecimal()):
        raise ConfigurationError(f"{text!r} is no time of day: write HH:MM, as in 07:30")
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > 24 * 60:
        raise ConfigurationError(f"{text!r} is no time of day: it ends at 24:00")
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class BandwidthSettings:
    """`[bandwidth]`: what may be taken from the upstreams, at most.

    Attributes:
        rate: bytes per second of all upstream bodies together; 0 is no limit. Metadata is counted
            and never kept waiting, since it is small and tells of attacks.
        max_downloads: blobs fetched from upstreams at once; others wait their turn.
        schedule: other rates at some hours.
    """

    rate: int = 0
    max_downloads: int = 8
    schedule: tuple[ScheduleSettings, ...] = ()

    def __post_init__(self) -> None:
        if self.rate < 0 or self.max_downloads < 1:
            raise ConfigurationError("bandwidth.rate is 0 or more, max_downloads 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """`[clients]`: what one client, or all, may take.

    Attributes:
        max_connections: open at once, of all clients.
        max_connections_per_client: open at once, of one address.
        rate: bytes per second of blobs and mirrored files to one address; 0 is no limit.
        requests_per_second: of one address, with a burst of ten times as many; 0 is no limit.
        misses_per_minute: how many blobs outside the current timestamp's closure one address may
            make the relay fetch (a crawl through old names must not fill the WAN link); 0 is no
            limit.
        document_misses_per_minute: the same for metadata and targets, asked for under names that
            the relay does not have; a host that was away for long walks all roots since; 0 is no
            limit.
    """

    max_connections: int = 10_000
    max_connections_per_client: int = 1_024
    rate: int = 0
    requests_per_second: float = 0.0
    misses_per_minute: float = 10.0
    document_misses_per_minute: float = 600.0

    def __post_init__(self) -> None:
        counts = (self.max_connections, self.max_connections_per_client)
        misses = (self.misses_per_minute, self.document_misses_per_minute)
        rates = (self.rate, self.requests_per_second, *misses)
        if min(counts) < 1 or min(rates) < 0:
            raise ConfigurationError(
                "clients: the connection counts are 1 or more, the rates 0 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """`[push]`: how news travel faster than polls.

    Attributes:
        watch: whether the relay holds a long poll at its upstream, so that it hears at once.
        poll: how often the upstream is asked where it has no long polls, or `watch` is off; 0
            leaves it to the hosts' own requests.
        max_watchers: hosts that may wait at once; beyond, they are told to poll (503). At most
            nine tenths of `clients.max_connections` wait, so that the others can be served.
        udp: whether UDP is listened on, at the TCP port's number (announcements, check-ins).
        group: multicast groups on which announcements are heard and sent; empty for none. A relay
            that listens on loopback alone uses none.
        interfaces: names of the network interfaces for the groups; empty is all but loopback.
        announce: whether a new timestamp is announced on the groups and to `unicast`.
        unicast: `HOST:PORT` of relays and hosts that are told directly.
        ttl: hops that an announcement to a group may make.
    """

    watch: bool = True
    poll: timedelta = timedelta(seconds=15)
    max_watchers: int = 9_000
    udp: bool = True
    group: tuple[str, ...] = ("239.255.29.67", "ff08::2967")
    interfaces: tuple[str, ...] = ()
    announce: bool = True
    unicast: tuple[str, ...] = ()
    ttl: int = 1

    def __post_init__(self) -> None:
        if self.poll < timedelta() or self.max_watchers < 0 or not 1 <= self.ttl <= 255:
            raise ConfigurationError(
                "push.poll and max_watchers are 0 or more, push.ttl is 1 to 255"
            )
        for group in self.group:
            require_group(group)
        for target in self.unicast:
            require_host_and_port(target)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolSettings:
    """`[spool]`: check-ins on their way to the console.

    Attributes:
        max_bytes: of all check-ins that wait.
        max_share: the share of `max_bytes` that one host's check-ins may take.
        max_peer_share: the share that may come from one address, whatever hosts it names (keys
            cost nothing, so a flood comes in the name of many).
        max_datagram_share: the share that may come over UDP, where addresses are forged.
        downstream: networks (`192.0.2.0/24`) of relays and address translators that carry many
            hosts: they have no share and no rate of their own.
        max_age: older ones are dropped; the console sees the gap in their numbers.
        batch: check-ins in one request to the console, at most.
        delay: how long a first check-in waits for others to share its batch.
        datagrams_per_second: of one address over UDP, with a burst of ten times as many.
        check_ins_per_second: of one address over TCP, with a burst of ten times as many.
        enrolments_per_second: of one address, with a burst of ten times as many.
    """

    max_bytes: int = 256 * MIB
    max_share: float = 0.01
    max_peer_share: float = 0.1
    max_datagram_share: float = 0.25
    downstream: tuple[str, ...] = ()
    max_age: timedelta = timedelta(days=7)
    batch: int = 500
    delay: timedelta = timedelta(seconds=2)
    datagrams_per_second: float = 5.0
    check_ins_per_second: float = 200.0
    enrolments_per_second: float = 10.0

    def __post_init__(self) -> None:
        shares = (self.max_share, self.max_peer_share, self.max_datagram_share)
        if not all(0 < share <= 1 for share in shares):
            raise ConfigurationError("spool: a share is above 0 and at most 1")
        if self.max_bytes < MIB or not 1 <= self.batch <= STATUS.batch_check_ins:
            raise ConfigurationError(
                f"spool.max_bytes is 1048576 or more, batch 1 to {STATUS.batch_check_ins}"
            )
        rates = (self.datagrams_per_second, self.check_ins_per_second, self.enrolments_per_second)
        if min(rates) < 0 or self.max_age <= timedelta() or self.delay < timedelta():
            raise ConfigurationError("spool: rates and delay are 0 or more, max_age is above 0")
        for network in self.downstream:
            _require_network(network)


def _require_network(text: str) -> None:
    try:
        ip_network(text)
    except ValueError as error:
        raise ConfigurationError(
            f"spool.downstream has {text!r}: write a network as 192.0.2.0/24"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """`[discovery]`: how hosts find this relay without being told.

    Attributes:
        mdns: whether the relay answers mDNS queries for `_fleetward._tcp.local.`.
        name: the instance's name there; empty is the machine's.
    """

    mdns: bool = False
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSettings:
    """`[[mirror]]`: serve under `/mirror/PRODUCT/` what an agent on this machine confirmed.

    Attributes:
        product: the name in the URL, and the agent's.
        home: the agent's folder, whose record says which release is confirmed; the relay must be
            able to read it, and where it cannot, clients get 503.
        folder: the subscription's folder (the one that has `current`); absent takes what the
            agent's own settings say.
        stay: how long a client stays on the tree with which it began.
    """

    product: str
    home: Path
    folder: Path | None = None
    stay: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        try:
            parse_product(self.product)
        except UsageError as error:
            raise ConfigurationError(f"mirror.product: {error}") from error
        if self.stay < timedelta():
            raise ConfigurationError("mirror.stay is 0 or more seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class PassthroughSettings:
    """`[[passthrough]]`: cache an HTTP upstream that Fleetward does not sign.

    Attributes:
        name: the first part of the path, `/passthrough/NAME/…`.
        upstream: base URL; the only scheme, host, port and path prefix that is ever asked.
        paths: what may be asked for under it: folders (`/dists/`) or single files; a path outside
            is answered 404.
        mount: also served at this folder of the relay, with the same path under the upstream
            (`/content/` for SEP clients); empty for none.
        proxy_requests: whether requests in absolute form for `upstream` are accepted (`apt` with
            the relay as its proxy, SEP clients).
        query: `ignore` (not sent, not part of the name) or `keep` (both).
        revalidate: how long an answer is served before the upstream is asked whether it changed.
        max_stale: how long after the upstream last confirmed it an answer is still served, with a
            warning, while the upstream fails; then clients get 503.
        immutable: folders or files that never change, and so are asked for once.
        max_file: bytes of one file; a longer one is answered 503.
        quota: bytes of all its files; those used longest ago go first.
        allow_private: whether the upstream may have a loopback, link-local or private address.
        follow_redirects: whether redirects inside the allow-list are followed.
    """

    name: str
    upstream: str
    paths: tuple[str, ...] = ("/",)
    mount: str = ""
    proxy_requests: bool = False
    query: str = "ignore"
    revalidate: timedelta = timedelta(minutes=5)
    max_stale: timedelta = timedelta(days=1)
    immutable: tuple[str, ...] = ()
    max_file: int = 1 * GIB
    quota: int = 10 * GIB
    allow_private: bool = False
    follow_redirects: bool = True

    def __post_init__(self) -> None:
        if not _PASSTHROUGH_NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"passthrough.name {self.name[:80]!r}: use 1 to 64 of a-z, 0-9, '.', '_' and '-', "
                "beginning with a letter or digit"
            )
        for path in (*self.paths, *self.immutable):
            _require_plain_path(path)
        if self.mount:
            _require_mount(self.mount)
        if self.query not in {"ignore", "keep"}:
            raise ConfigurationError(
                f"passthrough.query is {self.query!r}: write 'ignore' or 'keep'"
            )
        if min(self.revalidate, self.max_stale) < timedelta():
            raise ConfigurationError("passthrough.revalidate and max_stale are 0 or more seconds")
        if not 0 < self.max_file <= self.quota:
            raise ConfigurationError(
                "passthrough.max_file is over 0 and at most quota, or no such file could be kept"
            )


def _require_plain_path(path: str) -> None:
    segments = path.split("/")[1:]
    is_plain = path.startswith("/") and all(segments[:-1]) and path.isprintable()
    if not is_plain or {".", ".."} & set(segments) or set(path) & set("?#%\\"):
        raise ConfigurationError(
            f"the path {path!r} of a passthrough: write it decoded and absolute, as in /dists/, "
            "without '.', '..', '//', '%', '?', '#' and backslashes"
        )


def _require_mount(mount: str) -> None:
    _require_plain_path(mount)
    if not mount.endswith("/") or mount == "/" or mount.startswith(_OWN_PATHS):
        raise ConfigurationError(
            f"passthrough.mount {mount!r}: write a folder as in /content/, and none of the "
            f"relay's own ({', '.join(_OWN_PATHS)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFileSettings:
    """The whole file.

    Attributes:
        upstreams: URLs of origins or relays, in the order in which they are asked.
        cache: folder of the cache.
        listen: `HOST:PORT`.
        console: URL of the console; empty where check-ins are not carried.
        proxy: URL of an HTTP proxy towards upstreams and console; empty for none.
        ca_bundle: PEM file of the authorities to trust upstream, in place of the system's.
    """

    upstreams: tuple[str, ...] = ()
    cache: Path | None = None
    listen: str = "0.0.0.0:2967"
    console: str = ""
    proxy: str = ""
    ca_bundle: Path | None = None
    tls: TlsFileSettings | None = None
    storage: StorageSettings = field(default_factory=StorageSettings)
    bandwidth: BandwidthSettings = field(default_factory=BandwidthSettings)
    clients: ClientSettings = field(default_factory=ClientSettings)
    push: PushSettings = field(default_factory=PushSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    mirror: tuple[MirrorSettings, ...] = ()
    passthrough: tuple[PassthroughSettings, ...] = ()

    def __post_init__(self) -> None:
        names = [one.name for one in self.passthrough]
        products = [one.product for one in self.mirror]
        mounts = [one.mount for one in self.passthrough if one.mount]
        if any(len(set(one)) < len(one) for one in (names, products, mounts)):
            raise ConfigurationError(
                "two passthroughs have one name or one mount, or two mirrors one product"
            )

    def having(self, **changes: object) -> "RelayFileSettings":
        """Return the settings with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def load_relay_settings(disk: Disk, path: Path) -> RelayFileSettings:
    """Return the settings in a relay's TOML file.

    Raises:
        ConfigurationError: absent, unreadable, no TOML, an unknown key or a wrong value.
    """
    return load_settings(disk, path, RelayFileSettings)
