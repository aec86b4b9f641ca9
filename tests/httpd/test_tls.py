"""The same server over TLS, where the kernel cannot send files by itself."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.errors import NetworkError
from fleetward.httpd.background import LoopThread, Ready, serve
from fleetward.httpd.client import UpstreamClient
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.server import Server, Sockets
from httpd.certificates import client_context, make_certificate, server_context
from httpd.handlers import OneFile
from httpd.rawhttp import DEADLINE, CutError, Raw
from httpd.sample_repository import LARGE, TIMESTAMP, blob_url, make_repository, write


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(params=Sockets)
def sockets(request: pytest.FixtureRequest) -> Sockets:
    """Everything here holds for both ways of reading and writing sockets."""
    assert isinstance(request.param, Sockets)
    return request.param


@pytest.fixture
def url(tmp_path: Path, certificate: Path, sockets: Sockets) -> Iterator[str]:
    limits = ServerLimits(tls_handshake_timeout=timedelta(milliseconds=200))

    async def run(ready: Ready, stop: asyncio.Event) -> None:
        write(make_repository(tmp_path), blob_url(LARGE * 8), LARGE * 8)
        handler = RepositoryHandler(tmp_path)
        tls = server_context(certificate)
        server = Server(handler, limits=limits, tls=tls, sockets=sockets)
        await serve(server, "127.0.0.1", 0, ready=ready, stop=stop)

    with LoopThread(run) as thread:
        yield thread.url


def test_files_of_every_size_over_tls(url: str, certificate: Path) -> None:
    assert url.startswith("https://")
    with Raw(url, tls=client_context(certificate)) as connection:
        assert connection.get("/metadata/timestamp.json").body == TIMESTAMP
        assert connection.get(blob_url(LARGE)).body == LARGE
        assert connection.get(blob_url(LARGE * 8)).body == LARGE * 8
        assert connection.get(blob_url(LARGE), "Range: bytes=1000-").body == LARGE[1000:]
        assert connection.get("/metadata/timestamp.json", "Connection: close").body == TIMESTAMP
        assert connection.rest() == b""


def test_a_client_that_reads_late_over_tls(url: str, certificate: Path) -> None:
    request = f"GET {blob_url(LARGE * 8)} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with Raw(url, tls=client_context(certificate), receive_buffer=4096) as connection:
        connection.send(request * 3)
        for _ in range(3):
            assert connection.answer().body == LARGE * 8


def test_a_refused_client_is_told_why_over_tls(url: str, certificate: Path) -> None:
    with Raw(url, tls=client_context(certificate)) as connection:
        connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.answer().status == 400
        assert connection.rest() == b""


def test_a_client_that_never_shakes_hands_is_closed(url: str) -> None:
    host, port = url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as silent:
        assert silent.recv(100) == b""


def test_a_file_that_is_cut_while_it_is_sent_cuts_the_answer(
    tmp_path: Path, certificate: Path, sockets: Sockets
) -> None:
    file = tmp_path / "short"
    file.write_bytes(LARGE)

    async def run(ready: Ready, stop: asyncio.Event) -> None:
        handler = OneFile(str(file), len(LARGE) + 1)
        server = Server(handler, tls=server_context(certificate), sockets=sockets)
        await serve(server, "127.0.0.1", 0, ready=ready, stop=stop)

    tls = client_context(certificate)
    with (
        LoopThread(run) as thread,
        Raw(thread.url, tls=tls) as connection,
        pytest.raises(CutError),
    ):
        connection.get("/")


def test_an_upstream_is_verified(url: str, certificate: Path) -> None:
    async def fetch(client: UpstreamClient) -> bytes:
        async with await client.get("/metadata/timestamp.json") as response:
            body = await response.read(1000, 5.0)
        client.close()
        return body

    endpoint = Endpoint.upstream(url)
    trusting = UpstreamClient(endpoint, tls=client_context(certificate))
    assert asyncio.run(fetch(trusting)) == TIMESTAMP
    with pytest.raises(NetworkError, match="certificate"):
        asyncio.run(fetch(UpstreamClient(endpoint)))


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP proxy that does what CONNECT says."""
    line = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")
    host, port = line[1].split(":")
    far_reader, far_writer = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(65536):
                sink.write(piece)
                await sink.drain()
        sink.close()

    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))


def test_an_upstream_over_tls_through_a_proxy(url: str, certificate: Path) -> None:
    async def main() -> list[bytes]:
        tunnels: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tunnels.add(task)
            await _tunnel(reader, writer)

        proxy = await asyncio.start_server(accept, "127.0.0.1", 0)
        port = proxy.sockets[0].getsockname()[1]
        client = UpstreamClient(
            Endpoint.upstream(url),
            tls=client_context(certificate),
            proxy=Endpoint.proxy(f"http://127.0.0.1:{port}"),
        )
        bodies = []
        for _ in range(2):
            async with await client.get(blob_url(LARGE)) as response:
                bodies.append(await response.read(len(LARGE), 5.0))
        client.close()
        proxy.close()
        await asyncio.gather(*tunnels)
        return bodies

    assert asyncio.run(main()) == [LARGE, LARGE]
