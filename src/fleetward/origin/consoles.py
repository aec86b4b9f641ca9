"""Whom hosts believe as their console: `fleet/console.json`, signed by the fleet role.

A person writes TOML, or brings what consoles print of themselves (`fleetward console keys`); what
is signed is the canonical JSON of it. What lacks signatures or the online keys is left pending.

Deliberately not here: the private keys, which no origin has, and what a host does with the
document (agent.consoles).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fleetward.adapters.disk import Disk
from fleetward.config.strict import parse_settings
from fleetward.core.consoles import Approver, ConsolePair, Consoles, OfflineSite
from fleetward.errors import ConfigurationError, DiskError, DocumentError
from fleetward.origin.fleet import FLEET, live_document, set_document
from fleetward.origin.products import Change
from fleetward.origin.staging import Staging
from fleetward.origin.workshop import Workshop
from fleetward.wire.consolekeys import decode_console_keys
from fleetward.wire.documents import decode, encode
from fleetward.wire.layout import CONSOLE_TARGET


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenConsoles:
    """The document as a person writes it: the keys may come from elsewhere."""

    keys: tuple[ConsolePair, ...] = ()
    approvers: tuple[Approver, ...] = ()
    offline: tuple[OfflineSite, ...] = ()


def read_consoles(disk: Disk, path: Path) -> WrittenConsoles:
    """Return what a file says: TOML, or JSON of the schema fleetward.console/1 (`.json`).

    Raises:
        ConfigurationError: absent, unreadable, or not of that form.
    """
    content = _read(disk, path)
    try:
        if path.suffix != ".json":
            return parse_settings(content.decode(), WrittenConsoles)
        signed = decode(Consoles, content)
    except (UnicodeDecodeError, DocumentError, ConfigurationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return WrittenConsoles(keys=signed.keys, approvers=signed.approvers, offline=signed.offline)


def read_pairs(disk: Disk, paths: Iterable[Path]) -> tuple[ConsolePair, ...]:
    """Return the pairs that consoles have printed (`fleetward console keys`), in order.

    Raises:
        ConfigurationError: a file is absent, unreadable, or not of that form.
    """
    found: list[ConsolePair] = []
    for path in paths:
        try:
            found += decode_console_keys(_read(disk, path)).keys
        except DocumentError as error:
            raise ConfigurationError(
                f"{path}: {error}; take it from the console: fleetward console keys --json"
            ) from error
    return tuple(found)


def _read(disk: Disk, path: Path) -> bytes:
    try:
        return disk.read(path)
    except FileNotFoundError as error:
        raise ConfigurationError(f"there is no {path}") from error
    except DiskError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def composed(
    standing: Consoles | None, written: WrittenConsoles | None, pairs: tuple[ConsolePair, ...]
) -> Consoles:
    """Return the document that is to be signed.

    Args:
        standing: what is signed now; its approvers and offline sites stay where nothing is written.
        written: what a person wrote, whole; None for nothing.
        pairs: what consoles printed, in place of the written keys; empty for nothing.

    Raises:
        ConfigurationError: no keys are named, or they do not fit together.
    """
    before = standing or WrittenConsoles()
    after = written or WrittenConsoles(
        keys=before.keys, approvers=before.approvers, offline=before.offline
    )
    after = replace(after, keys=pairs or after.keys)
    try:
        return Consoles(keys=after.keys, approvers=after.approvers, offline=after.offline)
    except DocumentError as error:
        raise ConfigurationError(str(error)) from error


def set_consoles(shop: Workshop, consoles: Consoles) -> Change:
    """Make `consoles` whom hosts believe; the same again changes nothing.

    Raises:
        ConfigurationError: there is no repository.
        KeyUnavailableError: the passphrase is wrong or was not given.
        DiskError: it cannot be written.
    """
    return set_document(shop, CONSOLE_TARGET, encode(consoles))


def live_consoles(shop: Workshop) -> Consoles | None:
    """Return what is live, or None where none was signed. Raises as `live_document`."""
    return live_document(shop, Consoles, CONSOLE_TARGET)


def standing_consoles(shop: Workshop) -> Consoles | None:
    """Return what a change goes on from: what waits for signatures, else what is live.

    Raises: as `live_document`.
    """
    with shop.alone():
        role = Staging(shop).current(FLEET)
    ref = role.targets.get(CONSOLE_TARGET) if role else None
    return shop.repository.document(Consoles, CONSOLE_TARGET, ref) if ref else None
