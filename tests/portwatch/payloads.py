"""Payloads of each class; inert, as in tests/core/test_portclass.py."""

HELLO = bytes.fromhex("0110000014") + bytes(11)
HELLO_ANSWER = bytes.fromhex("01100000140101") + bytes(9)
PROBE = bytes.fromhex("00060100000100000000000007") + b"version\x04bind\x00\x00\x10\x00\x03"
OVERFLOW = b"\x01\x10" + b"\x01" * 4 + b"\x00\x24\x00" + b"\x02" * 5 + b"\\" + b"\x03" * 380
GUP = (
    b"GET /content/{C60DC234-65F9-4674-94AE-62158EFCA433}/141124002/full.zip HTTP/1.1\r\n"
    b"Host: gup:2967\r\n\r\n"
)
OURS = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: relay\r\n\r\n"
HTTP = b"GET /admin HTTP/1.1\r\nHost: relay\r\n\r\n"
TLS = bytes.fromhex("160301004a01000046") + b"\x03\x03" + bytes(68)

STREAMS = {
    "rtvscan-overflow": OVERFLOW,
    "nmap-probe": b"\x00\x1e" + PROBE,
    "savce-hello": HELLO,
    "gup-request": GUP,
    "fleetward": OURS,
    "tls-client-hello": TLS,
    "http": HTTP,
    "other": b"\x05\x01\x00",
}
