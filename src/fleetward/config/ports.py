"""The port watch's settings: a file of `ports show --config`, and HOME/ports.toml of an agent.

    ports = [2967]                  what is looked at
    exclude = []                    ports that are left out where all are looked at
    relay = "none"                  whether this host is meant to be a relay: relay, none, unstated

    [[rules]]                       the first that matches a listener decides
    name = "the mirror of apt"
    verdict = "expected"
    port = 3142
    package = "apt-cacher-ng"

An agent takes its file up when it changes (but for `interval` and `namespaces`: at its start).

Deliberately not here: what a rule means (core.portrules), what is thought of listeners (core.ports).
"""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fleetward.adapters.disk import Disk, Kind
from fleetward.config.strict import load_settings
from fleetward.core.portrules import MAX_RULES, PortRule
from fleetward.core.ports import REASON_IDS, RELAY_PORT, Expectations, RelayRole
from fleetward.errors import ConfigurationError

PORTS_FILE = "ports.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortsSettings:
    """All of the file.

    Attributes:
        watch: whether the agent watches at all.
        ports: that are watched; empty for every port.
        exclude: ports that are not watched (with `ports = []`).
        relay: whether this host is meant to be a relay.
        interval: how often the agent looks; a look without a change costs under a millisecond.
        refresh: how often it looks at everything anew, also without a change: an executable that
            was deleted meanwhile shows then.
        settle: how long a listener must be gone before it is told as closed.
        namespaces: whether other network namespaces (containers) are watched.
        rules: the operator's.
    """

    watch: bool = True
    ports: tuple[int, ...] = (RELAY_PORT,)
    exclude: tuple[int, ...] = ()
    relay: RelayRole = RelayRole.UNSTATED
    interval: timedelta = timedelta(seconds=10)
    refresh: timedelta = timedelta(minutes=15)
    settle: timedelta = timedelta(seconds=60)
    namespaces: bool = True
    rules: tuple[PortRule, ...] = ()

    def __post_init__(self) -> None:
        for port in (*self.ports, *self.exclude):
            if not 0 < port <= 65_535:
                raise ConfigurationError(f"there is no port {port}: 1 to 65535")
        if min(self.interval, self.refresh) < timedelta(seconds=1) or self.settle < timedelta():
            raise ConfigurationError("interval and refresh are 1 or more seconds, settle 0 or more")
        if len(self.rules) > MAX_RULES:
            raise ConfigurationError(f"{len(self.rules)} rules: {MAX_RULES} are allowed")
        for rule in self.rules:
            for reason in rule.despite:
                _require_reason(rule, reason)

    def expectations(self) -> Expectations:
        """Return what the operator says of this host."""
        return Expectations(rules=self.rules, role=self.relay)


def _require_reason(rule: PortRule, reason: str) -> None:
    if reason not in REASON_IDS:
        known = ", ".join(sorted(REASON_IDS))
        raise ConfigurationError(f"the rule {rule.name!r} excuses {reason!r}; there are: {known}")


def load_ports_settings(disk: Disk, path: Path) -> PortsSettings:
    """Return the settings in a file.

    Raises:
        ConfigurationError: it is absent or wrong.
    """
    return load_settings(disk, path, PortsSettings)


def agent_ports_settings(disk: Disk, home: Path) -> PortsSettings:
    """Return the settings of the agent at `home`; the defaults where it has no `ports.toml`.

    Raises:
        ConfigurationError: the file is wrong.
    """
    path = home / PORTS_FILE
    if disk.kind(path) is Kind.ABSENT:
        return PortsSettings()
    return load_ports_settings(disk, path)
