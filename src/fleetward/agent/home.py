"""Where an agent keeps what it knows, and how one comes to be.

    HOME/agent.toml           settings, the operator's
    HOME/host.json            the host's record id
    HOME/trust/               TUF metadata and the greatest versions seen (trust)
    HOME/products/P.json      one record per product (agent.records)
    HOME/products/P.files/    what each installed tree holds, file by file
    HOME/partial/             blobs that are not whole, per source
    HOME/sources.json         how sources behaved (agent.sources)
    HOME/host.key             the host's key, once it was enrolled (agent.enrolling)
    HOME/console.json         what the console answered; enrolment.json while it has not
    HOME/reports/             events, and what directives were done (agent.events, agent.inbox)
    HOME/lock                 held by whoever changes anything

Everything is written through adapters.disk. One process at a time works in a HOME.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import Entropy
from fleetward.config.agent import AGENT_FILE, AgentSettings, save_agent_settings
from fleetward.errors import ConfigurationError
from fleetward.wire.documents import decode_json, encode_json

CONSOLE_FILE = "console.json"
_HOST_SCHEMA = "fleetward.host/1"


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """Who a host is, before it is enrolled: a random id."""

    host: str


@dataclass(frozen=True, slots=True)
class Home:
    """An agent's folder.

    Attributes:
        disk: where it lies.
        path: the folder.
    """

    disk: Disk
    path: Path

    @property
    def trust(self) -> Path:
        """The folder of the trust store."""
        return self.path / "trust"

    @property
    def products(self) -> Path:
        """The folder of the records."""
        return self.path / "products"

    @property
    def partial(self) -> Path:
        """The folder of blobs that are not whole."""
        return self.path / "partial"

    @property
    def is_enrolled(self) -> bool:
        """Whether a console was ever asked to take this host (`agent.enrolling`)."""
        return self.disk.kind(self.path / CONSOLE_FILE) is Kind.FILE

    def require(self) -> None:
        """Make sure that an agent was made here.

        Raises:
            ConfigurationError: there is none.
        """
        if self.disk.kind(self.path / AGENT_FILE) is not Kind.FILE:
            raise ConfigurationError(
                f"{self.path} is no agent's folder: run `fleetward agent init {self.path} …` first"
            )

    def require_absent(self) -> None:
        """Make sure that no agent was made here.

        Raises:
            ConfigurationError: there is one.
        """
        if self.disk.kind(self.path / AGENT_FILE) is not Kind.ABSENT:
            raise ConfigurationError(
                f"{self.path} already has an agent: edit its {AGENT_FILE}, or remove the folder first"
            )

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the agent's lock. Raises BusyError where another process has it."""
        return self.disk.lock(self.path / "lock")

    def host(self) -> str:
        """Return the host's id.

        Raises:
            ConfigurationError: the file is gone.
            DocumentError: it is not a host document.
        """
        try:
            content = self.disk.read(self.path / "host.json")
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{self.path / 'host.json'} is gone: make the agent again with `agent init`"
            ) from error
        return decode_json(_HOST_SCHEMA, HostIdentity, content).host


def create_home(home: Home, settings: AgentSettings, entropy: Entropy) -> None:
    """Make an agent's folder; its settings file comes last and makes it one.

    Raises:
        DiskError: it cannot be written.
    """
    for folder in (home.path, home.products, home.partial):
        home.disk.make_folder(folder)
    if home.disk.kind(home.path / "host.json") is Kind.ABSENT:
        identity = HostIdentity(entropy.token(32).hex())
        write_file(home.disk, home.path / "host.json", encode_json(_HOST_SCHEMA, identity))
    save_agent_settings(home.disk, home.path, settings)
