"""Signing keys, and the two forms in which they lie in files (docs/adr/0008-key-files.md).

- plain: PKCS#8 PEM, what every tool reads; for demos, tests and keys on an encrypted disk;
- sealed: JSON under the schema `fleetward.key/1`; the 32 bytes of the Ed25519 seed in a PyNaCl
  SecretBox under a key that argon2id makes of a passphrase.

Invariants: a private key is never part of a message, a `repr` or an error; a sealed file whose
seed does not belong to the public key that it names is refused.

Deliberately not here: where key files lie (origin.keyring) and what is signed (trust.signing).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from nacl.exceptions import CryptoError
from nacl.pwhash import argon2id
from nacl.secret import SecretBox
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from fleetward.adapters.entropy import Entropy
from fleetward.core.limits import GIB, KIB, MIB
from fleetward.errors import ConfigurationError, DocumentError, KeyUnavailableError
from fleetward.wire.documents import decode_json, encode_json

KEY_SCHEMA = "fleetward.key/1"
_KDF = "argon2id"
_PEM_HEAD = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class KeyCost:
    """What one guess of a passphrase costs.

    Attributes:
        passes: argon2id's passes over its memory; at most 16 are accepted from a file.
        mem: argon2id's memory in bytes; 8 KiB to 1 GiB are accepted from a file, so that a key
            file that somebody else wrote cannot exhaust the machine.
    """

    passes: int = 3
    mem: int = 256 * MIB

    def __post_init__(self) -> None:
        if not (1 <= self.passes <= 16 and 8 * KIB <= self.mem <= GIB):
            raise DocumentError(f"argon2id with {self.passes} passes over {self.mem} bytes")


class Passphrase:
    """A passphrase, asked for at most once, when the first sealed key needs it."""

    def __init__(self, ask: Callable[[], str]) -> None:
        """Hold `ask`, which returns the passphrase or raises KeyUnavailableError."""
        self._ask = ask
        self._text: str | None = None
        self._boxes: dict[tuple[bytes, KeyCost], SecretBox] = {}

    def box(self, salt: bytes, cost: KeyCost) -> SecretBox:
        """Return the box under the key of passphrase, salt and cost; each is derived once.

        Raises:
            KeyUnavailableError: no passphrase was given, or an empty one.
        """
        if self._text is None:
            self._text = self._ask()
        if not self._text:
            raise KeyUnavailableError("the passphrase is empty: give one, or use --plain-keys")
        known = self._boxes.get((salt, cost))
        if known is None:
            derived = argon2id.kdf(32, self._text.encode(), salt, cost.passes, cost.mem)
            known = self._boxes[salt, cost] = SecretBox(derived)
        return known


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half of a key that metadata names.

    Attributes:
        keyid: its id in metadata, as securesystemslib computes it.
        public: its 32 bytes as lower-case hex.
    """

    keyid: str
    public: str

    def as_tuf(self) -> SSlibKey:
        """Return it as python-tuf's type."""
        return SSlibKey(self.keyid, "ed25519", "ed25519", {"public": self.public})


class SigningKey:
    """An Ed25519 key that can sign.

    Attributes:
        public: its public half.
    """

    def __init__(self, seed: bytes) -> None:
        """Make the key of a 32-byte seed."""
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._signer = CryptoSigner(self._private)
        key = self._signer.public_key
        self.public = PublicKey(key.keyid, key.keyval["public"])

    @classmethod
    def generate(cls, entropy: Entropy) -> "SigningKey":
        """Return a new key."""
        return cls(entropy.token(32))

    def __repr__(self) -> str:
        return f"<SigningKey {self.public.keyid}>"

    def sign(self, payload: bytes) -> Signature:
        """Return the signature over `payload`."""
        return self._signer.sign(payload)

    def plain_file(self) -> bytes:
        """Return the key as unencrypted PKCS#8 PEM."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sealed_file(self, sealer: "Sealer") -> bytes:
        """Return the key as a sealed file.

        Raises:
            KeyUnavailableError: as `Passphrase.box`.
        """
        return sealer.seal(self.public, self._private.private_bytes_raw())


class _SealedKey(msgspec.Struct):
    keyid: str
    public: str
    kdf: str
    ops: int
    mem: int
    salt: bytes
    box: bytes


class Sealer:
    """Seals keys under one passphrase; they share a salt, so that one guess opens or fails all."""

    def __init__(
        self, passphrase: Passphrase, entropy: Entropy, cost: KeyCost | None = None
    ) -> None:
        self._passphrase = passphrase
        self._entropy = entropy
        self._cost = cost or KeyCost()
        self._salt = entropy.token(argon2id.SALTBYTES)

    def seal(self, public: PublicKey, seed: bytes) -> bytes:
        """Return the sealed file of `seed`.

        Raises:
            KeyUnavailableError: as `Passphrase.box`.
        """
        box = self._passphrase.box(self._salt, self._cost)
        sealed = box.encrypt(seed, self._entropy.token(SecretBox.NONCE_SIZE))
        fields = {
            "keyid": public.keyid,
            "public": public.public,
            "kdf": _KDF,
            "ops": self._cost.passes,
            "mem": self._cost.mem,
            "salt": self._salt,
            "box": bytes(sealed),
        }
        return encode_json(KEY_SCHEMA, fields) + b"\n"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file that was read, not yet opened.

    Attributes:
        name: what to call it in messages.
        keyid: the id that it claims; proven when it is opened.
        is_plain: whether it lies there unencrypted.
        content: its bytes.
    """

    name: str
    keyid: str
    is_plain: bool = field(kw_only=True)
    content: bytes

    def __repr__(self) -> str:
        return f"<KeyFile {self.name}>"


def read_key_file(content: bytes, name: str) -> KeyFile:
    """Return a key file of either form.

    Raises:
        ConfigurationError: it is neither, or not an Ed25519 key.
    """
    if content.startswith(_PEM_HEAD):
        return KeyFile(name, _open_plain(content, name).public.keyid, content, is_plain=True)
    return KeyFile(name, _sealed(content, name).keyid, content, is_plain=False)


def open_key_file(file: KeyFile, passphrase: Passphrase) -> SigningKey:
    """Return the key in `file`.

    Raises:
        KeyUnavailableError: the passphrase is wrong or was not given.
        ConfigurationError: the file is malformed, or its seed is not that of its public key.
    """
    if file.is_plain:
        return _open_plain(file.content, file.name)
    sealed = _sealed(file.content, file.name)
    try:
        box = passphrase.box(sealed.salt, KeyCost(sealed.ops, sealed.mem))
        key = SigningKey(box.decrypt(sealed.box))
    except CryptoError as error:
        raise KeyUnavailableError(
            f"the passphrase does not open {file.name}: give the one it was made with"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{file.name} does not hold an Ed25519 seed") from error
    if key.public != PublicKey(sealed.keyid, sealed.public):
        raise ConfigurationError(
            f"{file.name} holds another key than it names: restore it from a copy"
        )
    return key


def _open_plain(content: bytes, name: str) -> SigningKey:
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{name} is not an unencrypted PKCS#8 key: restore it from a copy"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(f"{name} is not an Ed25519 key: only these sign here")
    return SigningKey(key.private_bytes_raw())


def _sealed(content: bytes, name: str) -> _SealedKey:
    try:
        sealed = decode_json(KEY_SCHEMA, _SealedKey, content)
        KeyCost(sealed.ops, sealed.mem)
    except DocumentError as error:
        raise ConfigurationError(f"{name} is not a key file: {error}") from error
    if sealed.kdf != _KDF or len(sealed.salt) != argon2id.SALTBYTES:
        raise ConfigurationError(f"{name} derives its key in a way that this version does not know")
    return sealed
