"""Request heads: what is read, and every smuggling shape that is refused."""

import pytest

from fleetward.httpd.head import HeadReader
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import RefusedRequestError, Response, encode_headers

LIMITS = ServerLimits(max_head_bytes=512, max_target_bytes=64)


def test_a_head_is_read_into_a_value() -> None:
    head = HeadReader(LIMITS).read(
        b"POST /a?b=c HTTP/1.1\r\nHost: relay\r\nX-One: 1\r\nx-one: \t2\t \r\nContent-Length: 3\r\n\r\n"
    )
    assert (head.method, head.target.path, head.target.query) == ("POST", "/a", "b=c")
    assert head.headers[b"x-one"] == b"1, 2"
    assert (head.keep_alive, head.is_http_1_0, head.body_bytes) == (True, False, 3)


def test_one_reader_reads_one_head_after_another() -> None:
    reader = HeadReader(LIMITS)
    for number in range(3):
        head = reader.read(b"GET /%d HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % (number, number))
        assert head.target.path == f"/{number}"
        assert head.headers == {b"host": b"a", b"x": b"%d" % number}
    assert not reader.read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").keep_alive
    assert not reader.read(b"GET / HTTP/1.0\r\n\r\n").keep_alive
    old = reader.read(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert old.keep_alive
    assert old.is_http_1_0


def test_a_head_that_was_read_before_means_the_same() -> None:
    limits = ServerLimits(max_head_bytes=400)
    raw = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"
    first = HeadReader(limits).read(raw)
    assert HeadReader(limits).read(raw) == first
    for number in range(3000):
        HeadReader(limits).read(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert len(HeadReader(limits)._known) <= 2048
    assert HeadReader(limits).read(raw) == first
    with pytest.raises(TypeError):
        first.headers[b"x"] = b"z"  # type: ignore[index]


def test_an_upgrade_that_is_offered_is_not_taken() -> None:
    reader = HeadReader(LIMITS)
    raw = b"GET /a HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    assert reader.read(raw).target.path == "/a"
    assert reader.read(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n").target.path == "/b"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\x80: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length\x0b: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x7f\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", 400),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", 400),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 400),
        (b"GET http://user:secret@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400),
        (b"GET / RTSP/1.0\r\nHost: a\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 500 + b"\r\n\r\n", 431),
    ],
)
def test_the_client_sends_a_shape_that_two_readers_could_read_differently(
    raw: bytes, status: int
) -> None:
    reader = HeadReader(LIMITS)
    with pytest.raises(RefusedRequestError) as caught:
        reader.read(raw)
    assert caught.value.status == status
    for method in (b"POST", b"GET"):
        good = method + b" /good HTTP/1.1\r\nHost: a\r\nX: %d\r\n\r\n" % id(raw)
        assert reader.read(good).target.path == "/good", "the next client pays for this one"


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"GET / HTTP/1.1\nHost", 400),
        (b"\nGET", 400),
        (b"GET\rX", 400),
        (b"G\0", 400),
        (b"GET /" + b"a" * 200, 414),
        (b"GET / HTTP/1.1\r\n" + b"a" * 600, 431),
    ],
)
def test_what_can_no_longer_become_a_head_is_refused_before_its_end(
    received: bytes, status: int
) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        HeadReader(LIMITS).judge_partial(received)
    assert caught.value.status == status
    HeadReader(LIMITS).judge_partial(b"GET / HTTP/1.1\r\nHost: a\r")


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\rb", "a\0b", "a\r\n"])
def test_a_header_that_would_split_the_response_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line end or NUL"):
        encode_headers((("X", value),))


def test_a_response_encodes_its_headers_once() -> None:
    assert Response(200, (("A", "b"),), b"xyz").encoded == b"A: b\r\nContent-Length: 3\r\n"
    assert Response(304, (("A", "b"),)).encoded == b"A: b\r\n"
    assert Response(404).status_line == b"HTTP/1.1 404 Not Found\r\n"
