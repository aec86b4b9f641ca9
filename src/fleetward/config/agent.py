"""The agent's settings: HOME/agent.toml, written by `agent init` and edited by the operator."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk
from fleetward.config.addresses import require_address, require_group
from fleetward.config.sensor import SensorSettings
from fleetward.config.strict import load_settings, toml_text
from fleetward.core.fleet import parse_source_url
from fleetward.core.limits import MIB
from fleetward.core.listeners import Transport
from fleetward.core.names import ChannelName, ProductName, parse_channel, parse_product
from fleetward.errors import ConfigurationError, DocumentError, UsageError

AGENT_FILE = "agent.toml"
DEFAULT_CHANNEL = ChannelName("stable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A product that a host keeps in a folder.

    Attributes:
        product: which product.
        channel: which of its channels.
        folder: an absolute path; readers open `folder/current`.
    """

    product: ProductName
    channel: ChannelName = DEFAULT_CHANNEL
    folder: Path

    def __post_init__(self) -> None:
        try:
            parse_product(self.product)
            parse_channel(self.channel)
        except UsageError as error:
            raise ConfigurationError(str(error)) from error
        if not self.folder.is_absolute():
            raise ConfigurationError(f"the folder {str(self.folder)!r} is not an absolute path")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """How the agent connects out.

    Attributes:
        proxy: URL of an HTTP proxy for http and https; None takes the environment's.
        ca_bundle: a PEM file of the authorities to trust instead of the system's.
    """

    proxy: str | None = None
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How one engine's content is tried on this host.

    Attributes:
        name: the engine, as manifests name it.
        preflight: a command of the operator's, run beside the profile's own check; `{tree}` stands
            for the folder of the staged tree. Exit code 0 passes.
        canaries: files that the staged content must detect.
        clean: files that it must not detect.
        bake: how long the trial lasts before the release is confirmed.
        max_memory: bytes of address space that a check may take.
        max_time: how long a check may take.
    """

    name: str
    preflight: tuple[str, ...] = ()
    canaries: tuple[Path, ...] = ()
    clean: tuple[Path, ...] = ()
    bake: timedelta = timedelta()
    max_memory: int = 2048 * MIB
    max_time: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoverySettings:
    """`[discovery]`: where the agent looks for sources besides `sources`, and how it chooses.

    What is found is only where to ask: everything that comes from there is verified.

    Attributes:
        signed: whether the fleet's signed list of relays by subnet is followed.
        srv: the domain whose `_fleetward._tcp` records name relays; empty asks no DNS.
        mdns: whether relays on the local network are asked for by multicast, from short-lived
            sockets.
        origins: base URLs of origins, besides those of the signed list.
        origin_after: how long no relay must have served before an origin is asked.
        direct_share: the share of polls that also ask an origin, so that a relay which withholds
            news is found out; 0 turns it off.
        max_lag: how much older than an origin's a relay's timestamp may be.
    """

    signed: bool = True
    srv: str = ""
    mdns: bool = False
    origins: tuple[str, ...] = ()
    origin_after: timedelta = timedelta(minutes=10)
    direct_share: float = 0.02
    max_lag: timedelta = timedelta(minutes=2)

    def __post_init__(self) -> None:
        if not 0 <= self.direct_share <= 1:
            raise ConfigurationError("discovery.direct_share is a share: 0 to 1, as in 0.02")
        if min(self.origin_after, self.max_lag) < timedelta():
            raise ConfigurationError("discovery.origin_after and max_lag are 0 or more seconds")
        try:
            wrong = next((url for url in self.origins if parse_source_url(url) != url), None)
        except DocumentError as error:
            raise ConfigurationError(f"discovery.origins: {error}") from error
        if wrong is not None:
            raise ConfigurationError(f"discovery.origins: write {wrong!r} without the last slash")


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """`[push]`: how `agent run` hears of news between its checks.

    Whatever it hears is a hint: the agent then checks, as it would have soon anyway, and believes
    what is verified. Read at each check, but for what concerns announcements: at the start.

    Attributes:
        watch: whether the agent holds a long poll at its source, from a socket of its own.
        spread: news make the agent check after a delay drawn from 0 to this, so that thousands of
            hosts do not ask in one instant; a second suits a relay on the local network, more a
            source that serves many sites.
        announcements: whether the agent *listens* for UDP announcements. One of two things that a
            host may listen for, and so off unless asked for; nothing is ever answered.
        listen: addresses to hear announcements on.
        port: UDP port; a relay announces to groups on its own port's number.
        group: multicast groups to join; empty for unicast alone.
        interfaces: names of the network interfaces for the groups; empty is all but loopback.
    """

    watch: bool = True
    spread: timedelta = timedelta(seconds=1)
    announcements: bool = False
    listen: tuple[str, ...] = ("0.0.0.0", "::")  # noqa: S104 (only where `announcements` asks)
    port: int = 2967
    group: tuple[str, ...] = ("239.255.29.67", "ff08::2967")
    interfaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.spread < timedelta() or not 0 <= self.port < 65536:
            raise ConfigurationError("push.spread is 0 or more seconds, push.port 0 to 65535")
        for address in self.listen:
            require_address(address)
        for group in self.group:
            require_group(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """All of HOME/agent.toml.

    Attributes:
        sources: base URLs of relays and origins, the preferred first.
        subscriptions: what the host keeps.
        rings: the rings of rollouts that this host is in.
        poll: how long `agent run` waits between checks, jittered by a fifth.
        report_every: how long it waits between reports to the console, jittered by a fifth; it
            also reports after each check.
        inbox_every: with a report that has no news, it asks whether the console wants something of
            it only so long after it asked last; shorter than `report_every` is with each report.
        max_delta_memory: bytes that applying a delta may take; beyond it the pack is fetched.
        max_trial_restarts: restarts of the host during a trial after which it rolls back.
        network: how to connect out.
        engines: how content is tried.
        discovery: where to look for other sources.
        push: how `agent run` hears of news.
        sensor: whether `agent run` hears what is said to ports where nothing listens.
    """

    sources: tuple[str, ...]
    subscriptions: tuple[Subscription, ...] = ()
    rings: tuple[str, ...] = ()
    poll: timedelta = timedelta(minutes=10)
    report_every: timedelta = timedelta(minutes=1)
    inbox_every: timedelta = timedelta(seconds=45)
    max_delta_memory: int = 256 * MIB
    max_trial_restarts: int = 3
    network: NetworkSettings = field(default_factory=NetworkSettings)
    engines: tuple[EngineSettings, ...] = ()
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    push: PushSettings = field(default_factory=PushSettings)
    sensor: SensorSettings = field(default_factory=SensorSettings)

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigurationError("no source: give at least one URL of a relay or origin")
        for source in self.sources:
            if not source.startswith(("http://", "https://")):
                raise ConfigurationError(f"the source {source!r} is not an http or https URL")
        folders = [subscription.folder for subscription in self.subscriptions]
        products = [subscription.product for subscription in self.subscriptions]
        if len(set(folders)) < len(folders) or len(set(products)) < len(products):
            raise ConfigurationError("two subscriptions have one product or one folder")
        shared = (Transport.UDP, self.push.port) in self.sensor.places
        if self.sensor.on and self.push.announcements and shared:
            raise ConfigurationError(
                f"push.announcements and the sensor both want port {self.push.port}/udp: set "
                "sensor.udp = false, or name other sensor.ports"
            )

    def having(self, **changes: object) -> "AgentSettings":
        """Return the settings with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def subscription(self, product: ProductName) -> Subscription:
        """Return the subscription of a product.

        Raises:
            ConfigurationError: this host does not subscribe to it.
        """
        for subscription in self.subscriptions:
            if subscription.product == product:
                return subscription
        known = ", ".join(s.product for s in self.subscriptions) or "none"
        raise ConfigurationError(f"this host does not subscribe to {product}; it has: {known}")

    def engine(self, name: str) -> EngineSettings:
        """Return the settings of an engine; its defaults where the file has none."""
        return next((e for e in self.engines if e.name == name), EngineSettings(name=name))


def load_agent_settings(disk: Disk, home: Path) -> AgentSettings:
    """Return the settings of the agent at `home`.

    Raises:
        ConfigurationError: there is no agent there, or its file is wrong.
    """
    return load_settings(disk, home / AGENT_FILE, AgentSettings)


def save_agent_settings(disk: Disk, home: Path, settings: AgentSettings) -> None:
    """Write the settings of the agent at `home`."""
    write_file(disk, home / AGENT_FILE, toml_text(settings).encode())


def parse_subscription(text: str) -> Subscription:
    """Return `PRODUCT[@CHANNEL]=DIR` as a subscription.

    Raises:
        UsageError: another form.
    """
    name, equals, folder = text.partition("=")
    product, at, channel = name.partition("@")
    if not equals or not folder or (at and not channel):
        raise UsageError(f"{text!r} is not PRODUCT[@CHANNEL]=DIR, as in yara@stable=/var/lib/yara")
    return Subscription(
        product=parse_product(product),
        channel=parse_channel(channel or DEFAULT_CHANNEL),
        folder=Path(folder).absolute(),
    )
