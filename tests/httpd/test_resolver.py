"""Connecting where a resolver says: to the judged address, with the name for Host and for TLS."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fleetward.errors import NetworkError
from fleetward.httpd.background import LoopThread, Ready, serve
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.server import Server
from httpd.certificates import client_context, make_certificate, server_context
from httpd.sample_repository import TIMESTAMP, make_repository
from httpd.upstreams import Upstream, serving


class Says:
    """A resolver that gives these addresses, or refuses where there are none."""

    def __init__(self, *addresses: str) -> None:
        self.found = addresses
        self.asked: list[tuple[str, int]] = []

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append((host, port))
        if not self.found:
            raise NetworkError(f"{host} is refused")
        return self.found


def fetch(client: UpstreamClient, path: str) -> bytes:
    async def main() -> bytes:
        try:
            async with await client.get(path) as response:
                return await response.read(1000, 5.0)
        finally:
            client.close()

    return asyncio.run(main())


def named(url: str, host: str) -> Endpoint:
    return Endpoint.upstream(f"{urlsplit(url).scheme}://{host}:{urlsplit(url).port}")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(serving({"/a": b"content"})) as server:
        yield server


def test_the_name_stays_the_host(upstream: Upstream) -> None:
    client = UpstreamClient(named(upstream.url, "up.example"))
    client.resolver = says = Says("127.0.0.1")
    assert fetch(client, "/a") == b"content"
    port = urlsplit(upstream.url).port
    assert says.asked == [("up.example", port)]
    assert upstream.asked[0].headers["host"] == f"up.example:{port}"


def test_the_next_address_is_tried(upstream: Upstream) -> None:
    """Nobody listens on the first; 127.0.0.9 answers nothing there."""
    client = UpstreamClient(named(upstream.url, "up.example"))
    client.resolver = Says("::1", "127.0.0.9", "127.0.0.1")
    assert fetch(client, "/a") == b"content"


def test_no_address_answers() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        client = UpstreamClient(Endpoint.upstream(f"http://up.example:{closed.getsockname()[1]}"))
        client.resolver = Says("127.0.0.9", "127.0.0.1")
        with pytest.raises(NetworkError, match="cannot connect"):
            fetch(client, "/a")


def test_a_refusal_connects_nowhere(upstream: Upstream) -> None:
    client = UpstreamClient(named(upstream.url, "127.0.0.1"))
    client.resolver = Says()
    with pytest.raises(NetworkError, match="refused"):
        fetch(client, "/a")
    assert upstream.asked == []


def test_a_proxy_resolves_by_itself() -> None:
    """The proxy's own name is the operator's; what it connects to is for the proxy to judge."""
    with Upstream(serving({"http://up.example/a": b"by the proxy"})) as proxy:
        client = UpstreamClient(
            Endpoint.upstream("http://up.example"), proxy=Endpoint.proxy(proxy.url)
        )
        client.resolver = says = Says()
        assert fetch(client, "/a") == b"by the proxy"
        assert says.asked == []


def test_tls_expects_the_name(tmp_path: Path) -> None:
    """DNS is taken over: the address has a certificate, but not one for the upstream's name."""
    certificate = make_certificate(tmp_path)
    make_repository(tmp_path / "repository")

    async def run(ready: Ready, stop: asyncio.Event) -> None:
        handler = RepositoryHandler(tmp_path / "repository")
        server = Server(handler, tls=server_context(certificate))
        await serve(server, "127.0.0.1", 0, ready=ready, stop=stop)

    with LoopThread(run) as thread:
        tls = client_context(certificate)
        right = UpstreamClient(named(thread.url, "127.0.0.1"), tls=tls)
        right.resolver = Says("127.0.0.1")
        assert fetch(right, "/metadata/timestamp.json") == TIMESTAMP
        wrong = UpstreamClient(named(thread.url, "up.example"), tls=tls)
        wrong.resolver = Says("127.0.0.1")
        with pytest.raises(NetworkError, match="certificate"):
            fetch(wrong, "/metadata/timestamp.json")
