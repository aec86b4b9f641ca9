"""DSSE as its specification says, and signatures that cannot be moved, altered or borrowed."""

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fleetward.errors import DocumentError, SignatureError
from fleetward.identity.dsse import sign, verify_console, verify_host
from fleetward.wire.envelope import (
    Envelope,
    SelfSigned,
    Signature,
    decode_envelope,
    decode_self_signed,
    encode_envelope,
    key_id,
    pre_authentication_encoding,
)
from support.status import CONSOLE, OTHER_CONSOLE, host_key

KIND = "application/vnd.example"
LIMIT = 65536


def test_the_example_of_the_specification() -> None:
    # DSSE protocol, "Test Vectors": payload "hello world", type http://example.com/HelloWorld.
    assert (
        pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_type_that_is_not_ascii_counts_in_bytes() -> None:
    assert pre_authentication_encoding("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.tuples(st.text(), st.binary()), st.tuples(st.text(), st.binary()))
def test_two_contents_never_give_the_same_signed_bytes(
    one: tuple[str, bytes], two: tuple[str, bytes]
) -> None:
    is_same = pre_authentication_encoding(*one) == pre_authentication_encoding(*two)
    assert is_same == (one == two)


def test_an_envelope_has_not_changed_since_it_was_fixed() -> None:
    # Ed25519 is deterministic: RFC 8032's first test key, whose public key is d75a9801....
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    envelope = sign(SigningKey(seed), KIND, b"hello", brings_key=True)
    assert json.loads(envelope) == {
        "payloadType": KIND,
        "payload": "aGVsbG8=",
        "signatures": [
            {
                "keyid": "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9",
                "sig": GOLDEN_SIG,
                "key": "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            }
        ],
    }
    assert list(json.loads(envelope)) == ["payloadType", "payload", "signatures"]
    assert b" " not in envelope


GOLDEN_SIG = (
    "qHArs5/DEuwAabaVp1Sj4iLYPM0PqVKt13NG6z7ibccrFHp0LaH/PV5gSeAfrVYX6KShh9x2MeiZDs9Pr9EsAA=="
)


def self_signed(number: int = 0, payload: bytes = b"words") -> SelfSigned:
    return decode_self_signed(host_key(number).sign(KIND, payload), LIMIT, KIND)


def test_a_host_proves_what_it_said() -> None:
    statement = verify_host(self_signed())
    assert (statement.host, statement.payload) == (host_key().id, b"words")
    assert (statement.key, statement.payload_type) == (host_key().public, KIND)


@given(st.binary(max_size=2000), st.integers(0, 1_000_000))
def test_any_payload_comes_back(payload: bytes, number: int) -> None:
    key = host_key(number)
    signed = decode_self_signed(key.sign(KIND, payload), LIMIT, KIND)
    assert verify_host(signed).payload == payload


@given(st.data())
def test_the_relay_alters_a_byte_and_the_envelope_is_refused(data: st.DataObject) -> None:
    """The relay changes any one bit of an envelope; the console refuses what is left."""
    envelope = bytearray(host_key().sign(KIND, b"three products, all well"))
    at = data.draw(st.integers(0, len(envelope) - 1))
    envelope[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((DocumentError, SignatureError)):
        verify_host(decode_self_signed(bytes(envelope), LIMIT, KIND))


def test_the_attacker_signs_in_the_name_of_another() -> None:
    """The attacker signs with his key and names another host: the key is not the one named."""
    mine = json.loads(host_key(1).sign(KIND, b"words"))
    mine["signatures"][0]["keyid"] = host_key(2).id
    with pytest.raises(DocumentError, match="keyid"):
        decode_self_signed(json.dumps(mine, separators=(",", ":")).encode(), LIMIT, KIND)


def test_the_attacker_brings_anothers_key() -> None:
    """The attacker names another host and brings its key, but has only his own signature."""
    mine, theirs = self_signed(1), self_signed(2)
    with pytest.raises(SignatureError):
        verify_host(replace(theirs, sig=mine.sig))


def test_the_attacker_moves_a_signature_to_another_payload_or_type() -> None:
    with pytest.raises(SignatureError):
        verify_host(replace(self_signed(), payload=b"other"))
    with pytest.raises(SignatureError):
        verify_host(replace(self_signed(), payload_type="application/other"))


def test_a_key_of_small_order_signs_for_nobody() -> None:
    """With the identity point as key, one signature would fit many messages."""
    weak = b"\x01" + b"\x00" * 31
    forged = SelfSigned(host_key().id, weak, weak + b"\x00" * 32, KIND, b"anything")
    with pytest.raises(SignatureError):
        verify_host(forged)


def test_the_console_proves_what_it_said() -> None:
    envelope = decode_envelope(CONSOLE.sign(KIND, b"well done"), LIMIT)
    statement = verify_console(
        envelope, KIND, [OTHER_CONSOLE.public.signing, CONSOLE.public.signing]
    )
    assert (statement.console, statement.payload) == (CONSOLE.public.id, b"well done")


def test_another_console_is_not_believed() -> None:
    envelope = decode_envelope(OTHER_CONSOLE.sign(KIND, b"well done"), LIMIT)
    with pytest.raises(SignatureError, match="no console key"):
        verify_console(envelope, KIND, [CONSOLE.public.signing])


def test_a_host_is_no_console() -> None:
    """An envelope that brings its own key is not trusted for that."""
    envelope = decode_envelope(host_key().sign(KIND, b"well done"), LIMIT)
    with pytest.raises(SignatureError):
        verify_console(envelope, KIND, [CONSOLE.public.signing])


def test_a_signature_for_one_type_is_none_for_another() -> None:
    """The relay hands an enrolment answer out as an inbox."""
    envelope = decode_envelope(CONSOLE.sign("application/answer", b"{}"), LIMIT)
    with pytest.raises(SignatureError, match="signed as application/answer"):
        verify_console(envelope, KIND, [CONSOLE.public.signing])


def test_one_valid_signature_of_several_is_enough() -> None:
    """While a console's key is replaced, it signs with the old one and the new one."""
    one = decode_envelope(CONSOLE.sign(KIND, b"x"), LIMIT).signatures[0]
    two = decode_envelope(OTHER_CONSOLE.sign(KIND, b"x"), LIMIT).signatures[0]
    broken = Signature(two.keyid, one.sig)
    both = [CONSOLE.public.signing, OTHER_CONSOLE.public.signing]
    assert verify_console(Envelope(KIND, b"x", (broken, one)), KIND, both).console == one.keyid
    with pytest.raises(SignatureError, match="not of the key"):
        verify_console(Envelope(KIND, b"x", (broken,)), KIND, both)


# -- the one form ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('","', '", "', 1),
        lambda text: text + "\n",
        lambda text: text.replace('{"payloadType"', '{"more":1,"payloadType"'),
        lambda text: text.replace('"payload":"', '"payload":"\\u0064'),
        lambda text: text.replace("d29yZHM=", "d29yZHM"),
        lambda text: text.replace("d29yZHM=", "d29yZHN="),
        lambda text: text.replace("]}", ",{}]}"),
        lambda text: text.replace('"signatures":[', '"signatures":[],"x":['),
        lambda _: "",
        lambda _: "[]",
        lambda _: "[" * 10000,
        lambda _: '{"payloadType":"a","payload":"","signatures":[]}',
        lambda text: text.replace(KIND, "k" * 101),
        lambda text: text.replace(KIND, "a\\nb"),
    ],
)
def test_a_second_form_of_the_same_envelope_is_refused(change: object) -> None:
    """Otherwise a relay could make many check-ins of one, and fill a spool with them."""
    text = host_key().sign(KIND, b"words").decode()
    altered = change(text)  # type: ignore[operator]
    assert altered != text
    with pytest.raises(DocumentError):
        decode_self_signed(altered.encode(), LIMIT, KIND)


def test_an_envelope_that_is_too_long_is_refused_unread() -> None:
    envelope = host_key().sign(KIND, b"x" * 1000)
    with pytest.raises(DocumentError, match="where 1200 may be"):
        decode_self_signed(envelope, 1200, KIND)


def test_a_host_signs_once_and_brings_its_key() -> None:
    signed = decode_envelope(host_key().sign(KIND, b"x"), LIMIT)
    twice = encode_envelope(replace(signed, signatures=signed.signatures * 2))
    with pytest.raises(DocumentError, match="exactly one"):
        decode_self_signed(twice, LIMIT, KIND)
    bare = encode_envelope(replace(signed, signatures=(replace(signed.signatures[0], key=None),)))
    with pytest.raises(DocumentError, match="brings the key"):
        decode_self_signed(bare, LIMIT, KIND)
    with pytest.raises(DocumentError, match="not of the type"):
        decode_self_signed(host_key().sign("other", b"x"), LIMIT, KIND)


def test_keys_and_signatures_have_their_length() -> None:
    keyid = key_id(b"k" * 32)
    with pytest.raises(DocumentError, match="64 bytes"):
        Signature(keyid, b"s" * 63)
    with pytest.raises(DocumentError, match="32 bytes"):
        Signature(keyid, b"s" * 64, b"k" * 31)
    with pytest.raises(DocumentError, match="digest"):
        Signature(keyid.upper(), b"s" * 64)


def test_the_payload_is_padded_base64() -> None:
    raw = json.loads(host_key().sign(KIND, b"\xff\xfe"))
    assert base64.b64decode(raw["payload"], validate=True) == b"\xff\xfe"
    assert raw["payload"] == "//4="
