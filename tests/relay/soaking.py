"""A soak: a relay as a real process under a mixed load, and a hand that breaks things meanwhile.

The load asks for whole blobs, ranges, heads and the timestamp from several loopback addresses; some
clients reset in the middle and some read slowly. The hand kills and restarts the upstream, fills
and frees the disk that the cache lies on (where this process may mount one), and truncates what
the upstream has. Every byte that a complete answer brings is compared.
"""

import contextlib
import hashlib
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

MIB = 1024 * 1024
DEADLINE = 20.0
"""Seconds; an answer that takes longer is a failure of the soak, unless the client is slow."""


@dataclass(frozen=True)
class Blob:
    """A blob of the upstream's."""

    path: str
    content: bytes


def fill_repository(root: Path, seed: int, count: int = 40) -> list[Blob]:
    """Put blobs of very different sizes into a repository's folder; return them."""
    rng = random.Random(seed)
    blobs = []
    for number in range(count):
        content = rng.randbytes(int(10 ** rng.uniform(2, 6.5)) + number)
        digest = hashlib.sha256(content).hexdigest()
        path = f"/blobs/sha256/{digest[:2]}/{digest}"
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        blobs.append(Blob(path, content))
    return blobs


class Program:
    """A `fleetward` server that can be killed and started again at the same port."""

    def __init__(self, log: Path, *command: str) -> None:
        self._log = log
        self._command = command
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return once it listens."""
        arguments = [sys.executable, "-m", "fleetward", *self._command]
        with self._log.open("ab") as log:
            before = log.tell()
            listen = ("--listen", f"127.0.0.1:{self.port}")
            self._process = subprocess.Popen([*arguments, *listen], stderr=log, stdout=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self._log.read_bytes()[before:]
            if b"listening on" in said and b"\n" in said:
                line = next(one for one in said.splitlines() if one.startswith(b"listening on"))
                self.port = int(line.rsplit(b":", 1)[1])
                return
            time.sleep(0.02)
        raise AssertionError(f"it did not start: {self._log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """End it without warning."""
        assert self._process
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> int:
        """End it with SIGTERM, and return its exit code."""
        assert self._process
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(timeout=30)


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[bool]:
    """Mount a small disk at `folder`, where this process may; yield whether it is one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0755", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@dataclass
class Load:
    """Clients in threads, until `stop` is set.

    Attributes:
        done: answers by kind and status, and clients' resets.
        wrong: what must not be: an answer with other bytes than the blob's.
    """

    port: int
    blobs: list[Blob]
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self, clients: int) -> Iterator[None]:
        """Run the clients while the block runs."""
        threads = [threading.Thread(target=self._client, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def _client(self, number: int) -> None:
        rng = random.Random(self.seed * 1000 + number)
        acts: list[Callable[[Client, random.Random], str]] = [
            self._whole,
            self._whole,
            self._part,
            self._head,
            self._stamp,
            self._reset,
            self._slow,
        ]
        while not self.stop.is_set():
            act = rng.choice(acts)
            try:
                with Client(self.port, f"127.0.0.{2 + number % 8}") as client:
                    said = act(client, rng)
            except (OSError, EOFError) as error:
                said = f"{act.__name__}: {type(error).__name__}"
            with self._lock:
                self.done[said] += 1

    def _whole(self, client: "Client", rng: random.Random) -> str:
        blob = rng.choice(self.blobs)
        status, _, body = client.ask(blob.path)
        if status == 200 and body != blob.content:
            self.wrong.append(f"{blob.path}: {len(body)} bytes of {len(blob.content)}")
        return f"whole: {status}"

    def _part(self, client: "Client", rng: random.Random) -> str:
        blob = rng.choice(self.blobs)
        first = rng.randrange(len(blob.content))
        last = rng.randrange(first, len(blob.content))
        status, headers, body = client.ask(blob.path, f"Range: bytes={first}-{last}\r\n")
        told = f"bytes {first}-{last}/{len(blob.content)}"
        if status == 206 and (
            body != blob.content[first : last + 1] or headers["content-range"] != told
        ):
            self.wrong.append(f"{blob.path}: {told} was answered {headers}")
        return f"part: {status}"

    def _head(self, client: "Client", rng: random.Random) -> str:
        blob = rng.choice(self.blobs)
        status, headers, _ = client.ask(blob.path, method="HEAD")
        if status == 200 and int(headers["content-length"]) != len(blob.content):
            self.wrong.append(f"{blob.path}: HEAD told {headers}")
        return f"head: {status}"

    def _stamp(self, client: "Client", rng: random.Random) -> str:
        status, headers, body = client.ask("/metadata/timestamp.json")
        if status == 200 and b'"signed"' not in body:
            self.wrong.append(f"timestamp: {body[:60]!r}")
        if status != 200:
            return f"stamp: {status}"
        again, _, _ = client.ask(
            "/metadata/timestamp.json", f"If-None-Match: {headers['etag']}\r\n"
        )
        return f"stamp again: {again}"

    def _reset(self, client: "Client", rng: random.Random) -> str:
        client.send(rng.choice(self.blobs).path)
        client.socket.recv(rng.randrange(1, 20_000))
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "reset"

    def _slow(self, client: "Client", rng: random.Random) -> str:
        blob = rng.choice(self.blobs)
        client.send(blob.path)
        status, headers = client.head()
        left = int(headers["content-length"])
        body = b""
        for _ in range(20):
            if len(body) == left or self.stop.wait(0.01):
                break
            body += client.read(min(4096, left - len(body)))
        if status == 200 and not blob.content.startswith(body):
            self.wrong.append(f"{blob.path}: other bytes to a slow reader")
        return f"slow: {status}"


class Client:
    """One connection from one loopback address."""

    def __init__(self, port: int, source: str) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=DEADLINE, source_address=(source, 0)
        )
        self._left = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, path: str, headers: str = "", method: str = "GET") -> None:
        """Send a request."""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: soak\r\n{headers}\r\n".encode())

    def ask(
        self, path: str, headers: str = "", method: str = "GET"
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and the whole body. Raises EOFError where it is cut."""
        self.send(path, headers, method)
        status, told = self.head()
        length = 0 if method == "HEAD" or status in {204, 304} else int(told["content-length"])
        while len(self._left) < length:
            self._more()
        body, self._left = self._left[:length], self._left[length:]
        return status, told, body

    def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of the next answer."""
        while b"\r\n\r\n" not in self._left:
            self._more(4096)
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        told = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        return int(lines[0].split()[1]), told

    def read(self, most: int) -> bytes:
        """Return at least one and at most so many bytes of a body."""
        if not self._left:
            self._more(most)
        piece, self._left = self._left[:most], self._left[most:]
        return piece

    def _more(self, most: int = 256 * 1024) -> None:
        piece = self.socket.recv(most)
        if not piece:
            raise EOFError("cut")
        self._left += piece


@dataclass
class Hand:
    """What breaks things, one after another, each for a short while."""

    upstream: Program
    disk: Path | None
    seed: int
    broke: Counter[str] = field(default_factory=Counter)

    def run(self, until: float, pause: float) -> None:
        """Break things until the monotonic time `until`."""
        rng = random.Random(self.seed)
        faults = [self._kill_upstream, *([self._fill_disk] if self.disk else [])]
        while time.monotonic() < until:
            fault = rng.choice(faults)
            fault(rng.uniform(0.3, 1.0) * pause)
            self.broke[fault.__name__] += 1
            time.sleep(min(pause, max(0.0, until - time.monotonic())))

    def _kill_upstream(self, seconds: float) -> None:
        self.upstream.kill()
        time.sleep(seconds)
        self.upstream.start()

    def _fill_disk(self, seconds: float) -> None:
        assert self.disk
        filler = self.disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * MIB)
        time.sleep(seconds)
        filler.unlink()


def resident_kib(pid: int) -> int:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
