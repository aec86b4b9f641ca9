"""The signed word on the console, as a value: its keys, who approves rollouts, how fresh sites are.

`fleet/console.json` is signed by the fleet role (2 of 3, offline), so neither the console nor
whoever holds an online key can change whom hosts believe.

Invariant: a document that exists names one to four pairs of keys, no key and no name twice, and
ages that are positive.

Deliberately not here: its JSON (wire.documents), who signed it (trust), what a host does with a
key that left it (agent.consoles), approvals themselves.
"""

import re
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fleetward.core.digest import sha256_of
from fleetward.core.fleet import parse_source_url
from fleetward.core.names import parse_product
from fleetward.core.status import ConsoleId
from fleetward.errors import DocumentError, UsageError


@dataclass(frozen=True, slots=True)
class ConsolesLimits:
    """What the document may hold.

    Attributes:
        keys: pairs of keys: a console's and its next, a stand-by's and its next. A host tries each
            of them on what it is sent, and an envelope has room for as many signatures.
        approvers: people who may approve; a steward tries each of their keys.
        sites: sites with an age of their own.
        max_age: the longest that a site without internet may live with one timestamp; longer would
            outlive the releases that it names.
    """

    keys: int = 4
    approvers: int = 64
    sites: int = 1_024
    max_age: timedelta = timedelta(days=365)


CONSOLES: Final = ConsolesLimits()

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsolePair:
    """The public keys of a console, and where it is asked.

    Attributes:
        name: for people; a name as products have.
        signing: Ed25519 public key, 64 hex digits.
        sealing: X25519 public key, 64 hex digits.
        url: its base URL; None where the token file of each host says it.
    """

    name: str
    signing: str
    sealing: str
    url: str | None = None

    def __post_init__(self) -> None:
        _require_name(self.name, "a console")
        _require_key(self.signing)
        _require_key(self.sealing)
        if self.url is not None and parse_source_url(self.url) != self.url:
            raise DocumentError(f"the console's URL {self.url[:80]!r} ends with a slash")

    @property
    def id(self) -> ConsoleId:
        """Return the id of the signing key."""
        return ConsoleId(sha256_of(bytes.fromhex(self.signing)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """Who may approve a wave of a rollout.

    Attributes:
        name: for people; a name as products have.
        key: Ed25519 public key, 64 hex digits.
    """

    name: str
    key: str

    def __post_init__(self) -> None:
        _require_name(self.name, "an approver")
        _require_key(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineSite:
    """A site to which the repository is carried by hand.

    Attributes:
        site: its name in the list of relays.
        max_age: seconds that its hosts may live with one timestamp before they are frozen.
    """

    site: str
    max_age: int

    def __post_init__(self) -> None:
        _require_name(self.site, "a site")
        if not 0 < self.max_age <= CONSOLES.max_age.total_seconds():
            raise DocumentError(
                f"the site {self.site} may live {self.max_age} s with a timestamp: 1 s to "
                f"{CONSOLES.max_age.days} days are allowed"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Consoles:
    """`fleet/console.json`.

    Attributes:
        keys: hosts seal to the first pair, and believe what any of them signs.
        approvers: who may approve; nobody where it is empty.
        offline: sites with an age of their own; all others follow the timestamp's interval.
    """

    keys: tuple[ConsolePair, ...]
    approvers: tuple[Approver, ...] = ()
    offline: tuple[OfflineSite, ...] = ()

    def __post_init__(self) -> None:
        _bound("pairs of keys", len(self.keys), CONSOLES.keys, least=1)
        _bound("approvers", len(self.approvers), CONSOLES.approvers)
        _bound("offline sites", len(self.offline), CONSOLES.sites)
        signing = [pair.signing for pair in self.keys]
        _once("signing key", [*signing, *(approver.key for approver in self.approvers)])
        _once("sealing key", [pair.sealing for pair in self.keys])
        _once("approver", [approver.name for approver in self.approvers])
        _once("site", [offline.site for offline in self.offline])

    def names(self, signing: str, sealing: str) -> bool:
        """Return whether a pair has exactly these two keys."""
        return any((pair.signing, pair.sealing) == (signing, sealing) for pair in self.keys)

    def allows(self, site: str | None, issued: datetime, now: datetime) -> bool:
        """Return whether hosts of `site` may still live with a timestamp that was issued then."""
        ages = [one.max_age for one in self.offline if one.site == site]
        return any(now - issued <= timedelta(seconds=age) for age in ages)


def _require_name(name: str, whose: str) -> None:
    try:
        parse_product(name)
    except UsageError as error:
        raise DocumentError(
            f"{name[:80]!r} is no name of {whose}: use a-z, 0-9, '.', '_' and '-'"
        ) from error


def _require_key(key: str) -> None:
    if _KEY.fullmatch(key) is None:
        raise DocumentError(f"not a public key of 64 hex digits: {key[:80]!r}")


def _bound(what: str, count: int, most: int, least: int = 0) -> None:
    if not least <= count <= most:
        raise DocumentError(f"there are {count} {what}: {least} to {most} are allowed")


def _once(what: str, names: list[str]) -> None:
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise DocumentError(f"the {what} {name} is there twice")
