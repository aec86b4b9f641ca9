"""Requests to an upstream that may be slow, hostile, or just gone."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from fleetward.errors import ConfigurationError, NetworkError, SlowTransferError
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.limits import KIB, ClientLimits
from httpd.upstreams import Asked, Out, Upstream, head, serving

QUICK = ClientLimits(
    connect_timeout=timedelta(milliseconds=200),
    head_timeout=timedelta(milliseconds=100),
    read_timeout=timedelta(milliseconds=100),
    rate_window=timedelta(milliseconds=50),
    max_head_bytes=2 * KIB,
    read_ahead_bytes=64 * KIB,
)


def run(
    url: str, use: Callable[[UpstreamClient], Awaitable[bytes]], limits: ClientLimits = QUICK
) -> bytes:
    async def main() -> bytes:
        client = UpstreamClient(Endpoint.upstream(url), limits=limits)
        try:
            return await use(client)
        finally:
            client.close()

    return asyncio.run(main())


async def fetch(client: UpstreamClient, path: str = "/a", max_bytes: int = 1 << 20) -> bytes:
    async with await client.get(path) as response:
        return await response.read(max_bytes, 5.0)


def saying(*pieces: bytes, keep: bool = False) -> Upstream:
    """An upstream that answers each request with these bytes."""

    async def script(_: Asked, out: Out) -> bool:
        await out.send(*pieces)
        return keep

    return Upstream(script)


def test_one_connection_serves_many_requests() -> None:
    files = {f"/{n}": b"content %d" % n for n in range(5)}

    async def use(client: UpstreamClient) -> bytes:
        got = [await fetch(client, path) for path in files]
        assert client.traffic.requests == 5
        assert client.traffic.received_bytes > sum(len(one) for one in got)
        return b",".join(got)

    with Upstream(serving(files)) as upstream:
        assert run(upstream.url, use) == b",".join(files.values())
        assert upstream.asked[0].headers["accept-encoding"] == "identity"
        assert upstream.asked[0].headers["host"] == upstream.url.removeprefix("http://")


def test_a_kept_connection_that_the_upstream_closed_is_not_a_failure() -> None:
    async def use(client: UpstreamClient) -> bytes:
        first = await fetch(client)
        await asyncio.sleep(0)
        return first + await fetch(client)

    with saying(head(2), b"ok") as upstream:
        assert run(upstream.url, use) == b"okok"


def test_a_kept_connection_that_grew_old_is_not_used() -> None:
    old = ClientLimits(idle_timeout=timedelta(0))

    async def use(client: UpstreamClient) -> bytes:
        return await fetch(client) + await fetch(client)

    with saying(head(2), b"ok", keep=True) as upstream:
        assert run(upstream.url, use, old) == b"okok"


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ((head(5), b"he", b"llo"), b"hello"),
        ((head(0),), b""),
        ((head(None), b"until the end"), b"until the end"),
        (
            (head(None, "Transfer-Encoding: chunked"), b"5\r\nhello\r\n", b"1\r\n!\r\n0\r\n\r\n"),
            b"hello!",
        ),
        ((b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", head(2), b"ok"), b"ok"),
        ((head(2, "Content-Encoding: identity", "X: a", "X: b"), b"ok"), b"ok"),
    ],
)
def test_each_way_to_end_a_body(pieces: tuple[bytes, ...], body: bytes) -> None:
    with saying(*pieces) as upstream:
        assert run(upstream.url, fetch) == body


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ((head(10), b"short"), "early"),
        ((head(None, "Transfer-Encoding: chunked"), b"5\r\nhel"), "early"),
        ((), "early"),
        ((b"SSH-2.0-OpenSSH\r\n",), "broke HTTP"),
        ((head(2, "Content-Encoding: gzip"), b"\x1f\x8b"), "compressed"),
        ((head(2), b"ok" + head(2) + b"no"), "nobody asked"),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3000,), "endless head"),
        ((head(2, "X: " + "x" * 3000), b"ok"), "endless head"),
        ((head(2, "Transfer-Encoding: chunked"), b"ok"), "broke HTTP"),
        (
            (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
            "another protocol|early",
        ),
    ],
)
def test_the_upstream_breaks_a_rule(pieces: tuple[bytes, ...], why: str) -> None:
    with saying(*pieces) as upstream, pytest.raises(NetworkError, match=why):
        run(upstream.url, fetch)


def test_bytes_that_come_later_do_not_become_the_next_answer() -> None:
    """The upstream sends a second response unasked, to be taken for the next request's."""

    async def script(asked: Asked, out: Out) -> bool:
        await out.send(head(2), b"ok")
        if asked.path == "/first":
            await out.send(head(6), b"poison")
        return True

    async def use(client: UpstreamClient) -> bytes:
        with contextlib.suppress(NetworkError):
            await fetch(client, "/first")
        await asyncio.sleep(0.02)
        return await fetch(client, "/second")

    with Upstream(script) as upstream:
        assert run(upstream.url, use) == b"ok"


def test_a_head_request_has_no_body_whatever_it_says() -> None:
    async def use(client: UpstreamClient) -> bytes:
        async with await client.get("/a", method="HEAD") as response:
            assert response.length == 7
            return await response.read(10, 5.0)

    with Upstream(serving({"/a": b"content"})) as upstream:
        assert run(upstream.url, use) == b""


def test_a_redirect_is_handed_over_and_not_followed() -> None:
    async def use(client: UpstreamClient) -> bytes:
        async with await client.get("/a") as response:
            return b"%d" % response.status

    answer = head(0, "Location: http://169.254.169.254/", status="302 Found")
    with saying(answer) as upstream:
        assert run(upstream.url, use) == b"302"
        assert upstream.paths() == ["/a"]


def test_endless_data_ends() -> None:
    async def script(_: Asked, out: Out) -> None:
        await out.send(head(None))
        while True:
            await out.send(b"x" * 4096)

    with Upstream(script) as upstream, pytest.raises(NetworkError, match="more than 100000"):
        run(upstream.url, lambda client: fetch(client, max_bytes=100_000))


def test_an_upstream_that_is_silent_is_given_up() -> None:
    async def script(asked: Asked, out: Out) -> None:
        if asked.path == "/middle":
            await out.send(head(100), b"some")
        await upstream.event("never").wait()

    upstream = Upstream(script)
    with upstream:
        with pytest.raises(SlowTransferError, match="did not answer"):
            run(upstream.url, fetch)
        with pytest.raises(SlowTransferError, match="in the middle"):
            run(upstream.url, lambda client: fetch(client, "/middle"))


def test_slow_retrieval_is_given_up() -> None:
    """The upstream sends a byte now and then, each within the read timeout."""

    async def script(_: Asked, out: Out) -> None:
        await out.send(head(1000))
        for byte in b"x" * 1000:
            await out.send(bytes([byte]))
            await asyncio.sleep(0.005)

    with Upstream(script) as upstream:
        with pytest.raises(SlowTransferError, match="minimum rate"):
            run(upstream.url, fetch)

        async def hurried(client: UpstreamClient) -> bytes:
            async with await client.get("/a") as response:
                return await response.read(1000, 0.02)

        with pytest.raises(SlowTransferError, match="took more than"):
            run(upstream.url, hurried)


def test_a_fast_upstream_is_not_read_faster_than_the_consumer() -> None:
    content = b"y" * (4 << 20)

    async def use(client: UpstreamClient) -> bytes:
        async with await client.get("/a") as response:
            await asyncio.sleep(0.05)
            assert client.traffic.received_bytes < 1 << 20
            return await response.read(8 << 20, 5.0)

    with Upstream(serving({"/a": content})) as upstream:
        assert run(upstream.url, use) == content


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(NetworkError, match="cannot connect"):
            run(f"http://127.0.0.1:{port}", fetch)


def test_a_full_backlog_does_not_hold_us_for_ever() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(SlowTransferError):
            run(url, fetch)


# -- proxies -----------------------------------------------------------------------------------


def test_an_http_upstream_through_a_proxy() -> None:
    async def main() -> bytes:
        client = UpstreamClient(
            Endpoint.upstream("http://origin.example/repo"),
            proxy=Endpoint.proxy(proxy.url.replace("http://", "http://user:p%40ss@")),
        )
        body = await fetch(client)
        client.close()
        return body

    with Upstream(serving({"http://origin.example/repo/a": b"via proxy"})) as proxy:
        assert asyncio.run(main()) == b"via proxy"
        assert proxy.asked[0].headers["host"] == "origin.example"
        assert proxy.asked[0].headers["proxy-authorization"] == "basic dxnlcjpwqhnz"


@pytest.mark.parametrize("answer", [head(0, status="403 Forbidden"), b""])
def test_a_proxy_that_refuses_the_tunnel(answer: bytes) -> None:
    async def main() -> bytes:
        client = UpstreamClient(
            Endpoint.upstream("https://origin.example"), proxy=Endpoint.proxy(proxy.url)
        )
        return await fetch(client)

    with saying(answer) as proxy:
        with pytest.raises(NetworkError):
            asyncio.run(main())
        assert (proxy.asked[0].method, proxy.asked[0].path) == ("CONNECT", "origin.example:443")


# -- URLs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown", "host_header", "authority"),
    [
        ("http://relay", "http://relay", "relay", "relay:80"),
        ("http://relay:2967/", "http://relay:2967", "relay:2967", "relay:2967"),
        (
            "https://Origin.Example/repo/",
            "https://origin.example/repo",
            "origin.example",
            "origin.example:443",
        ),
        (
            "https://[2001:db8::1]:444",
            "https://[2001:db8::1]:444",
            "[2001:db8::1]:444",
            "[2001:db8::1]:444",
        ),
        ("http://[::1]", "http://[::1]", "[::1]", "[::1]:80"),
    ],
)
def test_an_upstream_url(url: str, shown: str, host_header: str, authority: str) -> None:
    endpoint = Endpoint.upstream(url)
    assert str(endpoint) == shown
    assert endpoint.host_header == host_header
    assert endpoint.authority == authority


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay:2967",
        "ftp://relay",
        "http://",
        "http://relay:port",
        "http://relay:99999",
        "http://user@relay",
        "http://relay/?q",
        "http://relay/#f",
        "http://relay/a b",
        "http://rélay",
        "http://[::1",
    ],
)
def test_what_is_no_upstream_url(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint.upstream(url)


@pytest.mark.parametrize("url", ["https://proxy:3128", "http://proxy/path", "socks5://proxy"])
def test_what_is_no_proxy_url(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Endpoint.proxy(url)
    assert Endpoint.proxy("http://proxy:3128").authorization == ""
