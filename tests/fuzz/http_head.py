"""A fuzz target for everything between a client's bytes and a handler.

    python -m tests.fuzz.http_head [CORPUS]     for ever, with atheris where it is installed

`fuzz_one` fails (an AssertionError, or whatever breaks) where a head is taken that a strict reader
of RFC 9112 would not take, where another cut of the same bytes gives another answer, or where
bytes make anything fail but the connection that sent them. tests/httpd/test_fuzz.py calls it with
random bytes; `random_input` makes them from a seed, half of them close to real requests.
"""

import importlib
import random
import re
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

from fleetward.httpd.head import Head, HeadReader
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import RefusedRequestError
from httpd.recording import LIMITS, talk

_REQUEST_LINE = re.compile(rb"[A-Z][A-Z-]*[A-Z] [\x21-\x7e]+ HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_KNOWN = frozenset({100, 200, 400, 408, 411, 413, 414, 417, 431, 500, 503})

PIECES = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /same HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
    b'HEAD /a?b HTTP/1.1\r\nHost: a\r\nIf-None-Match: "x"\r\n\r\n',
    b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\n\r\n",
    b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
)
SPLINTERS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\r\n ", b"\r\n\t", b"\r\n\r\n", b"%2e%2e", b"%",
    b"//", b"/../", b"#", b"@", b"*", b"\xff", b"\x0b", b"\x85", b"HTTP/1.1", b"HTTP/0.9", b"HTTP/2.0",
    b"Content-Length: 5\r\n", b"Content-Length: +5\r\n", b"Content-Length: 5, 5\r\n",
    b"Content-Length : 5\r\n", b"content-length:\t5\r\n", b"Content-Length: 0x5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding:\x0bchunked\r\n", b"Host: b\r\n",
    b"Host:\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X: " + b"y" * 200 + b"\r\n",
)  # fmt: skip


def random_input(seed: int) -> bytes:
    """Return bytes that are often nearly a request."""
    rng = random.Random(seed)
    data = bytearray(b"".join(rng.choices(PIECES, k=rng.randint(1, 3))))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[at:at] = rng.choice(SPLINTERS)
            case 1:
                del data[at : at + rng.randint(1, 6)]
            case 2:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case _:
                line = data.find(b"\r\n", at) + 2
                data[line:line] = rng.choice(SPLINTERS)
    return bytes([rng.randrange(256)]) + bytes(data)


def fuzz_one(data: bytes) -> None:
    """Try one input: its first byte says how the others are cut."""
    if not data:
        return
    cut, stream = data[0] % 97 + 1, data[1:]
    _judge_head(stream)
    whole = _talk([stream] if stream else [])
    assert _talk([stream[at : at + cut] for at in range(0, len(stream), cut)]) == whole
    slow = ServerLimits(
        max_head_bytes=LIMITS.max_head_bytes,
        max_target_bytes=LIMITS.max_target_bytes,
        requests_per_turn=LIMITS.requests_per_turn,
        max_repeat_head_bytes=0,
    )
    assert _talk([stream] if stream else [], slow) == whole
    assert whole[0] == b"" or int(_STATUS.match(whole[0])[1]) in _KNOWN  # type: ignore[index]


def _talk(pieces: list[bytes], limits: ServerLimits = LIMITS) -> tuple[bytes, bool]:
    """Return what came back; "go on" is left away, which only a client that waits is told."""
    written, is_closed = talk(pieces, limits)
    return written.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""), is_closed


def _judge_head(stream: bytes) -> None:
    end = stream.find(b"\r\n\r\n") + 4
    if end < 4:
        return  # no whole head: what the connection then does is seen by `talk`
    raw = stream[:end]
    reader = HeadReader(LIMITS)
    try:
        head = reader.read(raw)
    except RefusedRequestError as error:
        assert error.status in _KNOWN  # noqa: PT017 (the status is what is judged)
    else:
        judge_accepted(raw, head)
    after = reader.read(b"GET /after HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % len(raw))
    assert (after.target.path, after.headers[b"host"]) == ("/after", b"a")


def judge_accepted(raw: bytes, head: Head) -> None:
    """Fail where a strict reader of RFC 9112 would not have taken these bytes as this head."""
    lines = raw[:-4].split(b"\r\n")
    assert _REQUEST_LINE.fullmatch(lines[0]), lines[0]
    fields: dict[bytes, list[bytes]] = {}
    for line in lines[1:]:
        found = _FIELD.fullmatch(line)
        assert found, line
        fields.setdefault(found[1].lower(), []).append(found[2].rstrip(b"\t "))
    assert b"transfer-encoding" not in fields
    hosts = fields.get(b"host", [])
    assert len(hosts) == 1 or (head.is_http_1_0 and not hosts)
    lengths = fields.get(b"content-length", [])
    assert len(lengths) <= 1
    assert all(length.isdigit() for length in lengths)
    assert head.body_bytes == (int(lengths[0]) if lengths else 0)
    assert head.method == lines[0].split(b" ")[0].decode()
    segments = head.target.path.split("/")
    assert segments[0] == ""
    assert not {"..", "."} & set(segments)
    assert "" not in segments[1:-1]
    assert head.headers == {name: b", ".join(values) for name, values in fields.items()}


def main() -> None:
    """Fuzz with atheris for ever."""
    try:
        atheris = importlib.import_module("atheris")  # optional, and without types
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris, or run make slow")
    atheris.instrument_all()
    atheris.Setup(sys.argv, fuzz_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
