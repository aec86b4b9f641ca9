"""JA4 of a TLS client: the published values, each rule's edge, and no value for half a hello."""

import ssl
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.clienthello import ClientHello, is_client_hello, read_client_hello
from fleetward.core.ja4 import ja4

GREASE = (0x0A0A, 0x4A4A, 0xFAFA)

# The specification's own example: what it gives as JA4_ro, and the fingerprint of it.
EXAMPLE = "t13d1516h2_8daaf6152771_e5627efa2ab1"
EXAMPLE_IN_ORDER = (
    "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
    "_0000,0033,000d,0023,000b,ff01,000a,001b,4469,0012,002d,0010,0005,002b,0017,0015"
    "_0403,0804,0401,0503,0805,0501,0806,0601"
)
# From the test data published with the specification (sigalg-grease): a real client that greases
# its signature algorithms too.
GREASED = "t13d1517h2_8daaf6152771_cb7bf5808d99"
GREASED_IN_ORDER = (
    "1301,1302,1303,c02b,c02f,c02c,c030,cca9,cca8,c013,c014,009c,009d,002f,0035"
    "_fe0d,0010,0017,0033,44cd,ff01,000a,000d,0023,002b,000b,ca34,002d,0000,0005,001b,0012"
    "_0904,0905,0906,0403,0804,0401,0503,0805,0501,0806,0601"
)


def numbers(text: str) -> list[int]:
    return [int(one, 16) for one in text.split(",")]


def vector(values: list[int], width: int = 2) -> bytes:
    content = b"".join(one.to_bytes(2) for one in values)
    return len(content).to_bytes(width) + content


def protocols(*names: bytes) -> bytes:
    content = b"".join(bytes([len(one)]) + one for one in names)
    return len(content).to_bytes(2) + content


def hello_bytes(
    in_order: str,
    *,
    grease: bool = False,
    versions: list[int] | None = None,
    alpn: tuple[bytes, ...] = (b"h2", b"http/1.1"),
    legacy: int = 0x0303,
    record: int = 16_384,
) -> bytes:
    """Return a ClientHello with the given ciphers, extensions and signature algorithms."""
    ciphers, kinds, signatures = (numbers(part) for part in in_order.split("_"))
    more = list(GREASE) if grease else []
    name = b"\x00\x00\x0erelay.example"
    contents = {
        0x0000: len(name).to_bytes(2) + name,
        0x000D: vector(more[:1] + signatures),
        0x0010: protocols(*alpn),
        0x002B: vector(more[1:2] + (versions or [0x0304, 0x0303]), 1),
    }
    extensions = b"".join(
        kind.to_bytes(2) + len(contents.get(kind, b"")).to_bytes(2) + contents.get(kind, b"")
        for kind in more[2:] + kinds + more[:1]
    )
    body = (
        legacy.to_bytes(2) + bytes(32) + b"\x20" + bytes(32) + vector(more[:1] + ciphers)
        + b"\x01\x00" + len(extensions).to_bytes(2) + extensions
    )  # fmt: skip
    message = b"\x01" + len(body).to_bytes(3) + body
    pieces = [message[at : at + record] for at in range(0, len(message), record)]
    return b"".join(b"\x16\x03\x01" + len(one).to_bytes(2) + one for one in pieces)


def fingerprint(content: bytes) -> str:
    assert is_client_hello(content)
    return ja4(read_client_hello(content))


class TestPublished:
    @pytest.mark.parametrize("grease", [False, True])
    @pytest.mark.parametrize(
        ("in_order", "published"), [(EXAMPLE_IN_ORDER, EXAMPLE), (GREASED_IN_ORDER, GREASED)]
    )
    def test_the_published_values(self, in_order: str, published: str, *, grease: bool) -> None:
        assert fingerprint(hello_bytes(in_order, grease=grease)) == published

    @given(st.randoms(use_true_random=False))
    def test_the_order_of_ciphers_and_extensions_changes_nothing(self, random: Random) -> None:
        ciphers, kinds, signatures = EXAMPLE_IN_ORDER.split("_")
        first, second = ciphers.split(","), kinds.split(",")
        random.shuffle(first)
        random.shuffle(second)
        shuffled = f"{','.join(first)}_{','.join(second)}_{signatures}"
        assert fingerprint(hello_bytes(shuffled)) == EXAMPLE

    def test_the_order_of_signature_algorithms_does(self) -> None:
        ciphers, kinds, signatures = EXAMPLE_IN_ORDER.split("_")
        backwards = ",".join(reversed(signatures.split(",")))
        found = fingerprint(hello_bytes(f"{ciphers}_{kinds}_{backwards}"))
        assert found[:23] == EXAMPLE[:23]
        assert found != EXAMPLE

    @given(st.integers(40, 600))
    def test_a_hello_in_several_records_is_the_same(self, record: int) -> None:
        """RFC 8446, section 5.1: a sender may cut a message where it likes."""
        assert fingerprint(hello_bytes(EXAMPLE_IN_ORDER, record=record)) == EXAMPLE


class TestRules:
    @pytest.mark.parametrize(
        ("protocol", "ends"),
        [
            (b"h2", "h2"),
            (b"http/1.1", "h1"),
            (b"h", "hh"),
            (b"", "00"),
            (b"\xab", "ab"),
            (b"\xab\xcd", "ad"),
            (b"\x30\xab", "3b"),
            (b"\x30\x31\xab\xcd", "3d"),
            (b"\x30\xab\xcd\x31", "01"),
        ],
    )
    def test_the_ends_of_a_protocol(self, protocol: bytes, ends: str) -> None:
        hello = ClientHello(is_whole=True, version=0x0304, first_protocol=protocol)
        assert ja4(hello) == f"t13i0000{ends}_000000000000_000000000000"

    @pytest.mark.parametrize(
        ("version", "letters"),
        [(0x0304, "13"), (0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x0300, "s3"),
         (0x0002, "s2"), (0x7F17, "00"), (0, "00")],
    )  # fmt: skip
    def test_versions(self, version: int, letters: str) -> None:
        assert ja4(ClientHello(is_whole=True, version=version))[:3] == f"t{letters}"

    def test_the_highest_offered_version_counts_and_grease_is_none(self) -> None:
        content = hello_bytes(EXAMPLE_IN_ORDER, grease=True, versions=[0x0302, 0x0304, 0x0303])
        assert fingerprint(content).startswith("t13")
        without = EXAMPLE_IN_ORDER.replace("002b,", "")
        assert fingerprint(hello_bytes(without, legacy=0x0302)).startswith("t11")

    def test_counts_end_at_99(self) -> None:
        many = ClientHello(
            is_whole=True, version=0x0303, ciphers=tuple(range(150)), extensions=tuple(range(120))
        )
        assert ja4(many).startswith("t12d9999")

    def test_without_signature_algorithms_there_is_no_second_part(self) -> None:
        bare = ClientHello(is_whole=True, version=0x0303, extensions=(0x0017, 0x0005))
        assert ja4(bare).rpartition("_")[2] == "b514ece70b5c"  # printf 0005,0017 | sha256sum

    def test_name_and_protocols_are_counted_and_not_hashed(self) -> None:
        hello = read_client_hello(hello_bytes(EXAMPLE_IN_ORDER))
        fewer = replace(hello, extensions=tuple(e for e in hello.extensions if e not in {0, 16}))
        assert ja4(fewer) == EXAMPLE.replace("d1516", "i1514")


class TestParts:
    @given(st.integers(6, 1_000))
    def test_half_a_hello_has_no_fingerprint(self, end: int) -> None:
        """A part would have another one, and be taken for another program."""
        content = hello_bytes(EXAMPLE_IN_ORDER)
        assert fingerprint(content[:end]) == ("" if end < len(content) else EXAMPLE)

    @given(st.integers(0, 900), st.integers(0, 255))
    def test_one_wrong_byte_breaks_nothing(self, at: int, byte: int) -> None:
        content = bytearray(hello_bytes(EXAMPLE_IN_ORDER))
        content[6 + at % (len(content) - 6)] = byte
        found = fingerprint(bytes(content))
        assert found == "" or len(found) == 36

    def test_what_follows_the_hello_is_not_it(self) -> None:
        content = hello_bytes(EXAMPLE_IN_ORDER)
        assert fingerprint(content + b"\x17\x03\x03\x00\x05early") == EXAMPLE

    def test_a_real_client_of_this_machine(self) -> None:
        """OpenSSL's hello, as Python makes it; twice, with other random bytes, the same."""

        def real(name: str | None) -> str:
            context = ssl.create_default_context()
            context.check_hostname = name is not None
            context.set_alpn_protocols(["http/1.1"])
            said = ssl.MemoryBIO()
            client = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=name)
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            return fingerprint(said.read())

        assert real("relay.example") == real("other.example")
        assert real("relay.example").startswith("t13d")
        assert real("relay.example")[8:10] == "h1"
        assert real(None).startswith("t13i")
