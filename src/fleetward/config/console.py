"""The console's settings: a TOML file given with `--config`; flags win."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from fleetward.adapters.disk import Disk
from fleetward.config.strict import load_settings
from fleetward.core.fleet import parse_source_url
from fleetward.core.limits import MIB
from fleetward.errors import ConfigurationError, DocumentError


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """The console's own certificate, where no proxy in front of it has one.

    Attributes:
        certificate: a PEM file with the chain.
        key: its private key.
    """

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInSettings:
    """How people prove who they are.

    Attributes:
        idle: a session without a request for so long ends.
        longest: no session lasts longer than this.
        fresh: dangerous acts ask for the password again when it was given longer ago.
        attempts: wrong passwords for one name from one address before both must wait.
        cool_off: for how long they wait.
        totp_for_administrators: whether an administrator must have a second factor.
    """

    idle: timedelta = timedelta(minutes=30)
    longest: timedelta = timedelta(hours=12)
    fresh: timedelta = timedelta(minutes=10)
    attempts: int = 5
    cool_off: timedelta = timedelta(minutes=15)
    totp_for_administrators: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OidcSettings:
    """Login by an OpenID Connect provider.

    Attributes:
        issuer: what the provider calls itself; its keys and endpoints are given beside it.
        client_id: the console's name there.
        client_secret_file: a file with the secret that belongs to it.
        authorization_endpoint: where people are sent to.
        token_endpoint: where the console redeems the code.
        user_endpoint: where the console asks who it is.
        jwks_endpoint: the provider's public keys.
        groups_claim: the claim that lists a person's groups; each that the console knows by name
            is given, and those which the claim no longer lists are taken.
        label: what the button on the login page says.
    """

    issuer: str
    client_id: str
    client_secret_file: Path
    authorization_endpoint: str
    token_endpoint: str
    user_endpoint: str
    jwks_endpoint: str
    groups_claim: str = "groups"
    label: str = "Single sign-on"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySettings:
    """`[repository]`: what the console shows of products and releases, verified by itself.

    Attributes:
        url: base URL of the repository or of a relay.
        root: the file of the trust anchor, N.root.json, from a safe place; read once.
        proxy: URL of an HTTP proxy for http and https; None takes the environment's.
        ca_bundle: a PEM file of the authorities to trust instead of the system's.
        poll: how often it is asked whether something is new.
        max_tree: bytes of a release's tree, at most, to be opened for comparing (a full disk).
    """

    url: str
    root: Path
    proxy: str | None = None
    ca_bundle: Path | None = None
    poll: timedelta = timedelta(seconds=60)
    max_tree: int = 1024 * MIB

    def __post_init__(self) -> None:
        try:
            parsed = parse_source_url(self.url)
        except DocumentError as error:
            raise ConfigurationError(f"repository.url: {error}") from error
        if parsed != self.url:
            raise ConfigurationError(f"repository.url: write {parsed!r}")
        if self.poll < timedelta(seconds=1):
            raise ConfigurationError("repository.poll is under a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """The server that takes the console's mail.

    Attributes:
        host: its name.
        sender: the address that mail comes from.
        port: 587 for starttls, 465 for tls, 25 for none.
        security: starttls, tls or none.
        username: empty where it wants no login.
        password_file: a file with the password.
    """

    host: str
    sender: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    password_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeSettings:
    """How people are told.

    Attributes:
        quiet: the same thing is told once in so long (an alert storm).
        allow_private: whether webhooks may go to private, loopback and link-local addresses.
        proxy: URL of an HTTP proxy for webhooks, which then judges addresses.
        ca_bundle: a PEM file of the authorities to trust instead of the system's.
    """

    quiet: timedelta = timedelta(minutes=15)
    allow_private: bool = False
    proxy: str | None = None
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """`[alerts]`: how fast alerts come and go.

    Attributes:
        every: how often facts are looked at.
        settle: how long a fact must be away before its alert resolves (an alert per flap).
    """

    every: timedelta = timedelta(seconds=20)
    settle: timedelta = timedelta(minutes=10)

    def __post_init__(self) -> None:
        if self.every < timedelta(seconds=1):
            raise ConfigurationError("alerts.every is under a second")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRelay:
    """`[[relays.known]]`: a relay that the console asks, beside those of the signed list.

    Attributes:
        url: base URL, as `http://relay.berlin.example:2967`.
        site: the name of the site that it serves; empty for none.
    """

    url: str
    site: str = ""

    def __post_init__(self) -> None:
        try:
            parsed = parse_source_url(self.url)
        except DocumentError as error:
            raise ConfigurationError(f"relays.known.url: {error}") from error
        if parsed != self.url:
            raise ConfigurationError(f"relays.known.url: write {parsed!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaysSettings:
    """`[relays]`: which relays the console asks how they are, and how often.

    Attributes:
        known: relays that are asked whether or not the fleet's signed list names them.
        poll: how often each is asked.
        ca_bundle: a PEM file of the authorities to trust instead of the system's.
    """

    known: tuple[KnownRelay, ...] = ()
    poll: timedelta = timedelta(seconds=60)
    ca_bundle: Path | None = None

    def __post_init__(self) -> None:
        if self.poll < timedelta(seconds=1):
            raise ConfigurationError("relays.poll is under a second")
        urls = [relay.url for relay in self.known]
        if len(set(urls)) < len(urls):
            raise ConfigurationError("relays.known names a URL twice")


EVENTS_KEPT: Final = timedelta(days=7)
"""How long agents keep acknowledged events, in case the console is restored from a backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySettings:
    """`[history]`: for how many days rows stay; the audit log stays for ever.

    Attributes:
        check_ins: whole check-ins, with what the host signed; what they said is in states and
            transitions for longer.
        events: what happened on hosts.
        transitions: what hosts ran, and when.
        silent_hosts: a host that was not heard of for so long is decommissioned; it is back as soon
            as it reports.
        relay_minutes: what relays did, minute by minute.
        relay_hours: the same by hours.
        alerts: alerts, after they were resolved.
        notices: what people were told.
    """

    check_ins: int = 3
    events: int = 400
    transitions: int = 5 * 365
    silent_hosts: int = 90
    relay_minutes: int = 1
    relay_hours: int = 90
    alerts: int = 400
    notices: int = 90

    def __post_init__(self) -> None:
        for name, least, why in _LEAST_DAYS:
            days: int = getattr(self, name)
            if not least <= days <= _MOST_DAYS:
                raise ConfigurationError(
                    f"history.{name} is {days} days; at least {least} ({why}), at most {_MOST_DAYS}"
                )
        if self.relay_hours < self.relay_minutes:
            raise ConfigurationError("history.relay_hours is under history.relay_minutes")


_MOST_DAYS: Final = 100 * 365
_LEAST_DAYS: Final = (
    ("check_ins", 1, "people look at what a host sent"),
    ("events", EVENTS_KEPT.days + 1, f"agents send them again for {EVENTS_KEPT.days} days"),
    ("transitions", 30, "the overview counts time to protect by them"),
    ("silent_hosts", 1, "hosts are off at night"),
    ("relay_minutes", 1, "the page shows a day"),
    ("relay_hours", 1, "the page shows more than a day"),
    ("alerts", 2, "one that comes back within a day is the same"),
    ("notices", 2, "what does not get through is tried for a day"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleFileSettings:
    """All of the console's file.

    Attributes:
        db: `sqlite:///PATH` or `postgresql://…`. A password belongs in PGPASSFILE, not here.
        listen: HOST:PORT; port 0 takes a free one.
        url: how people and hosts reach the console, as https://console.example; it sets which
            host name is answered, and whether cookies demand https.
        hosts: further host names that are answered.
        state: a folder for the secret key and the static files; the database's own for SQLite.
        proxies: addresses of proxies whose X-Forwarded-For is believed.
        name: what the pages call this organisation.
        tls: a certificate of the console's own.
        sign_in: how people prove who they are.
        oidc: login by a provider.
        repository: the repository whose products and releases are shown.
        mail: the server that takes the console's mail.
        notices: how people are told.
        alerts: how fast alerts come and go.
        relays: which relays are asked how they are.
        history: how long rows stay.
    """

    db: str = ""
    listen: str = "127.0.0.1:8443"
    url: str | None = None
    hosts: tuple[str, ...] = ()
    state: Path | None = None
    proxies: tuple[str, ...] = ()
    name: str = "Fleetward"
    tls: TlsSettings | None = None
    sign_in: SignInSettings = field(default_factory=SignInSettings)
    oidc: OidcSettings | None = None
    repository: RepositorySettings | None = None
    mail: MailSettings | None = None
    notices: NoticeSettings = field(default_factory=NoticeSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    relays: RelaysSettings = field(default_factory=RelaysSettings)
    history: HistorySettings = field(default_factory=HistorySettings)

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ConfigurationError(f"url is {self.url!r}; write https://console.example")
        if self.sign_in.attempts < 1:
            raise ConfigurationError("sign_in.attempts is under 1: nobody could log in")

    def having(self, **changes: object) -> "ConsoleFileSettings":
        """Return the settings with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def is_https(self) -> bool:
        """Return whether people reach the console by https."""
        return self.tls is not None or (self.url or "").startswith("https://")


def load_console_settings(disk: Disk, path: Path) -> ConsoleFileSettings:
    """Return the settings in the file at `path`.

    Raises:
        ConfigurationError: the file is absent, or wrong.
    """
    return load_settings(disk, path, ConsoleFileSettings)
