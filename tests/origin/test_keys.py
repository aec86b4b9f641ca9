"""Key files: both forms, wrong passphrases, files that are not what they say."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from fleetward.errors import ConfigurationError, DocumentError, KeyUnavailableError
from fleetward.origin.keyring import (
    Keyring,
    PlainKeys,
    SealedKeys,
    no_passphrase,
    write_key,
)
from fleetward.trust.keys import (
    KeyCost,
    Passphrase,
    Sealer,
    SigningKey,
    open_key_file,
    read_key_file,
)
from fleetward.trust.signing import RoleKeys
from origin.rigging import YARA, simdisk
from support.fakes import SeededEntropy

CHEAP = KeyCost(1, 8192)
KEY = SigningKey.generate(SeededEntropy(1))


def sealed(words: str = "open sesame", seed: int = 2) -> bytes:
    sealer = Sealer(Passphrase(lambda: words), SeededEntropy(seed), CHEAP)
    return KEY.sealed_file(sealer)


def test_a_plain_key_is_what_every_tool_reads() -> None:
    content = KEY.plain_file()
    assert isinstance(load_pem_private_key(content, password=None), Ed25519PrivateKey)
    file = read_key_file(content, "k.pem")
    assert file.is_plain
    assert file.keyid == KEY.public.keyid
    assert open_key_file(file, Passphrase(no_passphrase)).public == KEY.public


def test_a_sealed_key_opens_with_its_passphrase_alone() -> None:
    content = sealed()
    assert content.startswith(b'{"schema":"fleetward.key/1","keyid":')
    file = read_key_file(content, "k.json")
    assert not file.is_plain
    assert open_key_file(file, Passphrase(lambda: "open sesame")).public == KEY.public
    with pytest.raises(KeyUnavailableError, match=r"does not open k\.json"):
        open_key_file(file, Passphrase(lambda: "open sesam"))


def test_the_seed_is_in_no_sealed_file_and_no_repr() -> None:
    seed = SeededEntropy(1).token(32)
    content = sealed()
    for form in (seed, seed.hex().encode(), base64.b64encode(seed)):
        assert form not in content
    file = read_key_file(KEY.plain_file(), "k.pem")
    assert repr(file) == "<KeyFile k.pem>"
    assert repr(KEY) == f"<SigningKey {KEY.public.keyid}>"


def test_a_passphrase_is_asked_for_once_and_derived_once() -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        return "open sesame"

    passphrase = Passphrase(ask)
    sealer = Sealer(passphrase, SeededEntropy(), CHEAP)
    files = [SigningKey.generate(SeededEntropy(n)).sealed_file(sealer) for n in range(3)]
    assert len({json.loads(file)["salt"] for file in files}) == 1
    assert len({json.loads(file)["box"] for file in files}) == 3
    for file in files:
        open_key_file(read_key_file(file, "k"), passphrase)
    assert asked == [1]


def test_an_empty_passphrase_is_none() -> None:
    with pytest.raises(KeyUnavailableError, match="empty"):
        sealed("")


def test_the_three_ways_to_give_a_passphrase_are_said() -> None:
    with pytest.raises(KeyUnavailableError) as caught:
        open_key_file(read_key_file(sealed(), "k"), Passphrase(no_passphrase))
    for way in ("--passphrase-file", "FLEETWARD_PASSPHRASE", "terminal"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", "fleetward.key/2"),
        ("kdf", "scrypt"),
        ("salt", "AAAA"),
        ("ops", 0),
        ("ops", 1000),
        ("mem", 1 << 50),
        ("mem", 1),
        ("box", 5),
        ("box", None),
    ],
)
def test_a_sealed_file_that_is_none_is_refused_before_anything_is_derived(
    field: str, value: object
) -> None:
    fields = json.loads(sealed())
    fields[field] = value
    with pytest.raises(ConfigurationError, match=r"k\.json"):
        read_key_file(json.dumps(fields).encode(), "k.json")


def test_a_sealed_file_that_names_another_key_is_refused() -> None:
    fields = json.loads(sealed())
    fields["keyid"] = "0" * 64
    file = read_key_file(json.dumps(fields).encode(), "k.json")
    with pytest.raises(ConfigurationError, match="another key than it names"):
        open_key_file(file, Passphrase(lambda: "open sesame"))


def test_a_sealed_file_whose_box_holds_no_seed_is_refused() -> None:
    fields = json.loads(sealed())
    salt = base64.b64decode(fields["salt"])
    box = Passphrase(lambda: "p").box(salt, CHEAP)
    fields["box"] = base64.b64encode(box.encrypt(b"short")).decode()
    file = read_key_file(json.dumps(fields).encode(), "k.json")
    with pytest.raises(ConfigurationError, match="Ed25519 seed"):
        open_key_file(file, Passphrase(lambda: "p"))


def test_a_box_that_is_too_short_is_a_wrong_passphrase_or_no_seed() -> None:
    fields = json.loads(sealed())
    fields["box"] = ""
    file = read_key_file(json.dumps(fields).encode(), "k.json")
    with pytest.raises(ConfigurationError):
        open_key_file(file, Passphrase(lambda: "p"))


def test_other_keys_in_pem_are_refused() -> None:
    other = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with pytest.raises(ConfigurationError, match="not an Ed25519 key"):
        read_key_file(other, "k.pem")
    locked = load_pem_private_key(KEY.plain_file(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    with pytest.raises(ConfigurationError, match="unencrypted PKCS#8"):
        read_key_file(locked, "k.pem")
    with pytest.raises(ConfigurationError, match="unencrypted PKCS#8"):
        read_key_file(KEY.plain_file()[:40], "k.pem")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_a_configuration_error(content: bytes) -> None:
    for whole in (content, b"-----BEGIN " + content):
        with pytest.raises(ConfigurationError):
            read_key_file(whole, "k")


def test_the_cost_has_limits() -> None:
    with pytest.raises(DocumentError):
        KeyCost(passes=17)


# -- the folder ------------------------------------------------------------------------------


def test_keys_are_found_by_id_wherever_they_lie() -> None:
    disk = simdisk()
    for place in ("offline", "online", "products/yara", "products/p"):
        disk.make_folder(Path("/srv/keys", place))
    keys = [SigningKey.generate(SeededEntropy(n)) for n in range(4)]
    for key, name in zip(keys, ("offline/a", "online/b", "products/yara/c"), strict=False):
        write_key(disk, Path("/srv/keys", name), key, PlainKeys())
    for name in ("offline/README.txt", "offline/.hidden.pem"):
        with disk.create(Path("/srv/keys", name)) as file:
            file.write(b"not a key")
    ring = Keyring(disk, Path("/srv/keys"))
    wanted = RoleKeys(tuple(key.public for key in keys[::-1]), 1)
    assert [key.public for key in ring.signers(wanted)] == [k.public for k in keys[2::-1]]
    assert ring.is_plain
    assert [found.place for found in ring.found()] == ["offline", "online", "products/yara"]


def test_a_folder_without_keys_has_none() -> None:
    ring = Keyring(simdisk(), Path("/srv/nothing"))
    assert ring.found() == []
    assert not ring.is_plain
    assert ring.signers(RoleKeys((KEY.public,), 1)) == []


def test_new_product_keys_join_as_the_others_are() -> None:
    disk = simdisk()
    folder = Path("/srv/keys/online")
    disk.make_folder(folder)
    passphrase = Passphrase(lambda: "p")
    write_key(disk, folder / "x", KEY, SealedKeys(Sealer(passphrase, SeededEntropy(), CHEAP)))
    ring = Keyring(disk, Path("/srv/keys"), passphrase)
    made = ring.product_keys(YARA, 1, SeededEntropy(5))
    assert disk.listing(Path("/srv/keys/products/yara")) == ["releases-1.json"]
    again = Keyring(disk, Path("/srv/keys"), passphrase).product_keys(YARA, 2, SeededEntropy(6))
    assert again[0].public == made[0].public
    assert len(again) == 2
