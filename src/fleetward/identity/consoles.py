"""A console's keys: one signs what it says (Ed25519), one opens what is sealed to it (X25519).

    KEYS/console.key    fleetward.console-key/1 {signing: seed, sealing: secret key}, hex, mode 0600

The public halves reach hosts in the signed `fleet/console.json`, never from the console itself, so
whoever takes over a relay or the console's address can neither read nor answer.

A seal is libsodium's sealed box: a fresh key pair for each message, so that not even the sender
can open it again; it says nothing about who sealed it, which is the envelope's part.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.signing import SigningKey

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import Entropy
from fleetward.core.status import ConsoleId
from fleetward.errors import ConfigurationError, DocumentError, SignatureError
from fleetward.identity.dsse import sign
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.envelope import key_id

KEY_SCHEMA: Final = "fleetward.console-key/1"
_KEY_BYTES: Final = 32

SEAL_OVERHEAD_BYTES: Final = 48
"""By so much a seal is longer than its content: a public key and a tag."""


@dataclass(frozen=True, slots=True)
class ConsolePublic:
    """What hosts know of a console.

    Attributes:
        signing: Ed25519 public key, 32 bytes.
        sealing: X25519 public key, 32 bytes.
    """

    signing: bytes
    sealing: bytes

    def __post_init__(self) -> None:
        if len(self.signing) != _KEY_BYTES or len(self.sealing) != _KEY_BYTES:
            raise DocumentError("a console's public keys have 32 bytes each")

    @property
    def id(self) -> ConsoleId:
        """Return the console's id: the sha256 of the signing key."""
        return ConsoleId(key_id(self.signing))

    def seal(self, content: bytes) -> bytes:
        """Return `content` sealed, `SEAL_OVERHEAD_BYTES` longer; only the console can open it."""
        return SealedBox(PublicKey(self.sealing)).encrypt(content)


class ConsoleKeys:
    """The private keys of a console; their `repr` does not show them.

    Attributes:
        public: the public halves.
    """

    __slots__ = ("_box", "_signing", "public")

    def __init__(self, signing_seed: bytes, sealing_secret: bytes) -> None:
        """Take 32 unpredictable bytes for each."""
        self._signing = SigningKey(signing_seed)
        sealing = PrivateKey(sealing_secret)
        self._box = SealedBox(sealing)
        self.public = ConsolePublic(self._signing.verify_key.encode(), sealing.public_key.encode())

    @classmethod
    def make(cls, entropy: Entropy) -> Self:
        """Return new keys."""
        return cls(entropy.token(_KEY_BYTES), entropy.token(_KEY_BYTES))

    def __repr__(self) -> str:
        """Return the id alone."""
        return f"ConsoleKeys({self.public.id})"

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """Return an envelope that hosts verify with `dsse.verify_console`."""
        return sign(self._signing, payload_type, payload, brings_key=False)

    def open(self, seal: bytes) -> bytes:
        """Return what was sealed to this console.

        Raises:
            SignatureError: it was sealed to another console, or altered.
        """
        try:
            return self._box.decrypt(seal)
        except (CryptoError, TypeError, ValueError) as error:
            raise SignatureError("sealed to another console, or altered") from error


def open_seal(seal: bytes, consoles: Iterable[ConsoleKeys]) -> bytes:
    """Return what was sealed to any of these keys: the present ones, and those just replaced.

    Raises:
        SignatureError: sealed to none of them, or altered.
    """
    problem = SignatureError("there is no key to open it with")
    for keys in consoles:
        try:
            return keys.open(seal)
        except SignatureError as error:
            problem = error
    raise problem


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyFile:
    signing: str
    sealing: str


def obtain_console_keys(disk: Disk, path: Path, entropy: Entropy) -> ConsoleKeys:
    """Return the keys at `path`, made now where there are none.

    Args:
        disk: where the file is.
        path: the file; its folder must exist, and one process at a time calls this.
        entropy: where new keys come from.

    Raises:
        ConfigurationError: the file is not a console's key file.
        DiskError: it cannot be read or written.
    """
    if disk.kind(path) is Kind.ABSENT:
        file = _KeyFile(
            signing=entropy.token(_KEY_BYTES).hex(), sealing=entropy.token(_KEY_BYTES).hex()
        )
        write_file(disk, path, encode_json(KEY_SCHEMA, file), private=True)
    return load_console_keys(disk, path)


def load_console_keys(disk: Disk, path: Path) -> ConsoleKeys:
    """Return the keys at `path`.

    Raises:
        ConfigurationError: there are none, or the file is not a console's key file.
        DiskError: it cannot be read.
    """
    try:
        file = decode_json(KEY_SCHEMA, _KeyFile, disk.read(path))
        return ConsoleKeys(_key(file.signing), _key(file.sealing))
    except (FileNotFoundError, DocumentError) as error:
        raise ConfigurationError(
            f"{path} is no console key file: {error}; restore it from its backup"
        ) from error


def _key(text: str) -> bytes:
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise DocumentError("a key is not hex") from error
    if len(key) != _KEY_BYTES:
        raise DocumentError(f"a key has {len(key)} bytes, not {_KEY_BYTES}")
    return key
