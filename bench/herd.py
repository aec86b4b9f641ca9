"""The herd: many clients ask at once for a blob that is not cached; beside nginx, varnish, squid.

    python -m bench.herd [--clients 200] [--mib 64] [--only fleetward,nginx]

For each upstream (full speed, 10 MB/s, 10 MB/s with a stall of 8 s midway) and each cache: bytes
taken from the upstream over the blob's size, how much later the last client got its first byte
than the first client, when the last client was done over the upstream's own time, failures, and
peak memory. The clients throw the bytes away in the kernel (MSG_TRUNC) after the head, so that
what is measured is the cache; each counts them, and looks at its last ones.
"""

import argparse
import errno
import hashlib
import http.client
import select
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from bench.measuring import table
from bench.slowupstream import content_of
from fleetward.httpd.loops import raise_descriptor_limit

MIB = 1024 * 1024
RATE = 10e6
STALL = 8.0
TAIL = 32


@dataclass
class Client:
    """One client: a socket, and what it has seen. Times are seconds since the herd began."""

    sock: socket.socket
    head: bytes = b""
    got: int = 0
    length: int = -1
    status: int = 0
    first: float = 0.0
    done: float = 0.0
    tail: bytes = b""

    @property
    def is_whole(self) -> bool:
        """Return whether the answer was 200 and all of its body came."""
        return self.status == 200 and self.got == self.length


@dataclass
class Herd:
    """Clients that ask at once, read by one epoll loop."""

    port: int
    path: str
    count: int
    clients: dict[int, Client] = field(default_factory=dict)

    def run(self, seconds: float) -> list[Client]:
        """Connect, ask, read to the end; return the clients."""
        poll = select.epoll()
        asked = f"GET {self.path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode()
        for _ in range(self.count):
            sock = socket.create_connection(("127.0.0.1", self.port))
            self.clients[sock.fileno()] = Client(sock)
        began = time.monotonic()
        for number, client in self.clients.items():
            client.sock.sendall(asked)
            client.sock.setblocking(False)  # noqa: FBT003 (a C function)
            poll.register(number, select.EPOLLIN)
        buffer, open_now = bytearray(256 * 1024), len(self.clients)
        while open_now and time.monotonic() - began < seconds:
            for number, _ in poll.poll(1.0):
                client = self.clients[number]
                if not _read(client, buffer, began):
                    client.done = time.monotonic() - began
                    poll.unregister(number)
                    client.sock.close()
                    open_now -= 1
        return list(self.clients.values())


def _read(client: Client, buffer: bytearray, began: float) -> bool:
    """Take what is there; return whether more may come."""
    try:
        if client.length < 0:
            data = client.sock.recv(4096)
            return bool(data) and _take_head(client, data, began)
        left = client.length - client.got
        if left > TAIL:
            taken = client.sock.recv_into(buffer, min(left - TAIL, len(buffer)), socket.MSG_TRUNC)
        else:
            data = client.sock.recv(left)
            taken, client.tail = len(data), client.tail + data
        client.got += taken
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in {errno.ECONNRESET, errno.EPIPE}:
            return False
        raise
    return taken > 0 and client.got < client.length


def _take_head(client: Client, data: bytes, began: float) -> bool:
    client.head += data
    head, end, body = client.head.partition(b"\r\n\r\n")
    if not end:
        return True
    client.status = int(head.split(b" ", 2)[1])
    lengths = [
        int(line.split(b":", 1)[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    client.length = lengths[0] if lengths else 1 << 62
    client.got = len(body)
    client.first = time.monotonic() - began
    return client.got < client.length


@dataclass(frozen=True)
class Upstream:
    """An upstream process of `bench.slowupstream`."""

    port: int
    length: int

    def count(self) -> tuple[int, int]:
        """Return bytes and requests since the last call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/reset")
        sent, requests = connection.getresponse().read().split()
        connection.close()
        return int(sent), int(requests)


@contextmanager
def upstream(length: int, *more: float) -> Iterator[Upstream]:
    """Run an upstream."""
    port = peers.free_port()
    told = tuple(f"{number:.0f}" for number in more)
    command = (sys.executable, "-m", "bench.slowupstream", str(port), str(length), *told)
    with peers.running(peers.Peer("upstream", command, port)):
        yield Upstream(port, length)


Make = Callable[[Path, int], peers.Peer | None]
CACHES: dict[str, Make] = {
    "fleetward": peers.relay,
    "nginx": peers.nginx,
    "nginx, long lock": lambda run, port: peers.nginx(
        run, port, "nginx, long lock", peers.LONG_LOCK
    ),
    "varnish": peers.varnish,
    "squid": peers.squid,
}


def measure(make: Make, source: Upstream, path: str, count: int, own: float) -> list[object] | None:
    """Return one cache's row, or None where it is not installed."""
    with tempfile.TemporaryDirectory() as folder:
        peer = make(Path(folder), source.port)
        if peer is None:
            return None
        with peers.running(peer) as pid:
            source.count()
            clients = Herd(peer.port, path, count).run(own * 3 + 120)
            sent, requests = source.count()
            memory = peers.peak_mib(pid)
    whole = [client for client in clients if client.is_whole]
    firsts = sorted(client.first for client in clients if client.length >= 0)
    last = max((client.done for client in whole), default=0.0)
    spread = (firsts[-1] - firsts[0]) * 1000 if firsts else 0
    return [
        peer.name,
        f"{sent / source.length:.2f}",
        requests,
        f"{spread:.0f} ms",
        f"{last:.2f} s",
        f"{last / own:.2f}" if own else "-",
        count - len(whole),
        f"{memory:.0f} MiB",
    ]


def alone(port: int, path: str) -> float:
    """Return how long the upstream takes for one client."""
    client = Herd(port, path, 1).run(600)[0]
    assert client.is_whole
    return client.done


def warm(path: str, length: int, count: int) -> float | None:
    """Return how long nginx takes to serve the herd from its files."""
    program = shutil.which("nginx")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.lstrip("/")
        file.parent.mkdir(parents=True)
        file.write_bytes(content_of(length))
        (Path(folder) / "conf").write_text(
            WARM.format(run=folder, port=(port := peers.free_port()))
        )
        command = (program, "-p", folder, "-c", f"{folder}/conf")
        with peers.running(peers.Peer("nginx, warm", command, port)):
            alone(port, path)
            clients = Herd(port, path, count).run(600)
    assert all(client.is_whole for client in clients)
    return max(client.done for client in clients)


WARM = """
daemon off; worker_processes 1; user root; pid {run}/pid; error_log {run}/error.log crit;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {run}/b;
  proxy_temp_path {run}/p; fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {run}; }} }}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--only", default=",".join(name for name in CACHES).replace(", ", "; "))
    parser.add_argument("--speeds", default="full,slow,stalled")
    options = parser.parse_args()
    raise_descriptor_limit()
    wanted = {name.replace("; ", ", ") for name in options.only.split(",")}
    length = options.mib * MIB
    digest = hashlib.sha256(content_of(length)).hexdigest()
    path = f"/blobs/sha256/{digest[:2]}/{digest}"
    speeds: dict[str, tuple[str, tuple[float, ...]]] = {
        "full": ("at full speed", ()),
        "slow": ("at 10 MB/s", (RATE,)),
        "stalled": ("at 10 MB/s, stalled for 8 s midway", (RATE, length // 2, STALL)),
    }
    print(f"## Herd: {options.clients} clients, one cold blob of {options.mib} MiB\n")
    for key in options.speeds.split(","):
        title, more = speeds[key]
        print(f"### Upstream {title}\n")
        if not more and (warmed := warm(path, length, options.clients)) is not None:
            print(f"nginx serves the same herd from warm files in {warmed:.2f} s.\n")
        rows = []
        with upstream(length, *more) as source:
            own = alone(source.port, path)
            for name, make in CACHES.items():
                if name in wanted and (row := measure(make, source, path, options.clients, own)):
                    rows.append(row)
                    print(f"<!-- {row} -->", file=sys.stderr, flush=True)
        print(f"One client takes {own:.2f} s at the upstream itself.\n")
        table(
            [
                "cache",
                "upstream bytes",
                "requests",
                "first bytes' spread",
                "last done",
                "of upstream's",
                "failed",
                "memory",
            ],
            rows,
        )


if __name__ == "__main__":
    main()
