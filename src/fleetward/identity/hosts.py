"""A host's key: one Ed25519 seed in a file of mode 0600, made once.

    HOME/host.key    fleetward.host-key/1 {seed: 64 hex digits, host: its id}

Copying the file copies the host; the console sees the clone (two live epochs). A TPM is a later
step. The file is written whole or not at all: after power loss there is a key or none, and the one
that was announced by `obtain_host_key` stays.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nacl.signing import SigningKey

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk, Kind
from fleetward.adapters.entropy import Entropy
from fleetward.core.status import HostId
from fleetward.errors import ConfigurationError, DocumentError
from fleetward.identity.dsse import sign
from fleetward.wire.documents import decode_json, encode_json
from fleetward.wire.envelope import key_id

KEY_SCHEMA: Final = "fleetward.host-key/1"
_SEED_BYTES: Final = 32


class HostKey:
    """The private key of a host; its `repr` does not show it.

    Attributes:
        public: the public key's 32 bytes.
        id: their sha256 in hex.
    """

    __slots__ = ("_key", "id", "public")

    def __init__(self, seed: bytes) -> None:
        """Take the seed, 32 unpredictable bytes."""
        self._key = SigningKey(seed)
        self.public: bytes = self._key.verify_key.encode()
        self.id = HostId(key_id(self.public))

    def __repr__(self) -> str:
        """Return the id alone."""
        return f"HostKey({self.id})"

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """Return an envelope that proves its own sender."""
        return sign(self._key, payload_type, payload, brings_key=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyFile:
    host: str
    seed: str


def obtain_host_key(disk: Disk, path: Path, entropy: Entropy) -> HostKey:
    """Return the key at `path`, made now where there is none.

    Args:
        disk: where the file is.
        path: the file; its folder must exist, and one process at a time calls this.
        entropy: where a new seed comes from.

    Raises:
        ConfigurationError: the file is not a host key.
        DiskError: it cannot be read or written.
    """
    if disk.kind(path) is Kind.ABSENT:
        seed = entropy.token(_SEED_BYTES)
        file = _KeyFile(host=HostKey(seed).id, seed=seed.hex())
        write_file(disk, path, encode_json(KEY_SCHEMA, file), private=True)
    return load_host_key(disk, path)


def load_host_key(disk: Disk, path: Path) -> HostKey:
    """Return the key at `path`.

    Raises:
        ConfigurationError: there is none, or it is not a host key.
        DiskError: it cannot be read.
    """
    try:
        file = decode_json(KEY_SCHEMA, _KeyFile, disk.read(path))
        key = HostKey(_seed(file.seed))
    except (FileNotFoundError, DocumentError) as error:
        raise ConfigurationError(
            f"{path} is no host key: {error}; enrol this host again"
        ) from error
    if key.id != file.host:
        raise ConfigurationError(f"{path} is damaged: its seed is not the one of {file.host}")
    return key


def _seed(text: str) -> bytes:
    try:
        seed = bytes.fromhex(text)
    except ValueError as error:
        raise DocumentError("the seed is not hex") from error
    if len(seed) != _SEED_BYTES:
        raise DocumentError(f"the seed has {len(seed)} bytes, not {_SEED_BYTES}")
    return seed
