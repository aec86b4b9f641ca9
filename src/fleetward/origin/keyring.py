"""The folder of signing keys: `offline`, `products/P` and `online` (DESIGN, "Trust").

A command finds keys by their ids, wherever they lie under the folder, and signs with those that
it can read; so a steward's folder holds `online` alone, a build host's `products/P` alone.

Deliberately not here: the form of a key file (trust.keys) and whose signature is wanted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import Entropy
from fleetward.core.names import ProductName
from fleetward.errors import DiskError, KeyUnavailableError
from fleetward.trust.keys import (
    KeyFile,
    Passphrase,
    Sealer,
    SigningKey,
    open_key_file,
    read_key_file,
)
from fleetward.trust.signing import RoleKeys

OFFLINE = "offline"
ONLINE = "online"
PRODUCTS = "products"
_SUFFIXES = (".pem", ".json")
_Value = TypeVar("_Value")


class KeyForm(Protocol):
    """How new keys are written."""

    suffix: str

    def content(self, key: SigningKey) -> bytes:
        """Return the key's file."""
        ...


class PlainKeys:
    """Unencrypted files, for demos and tests."""

    suffix = ".pem"

    def content(self, key: SigningKey) -> bytes:
        """Return the key as PKCS#8 PEM."""
        return key.plain_file()


class SealedKeys:
    """Files under a passphrase."""

    suffix = ".json"

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def content(self, key: SigningKey) -> bytes:
        """Return the key as a sealed file. Raises KeyUnavailableError (no passphrase)."""
        return key.sealed_file(self._sealer)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key file and where it lies: `offline`, `online` or `products/P`."""

    place: str
    file: KeyFile


def no_passphrase() -> str:
    """Refuse: what a Passphrase asks where nobody can be asked.

    Raises:
        KeyUnavailableError: always, with the three ways to give one.
    """
    raise KeyUnavailableError(
        "the keys are encrypted and no passphrase was given: use --passphrase-file, set "
        "FLEETWARD_PASSPHRASE, or run it on a terminal"
    )


class Keyring:
    """The signing keys under one folder."""

    def __init__(self, disk: Disk, folder: Path, passphrase: Passphrase | None = None) -> None:
        self._disk = disk
        self.folder = folder
        self.passphrase = passphrase or Passphrase(no_passphrase)
        self._opened: dict[str, SigningKey] = {}
        self._found: list[FoundKey] | None = None

    def look_again(self) -> None:
        """Forget which key files there are; opened keys stay open."""
        self._found = None

    def found(self) -> list[FoundKey]:
        """Return every key file that can be read, as of the first look.

        Raises:
            ConfigurationError: a file that should be a key is none.
            DiskError: the disk fails.
        """
        if self._found is None:
            places = [OFFLINE, ONLINE]
            places += [f"{PRODUCTS}/{name}" for name in self._listing(self.folder / PRODUCTS)]
            self._found = [found for place in places for found in self._in_place(place)]
        return self._found

    def _in_place(self, place: str) -> Iterator[FoundKey]:
        folder = self.folder / place
        for name in self._listing(folder):
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                content = self._readable(folder / name)
                if content is not None:
                    yield FoundKey(place, read_key_file(content, str(folder / name)))

    def signers(self, keys: RoleKeys) -> list[SigningKey]:
        """Return those of `keys` that can be read, opened.

        Raises:
            KeyUnavailableError: the passphrase is wrong or was not given.
            ConfigurationError: a key file is malformed.
        """
        wanted = set(keys.keyids)
        for found in self.found():
            keyid = found.file.keyid
            if keyid in wanted and keyid not in self._opened:
                self._opened[keyid] = open_key_file(found.file, self.passphrase)
        return [self._opened[keyid] for keyid in keys.keyids if keyid in self._opened]

    @property
    def is_plain(self) -> bool:
        """Whether there are keys and all of them are unencrypted."""
        found = self.found()
        return bool(found) and all(each.file.is_plain for each in found)

    def form(self, entropy: Entropy) -> KeyForm:
        """Return how new keys join this ring: as those that are there."""
        return PlainKeys() if self.is_plain else SealedKeys(Sealer(self.passphrase, entropy))

    def product_keys(
        self, product: ProductName, count: int, entropy: Entropy
    ) -> tuple[SigningKey, ...]:
        """Return the product's `count` keys; those that are not there yet are made.

        Raises:
            KeyUnavailableError: the ring is sealed and no passphrase was given.
            DiskError: they cannot be written.
        """
        form = self.form(entropy)
        folder = self.folder / PRODUCTS / product
        self._disk.make_folder(folder, private=True)
        place = f"{PRODUCTS}/{product}"
        known = {Path(each.file.name).stem: each for each in self.found() if each.place == place}
        keys = []
        for number in range(1, count + 1):
            name = f"releases-{number}"
            if name in known:
                key = open_key_file(known[name].file, self.passphrase)
            else:
                key = SigningKey.generate(entropy)
                write_key(self._disk, folder / name, key, form)
                self.look_again()
            self._opened[key.public.keyid] = key
            keys.append(key)
        return tuple(keys)

    def _listing(self, folder: Path) -> list[str]:
        try:
            return self._disk.listing(folder) if self._disk.kind(folder) is Kind.FOLDER else []
        except DiskError as error:
            return _unless_forbidden(error, [])

    def _readable(self, path: Path) -> bytes | None:
        try:
            return self._disk.read(path)
        except DiskError as error:
            return _unless_forbidden(error, None)


def write_key(disk: Disk, stem: Path, key: SigningKey, form: KeyForm) -> None:
    """Write a key file (mode 0600), its suffix after its form."""
    path = stem.with_name(stem.name + form.suffix)
    write_file(disk, path, form.content(key), private=True)


def _unless_forbidden(error: DiskError, otherwise: _Value) -> _Value:
    if isinstance(error.__cause__, PermissionError):
        return otherwise
    raise error
