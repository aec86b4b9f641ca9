"""Lines keep every promise of asyncio's transports, however little the kernel takes at once."""

import asyncio
import contextlib
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fleetward.httpd.lines import HIGH_WATER, LOW_WATER, Line, TlsLine
from fleetward.httpd.pump import Pump
from httpd.certificates import client_context, make_certificate, server_context
from httpd.sample_repository import LARGE

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="needs Linux")


class Noting(asyncio.Protocol):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.received = b""
        self.said: list[str] = []
        self.keeps_open = False
        self.error: Exception | None = None
        self.line: Line | None = None
        self.fails = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Line)
        self.line = transport
        self.said.append("made")

    def data_received(self, data: bytes) -> None:
        if self.fails:
            raise RuntimeError("a bug")
        self.received += data

    def eof_received(self) -> bool:
        self.said.append("eof")
        return self.keeps_open

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append("lost")
        self.error = exc


class Door:
    """Lets in who comes, up to a number."""

    def __init__(self, tls: ssl.SSLContext | None = None, room: int = 100) -> None:
        self.made: list[Noting] = []
        self.inside = 0
        self.entered = 0
        self.handshake_timeout = 0.1
        self._tls = tls
        self._room = room

    def enter(self, peer: str) -> bool:
        if self.inside >= self._room:
            return False
        self.inside += 1
        self.entered += 1
        return True

    def leave(self, peer: str) -> None:
        self.inside -= 1

    def begin_turn(self) -> None: ...

    def tls_context(self) -> ssl.SSLContext | None:
        return self._tls

    def make_protocol(self) -> Noting:
        self.made.append(Noting())
        return self.made[-1]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (another process's kernel sets no event)
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def pumping(door: Door) -> AsyncIterator[tuple[Pump, int]]:
    pump = Pump(asyncio.get_running_loop(), door)
    listening = socket.create_server(("127.0.0.1", 0))
    pump.listen(listening)
    port: int = listening.getsockname()[1]
    try:
        yield pump, port
    finally:
        pump.stop_listening()
        pump.close()
        pump.close()
        for _ in range(5):
            await asyncio.sleep(0)
        assert door.inside == 0
        assert len(pump) == 0


@contextlib.asynccontextmanager
async def connected(
    *, receive_buffer: int = 1 << 16
) -> AsyncIterator[tuple[Noting, Line, socket.socket]]:
    """A line, its protocol, and the client's socket."""
    door = Door()
    async with pumping(door) as (_, port):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            client.settimeout(10)
            client.connect(("127.0.0.1", port))
            await until(lambda: len(door.made) == 1)
            line = door.made[0].line
            assert line is not None
            line.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
            yield door.made[0], line, client


async def read_all(client: socket.socket) -> bytes:
    def read() -> bytes:
        got = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(1 << 20):
                got += piece
        return bytes(got)

    return await asyncio.to_thread(read)


def test_what_the_kernel_does_not_take_waits_and_leaves_in_order() -> None:
    async def main() -> None:
        async with connected(receive_buffer=4096) as (protocol, line, client):
            parts = [b"%d" % n * 5_000 for n in range(100)]
            for part in parts:
                line.write(part)
            assert line.get_write_buffer_size() > HIGH_WATER
            assert protocol.said == ["made", "pause"]
            line.close()
            assert line.is_closing()
            line.close()
            assert await read_all(client) == b"".join(parts)
            await until(lambda: "lost" in protocol.said)
            assert protocol.said == ["made", "pause", "resume", "lost"]
            assert protocol.error is None

    asyncio.run(main())


def test_a_client_that_reads_is_written_to_again_at_the_low_water() -> None:
    async def main() -> None:
        async with connected(receive_buffer=4096) as (protocol, line, client):
            line.write(b"x" * 200_000)
            assert protocol.said[-1] == "pause"
            client.setblocking(False)  # noqa: FBT003 (the socket's own interface)
            while protocol.said[-1] == "pause":
                with contextlib.suppress(BlockingIOError):
                    client.recv(1000)
                await asyncio.sleep(0)
            assert line.get_write_buffer_size() <= LOW_WATER

    asyncio.run(main())


def test_one_direction_ends_after_all_has_left() -> None:
    async def main() -> None:
        async with connected(receive_buffer=4096) as (protocol, line, client):
            line.write(LARGE)
            assert line.can_write_eof()
            line.write_eof()
            assert await read_all(client) == LARGE
            client.sendall(b"still heard")
            await until(lambda: protocol.received == b"still heard")
            line.write(b"said to nobody")
            await until(lambda: "lost" in protocol.said)

    asyncio.run(main())


def test_a_client_that_stops_sending_may_still_be_answered() -> None:
    async def main() -> None:
        async with connected() as (protocol, line, client):
            protocol.keeps_open = True
            client.sendall(b"last words")
            client.shutdown(socket.SHUT_WR)
            await until(lambda: "eof" in protocol.said)
            assert protocol.received == b"last words"
            line.write(b"answer")
            line.close()
            assert await read_all(client) == b"answer"
            await until(lambda: "lost" in protocol.said)

    asyncio.run(main())


def test_a_client_that_stops_sending_is_left_where_nobody_wants_it() -> None:
    async def main() -> None:
        async with connected() as (protocol, _, client):
            client.shutdown(socket.SHUT_WR)
            await until(lambda: "lost" in protocol.said)
            assert client.recv(10) == b""

    asyncio.run(main())


def test_what_a_client_sends_stays_in_the_kernel_while_nobody_reads() -> None:
    async def main() -> None:
        async with connected() as (protocol, line, client):
            line.pause_reading()
            client.sendall(b"later")
            for _ in range(5):
                await asyncio.sleep(0.001)
            assert protocol.received == b""
            line.resume_reading()
            await until(lambda: protocol.received == b"later")

    asyncio.run(main())


@pytest.mark.parametrize("is_reading", [True, False])
def test_a_client_that_resets_is_lost(is_reading: bool) -> None:  # noqa: FBT001 (a parameter)
    async def main() -> None:
        async with connected(receive_buffer=4096) as (protocol, line, client):
            line.write(b"x" * 500_000)
            if not is_reading:
                line.pause_reading()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await until(lambda: "lost" in protocol.said)
            assert line.get_write_buffer_size() == 0
            line.write(b"to nobody")
            line.abort()
            line.close()
            line.when_writable(lambda: None)
            line.resume_reading()

    asyncio.run(main())


def test_a_bug_above_costs_one_client(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with connected() as (protocol, _, client):
            protocol.fails = True
            client.sendall(b"x")
            await until(lambda: "lost" in protocol.said)
            assert "a bug" in caplog.text

    asyncio.run(main())


def test_what_asyncio_asks_of_a_transport() -> None:
    async def main() -> None:
        async with connected() as (_, line, client):
            assert line.get_extra_info("peername") == client.getsockname()
            assert line.get_extra_info("sslcontext") is None
            assert line.get_extra_info("nothing", "else") == "else"
            assert line.peer == "127.0.0.1"
            assert line.descriptor > 0

    asyncio.run(main())


# -- the pump ----------------------------------------------------------------------------------------


def test_who_may_not_enter_is_dropped() -> None:
    async def main() -> None:
        door = Door(room=2)
        async with pumping(door) as (pump, port):
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
            await until(lambda: len(door.made) == 2)
            await asyncio.to_thread(clients[2].settimeout, 10)
            assert await asyncio.to_thread(clients[2].recv, 10) == b""
            assert len(pump) == 2
            for client in clients:
                client.close()

    asyncio.run(main())


def test_without_descriptors_nobody_is_accepted_for_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has no descriptor left; it says so, waits, and goes on once there are some."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("fleetward.httpd.pump._ACCEPT_PAUSE", 0.01)

    async def main() -> None:
        door = Door()
        async with pumping(door) as (_, port):
            with socket.socket() as client:
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                least = max(int(name) for name in os.listdir("/proc/self/fd")) + 1  # noqa: PTH208
                resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
                held = []
                with contextlib.suppress(OSError):
                    while True:
                        held.append(os.dup(0))
                client.connect(("127.0.0.1", port))
                await until(lambda: "no client is accepted" in caplog.text)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await until(lambda: len(door.made) == 1)
                for descriptor in held:
                    os.close(descriptor)

    asyncio.run(main())


# -- TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def test_a_tls_client_that_reads_late_gets_all_in_order(certificate: Path) -> None:
    async def main() -> None:
        door = Door(server_context(certificate))
        door.handshake_timeout = 10
        async with pumping(door) as (_, port):

            def talk() -> bytes:
                with socket.socket() as plain:
                    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    plain.settimeout(10)
                    plain.connect(("127.0.0.1", port))
                    with client_context(certificate).wrap_socket(
                        plain, server_hostname="127.0.0.1"
                    ) as client:
                        client.sendall(b"hello")
                        may_read.wait(10)
                        got = b""
                        while piece := client.recv(1 << 16):
                            got += piece
                        return got

            may_read = threading.Event()
            talking = asyncio.create_task(asyncio.to_thread(talk))
            await until(lambda: bool(door.made) and door.made[0].received == b"hello")
            line = door.made[0].line
            assert isinstance(line, TlsLine)
            assert not line.can_write_eof()
            assert line.get_extra_info("sslcontext") is not None
            line.write(LARGE * 8)
            line.write(b"the end")
            assert line.get_write_buffer_size() > HIGH_WATER
            may_read.set()
            line.close()
            assert await talking == LARGE * 8 + b"the end"
            await until(lambda: "lost" in door.made[0].said)

    asyncio.run(main())


def test_a_client_that_asks_for_new_keys_and_never_reads_is_cut(certificate: Path) -> None:
    """TLS 1.3: each KeyUpdate is answered by one; its sender lets the answers fill the buffers.

    Reading then says that it must write first, in each turn of the loop, as long as there is
    something to read: one client would keep the processor busy.
    """

    def wants_to_write(count: int) -> bytes:
        raise ssl.SSLWantWriteError

    async def main() -> None:
        door = Door(server_context(certificate))
        door.handshake_timeout = 10
        async with pumping(door) as (_, port):

            def talk() -> bytes:
                context = client_context(certificate)
                with (
                    socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                    context.wrap_socket(plain, server_hostname="127.0.0.1") as client,
                ):
                    client.sendall(b"hello")
                    is_patched.wait(10)
                    with contextlib.suppress(OSError):
                        client.sendall(b"more")
                        return client.recv(1)
                    return b""

            is_patched = threading.Event()
            talking = asyncio.create_task(asyncio.to_thread(talk))
            await until(lambda: bool(door.made) and door.made[0].received == b"hello")
            line = door.made[0].line
            assert isinstance(line, TlsLine)
            line._receive = wants_to_write
            is_patched.set()
            await until(lambda: "lost" in door.made[0].said)
            assert await talking == b""

    asyncio.run(main())


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02"])
def test_a_client_that_does_not_shake_hands_costs_no_protocol(
    certificate: Path, said: bytes
) -> None:
    """Silence, plain HTTP, and a hello that stops in the middle: each ends by itself."""

    async def main() -> None:
        door = Door(server_context(certificate))
        async with pumping(door) as (_, port):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                client.sendall(said)
                await until(lambda: door.entered == 1 and door.inside == 0)
                with contextlib.suppress(ConnectionResetError):
                    await read_all(client)
            assert door.made == []

    asyncio.run(main())
