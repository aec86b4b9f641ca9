"""The same server on uvloop, and the process-wide settings of a program that serves."""

import asyncio
import resource
import sys
from pathlib import Path

import pytest

from fleetward.httpd.background import serve
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.loops import loop_factory, raise_descriptor_limit, run
from fleetward.httpd.server import Server
from httpd.certificates import client_context, make_certificate, server_context
from httpd.rawhttp import Raw
from httpd.sample_repository import LARGE, SMALL, blob_url, make_repository, write


@pytest.mark.parametrize("is_tls", [False, True])
def test_the_server_on_the_fastest_loop(tmp_path: Path, is_tls: bool) -> None:  # noqa: FBT001
    root = make_repository(tmp_path / "repository")
    long = LARGE * 8
    write(root, blob_url(long), long)
    certificate = make_certificate(tmp_path)
    tls = client_context(certificate) if is_tls else None

    def talk(url: str) -> None:
        with Raw(url, tls=tls, receive_buffer=4096) as connection:
            small = f"GET {blob_url(SMALL)} HTTP/1.1\r\nHost: a\r\n\r\n"
            connection.send((small * 20 + small.replace(blob_url(SMALL), blob_url(long))).encode())
            for _ in range(20):
                assert connection.answer().body == SMALL
            assert connection.answer().body == long
            assert connection.get("/metadata/2.root.json").status == 404
            connection.send(b"nonsense\n\n")
            assert connection.answer().status == 400
            assert connection.rest() == b""

    async def main() -> None:
        stop = asyncio.Event()
        url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        server = Server(
            RepositoryHandler(root), tls=server_context(certificate) if is_tls else None
        )
        serving = asyncio.create_task(
            serve(server, "127.0.0.1", 0, ready=url.set_result, stop=stop)
        )
        await asyncio.to_thread(talk, await url)
        stop.set()
        await serving

    run(main())


def test_without_uvloop_the_usual_loop_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory() is None


def test_a_program_may_open_what_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    monkeypatch.setitem(sys.modules, "resource", None)
    raise_descriptor_limit()
