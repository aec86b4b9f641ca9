"""What the fleet role signs (2 of 3, offline), and its list of relays: `fleet/relays.json`.

A person writes TOML; what is signed is the canonical JSON of it. Like every change of an offline
role, one that lacks signatures or the online keys is left pending.

Deliberately not here: `fleet/console.json` (consoles), and what a host does with the list
(core.sourcechoice).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fleetward.adapters.disk import Disk
from fleetward.config.strict import parse_settings
from fleetward.core.consoles import Consoles
from fleetward.core.fleet import Relays, Site, parse_source_url, parse_subnet
from fleetward.core.limits import MetadataLimits
from fleetward.errors import ConfigurationError, DiskError, DocumentError
from fleetward.origin.finish import finish
from fleetward.origin.products import Change
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Workshop
from fleetward.wire.documents import decode, encode
from fleetward.wire.layout import RELAYS_TARGET

FLEET = "fleet"

_Document = TypeVar("_Document", Consoles, Relays)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WrittenSite:
    """`[[sites]]` as a person writes it."""

    name: str
    subnets: tuple[str, ...]
    relays: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """The whole file as a person writes it."""

    origins: tuple[str, ...] = ()
    sites: tuple[_WrittenSite, ...] = ()
    default: tuple[str, ...] = ()


def read_relays(disk: Disk, path: Path) -> Relays:
    """Return the list in a file: TOML, or JSON of the schema fleetward.relays/1 (`.json`).

    In TOML, URLs may end with a slash and subnets need not be canonical.

    Raises:
        ConfigurationError: absent, unreadable, or no list of relays.
    """
    try:
        content = disk.read(path)
        return decode(Relays, content) if path.suffix == ".json" else _from_toml(content.decode())
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {path}") from error
    except (DiskError, UnicodeDecodeError, DocumentError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _from_toml(text: str) -> Relays:
    written = parse_settings(text, _Written)
    return Relays(
        origins=_urls(written.origins),
        sites=tuple(
            Site(
                name=site.name,
                subnets=tuple(str(parse_subnet(subnet)) for subnet in site.subnets),
                relays=_urls(site.relays),
            )
            for site in written.sites
        ),
        default=_urls(written.default),
    )


def _urls(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(parse_source_url(text) for text in texts)


def set_relays(shop: Workshop, relays: Relays) -> Change:
    """Make `relays` the fleet's list; the same list again changes nothing.

    Raises:
        ConfigurationError: its document would be longer than hosts take, or there is no repository.
        KeyUnavailableError: the passphrase is wrong or was not given.
        DiskError: it cannot be written.
    """
    content = encode(relays)
    most = MetadataLimits().document_bytes
    if len(content) > most:
        raise ConfigurationError(
            f"the list is {len(content):,} bytes as a document, and hosts take {most:,}: use wider "
            "subnets, or names and URLs that are shorter"
        )
    return set_document(shop, RELAYS_TARGET, content)


def set_document(shop: Workshop, name: str, content: bytes) -> Change:
    """Make `content` the fleet's document called `name`; the same again changes nothing.

    Raises: as `set_relays`.
    """
    with shop.alone():
        staging = Staging(shop)
        role = staging.current(FLEET) or staging.closure.roles[FLEET]
        ref = shop.repository.add_target(name, content)
        targets = role.targets
        if targets.get(name) == ref:
            return Change(changed=False, outcome=finish(staging))
        staging.stage(role.with_targets({**targets, name: ref}))
        return Change(changed=True, outcome=finish(staging))


def live_relays(shop: Workshop) -> Relays | None:
    """Return the list that is live, or None where none was signed. Raises as `live_document`."""
    return live_document(shop, Relays, RELAYS_TARGET)


def live_document(shop: Workshop, kind: type[_Document], name: str) -> _Document | None:
    """Return the fleet's document called `name` that is live, or None where none was signed.

    Raises:
        ConfigurationError: there is no repository.
        MetadataError: the live metadata does not verify.
        DocumentError: the document is absent or damaged.
    """
    with shop.alone():
        closure = shop.repository.closure()
    ref = closure.roles[FLEET].targets.get(name)
    return shop.repository.document(kind, name, ref) if ref else None
