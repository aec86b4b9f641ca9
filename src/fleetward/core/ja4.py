"""JA4, the fingerprint of a TLS client, from its ClientHello.

    t13d1516h2_8daaf6152771_e5627efa2ab1
    t                  by TCP
     13                the highest version that it offers
       d               it names a server (i: it does not)
        15             how many ciphers, 99 at most
          16           how many extensions, 99 at most
            h2         first and last character of its first protocol; 00 for none
               ciphers, sorted            the first 12 digits of their sha256
                            extensions but server name and protocols, sorted; then the
                            signature algorithms as they came

It tells programs and libraries apart, not people; a client that wants to can look like another.

Written from FoxIO's specification of JA4 (technical_details/JA4.md; BSD 3-clause, as opposed to the
rest of JA4+), whose published values are in the tests; see docs/adr/0014.

Deliberately not here: JA4 of QUIC and DTLS, and every other member of JA4+.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from fleetward.core.clienthello import ClientHello

_SERVER_NAME: Final = 0x0000
_ALPN: Final = 0x0010
_VERSIONS: Final = {
    0x0304: "13",
    0x0303: "12",
    0x0302: "11",
    0x0301: "10",
    0x0300: "s3",
    0x0002: "s2",
}
_MOST: Final = 99
_DIGITS: Final = 12
_NOTHING: Final = "0" * _DIGITS


def ja4(hello: ClientHello) -> str:
    """Return the fingerprint; empty where the hello was not whole, since a part has another."""
    if not hello.is_whole:
        return ""
    named = "d" if _SERVER_NAME in hello.extensions else "i"
    counts = "".join(f"{min(len(one), _MOST):02}" for one in (hello.ciphers, hello.extensions))
    start = f"t{_VERSIONS.get(hello.version, '00')}{named}{counts}{_ends(hello.first_protocol)}"
    return f"{start}_{_digest(_hex(sorted(hello.ciphers)))}_{_digest(_extensions(hello))}"


def _extensions(hello: ClientHello) -> str:
    counted = sorted(one for one in hello.extensions if one not in {_SERVER_NAME, _ALPN})
    if not counted:
        return ""
    return _hex(counted) + (f"_{_hex(hello.signatures)}" if hello.signatures else "")


def _ends(protocol: bytes) -> str:
    if not protocol:
        return "00"
    ends = protocol[:1] + protocol[-1:]
    if ends.isalnum():  # of bytes: ASCII alone
        return ends.decode()
    return f"{protocol.hex()[0]}{protocol.hex()[-1]}"


def _hex(numbers: Iterable[int]) -> str:
    return ",".join(f"{one:04x}" for one in numbers)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:_DIGITS] if text else _NOTHING
