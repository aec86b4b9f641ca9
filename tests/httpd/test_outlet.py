"""The hand-over of a socket from the transport to the kernel's own file sending."""

import asyncio
import os
import socket
import threading
from pathlib import Path

from fleetward.httpd.counters import ServerCounters
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import FileBody
from fleetward.httpd.outlet import Outlet
from httpd.rawhttp import DEADLINE
from httpd.sample_repository import LARGE


class Passing(asyncio.Protocol):
    """Tells the outlet what asyncio says."""

    outlet: Outlet

    def pause_writing(self) -> None:
        self.outlet.pause()

    def resume_writing(self) -> None:
        self.outlet.resume()


def test_a_file_waits_for_what_the_transport_still_holds(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(LARGE)
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    far.settimeout(DEADLINE)
    got = bytearray()

    def read() -> None:
        while piece := far.recv(1 << 20):
            got.extend(piece)

    reader = threading.Thread(target=read)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Passing, sock=near)
        outlet = protocol.outlet = Outlet(loop, transport, ServerLimits(), ServerCounters())
        outlet.write([b"a" * 30_000, b"b" * 30_000])
        assert 0 < transport.get_write_buffer_size() < 64 * 1024
        assert outlet.can_write
        reader.start()
        body = FileBody(os.open(file, os.O_RDONLY), 5, len(LARGE) - 5)
        await outlet.send_file(b"head", body)
        body.close()
        outlet.close()
        transport.close()

    asyncio.run(main())
    reader.join()
    far.close()
    assert bytes(got) == b"a" * 30_000 + b"b" * 30_000 + b"head" + LARGE[5:]


class Holding(asyncio.Transport):
    """Holds what it gets, as for a client that does not read."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[object] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.held.append(data)


def test_clients_that_read_one_document_slowly_share_its_bytes() -> None:
    """A thousand connections ask for one document and do not read: it is in memory once."""

    async def main() -> None:
        loop, document, small = asyncio.get_running_loop(), bytes(5_000_000), bytes(1000)
        for _ in range(3):
            transport = Holding()
            outlet = Outlet(loop, transport, ServerLimits(), ServerCounters())
            outlet.write([b"head", small, b"head", document])
            assert transport.held == [b"head" + small + b"head", document]
            assert transport.held[1] is document
            assert outlet.written == 5_001_008
            outlet.write([b"head", small])
            outlet.write([])
            assert transport.held[2:] == [b"head" + small]

    asyncio.run(main())
