"""Files per second beside nginx, varnish and squid: `python -m bench.httpd [--quick]`.

All serve the same folder on loopback, one worker each (varnish has threads and cannot be held to
one), and wrk asks them row by row, one after the other, so that a busy machine hits all alike.
Since wrk shares the cores, the fair number is requests per second of the server's own CPU time;
both are printed. 64 MiB answers are counted by their bytes, since a run ends in the midst of many.

nginx is tuned: sendfile, tcp_nopush, open_file_cache, no log. varnish and squid are caches: they
stand before that nginx, keep all in memory and are warm. varnish has no TLS of its own. Peers that
are not in PATH are left out.
"""

import argparse
import hashlib
import http.client
import os
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.measuring import table

NGINX = """
daemon off; master_process off; pid {run}/pid; error_log {run}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; open_file_cache_errors on;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pem}; ssl_certificate_key {pem};
  client_body_temp_path {run}/b; proxy_temp_path {run}/p; fastcgi_temp_path {run}/f;
  uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  server {{ listen 127.0.0.1:{port} backlog=1024; listen 127.0.0.1:{tls_port} ssl backlog=1024;
            root {root}; }}
}}
"""
VARNISH = """
vcl 4.1;
backend default {{ .host = "127.0.0.1"; .port = "{origin}"; }}
sub vcl_backend_response {{ set beresp.ttl = 1h; }}
"""
SQUID = """
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1 no-vhost
https_port 127.0.0.1:{tls_port} accel defaultsite=127.0.0.1 no-vhost tls-cert={pem} tls-key={pem}
cache_peer 127.0.0.1 parent {origin} 0 no-query originserver
http_access allow all
cache_mem 512 MB
maximum_object_size 128 MB
maximum_object_size_in_memory 128 MB
memory_cache_shared off
refresh_pattern . 1440 100% 10080
negative_ttl 1 hour
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
coredump_dir {run}
visible_hostname bench
client_persistent_connections on
shutdown_lifetime 0 seconds
"""
FLEETWARD = """
import asyncio, sys
from pathlib import Path
from fleetward.httpd.background import serve
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.loops import run
from fleetward.httpd.server import Server
from fleetward.httpd.tls import TlsFiles

async def main():
    root, port, tls_port, pem = sys.argv[1:]
    files = RepositoryHandler(Path(root))
    never = asyncio.Event()
    await asyncio.gather(*(
        serve(server, "127.0.0.1", int(at), ready=print, stop=never)
        for server, at in (
            (Server(files), port),
            (Server(files, tls=TlsFiles(Path(pem), Path(pem))), tls_port),
        )
    ))
run(main())
"""
TICKS = os.sysconf("SC_CLK_TCK")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Row:
    """One kind of answer."""

    name: str
    path: str
    length: int
    status: int = 200


@dataclass(frozen=True)
class Peer:
    """A running server; no `tls_port` where it speaks none."""

    name: str
    pid: int
    port: int
    tls_port: int | None


@dataclass(frozen=True)
class Rate:
    """Requests per second, by the wall and by the server's own CPU time."""

    wall: float
    cpu: float


def make_repository(root: Path) -> list[Row]:
    """Write the files, and return what to ask for."""
    stamp = root / "metadata/timestamp.json"
    stamp.parent.mkdir(parents=True)
    stamp.write_bytes(b"x" * 471)
    rows = [
        Row("200, 471 B", "/metadata/timestamp.json", 471),
        Row("304", "/metadata/timestamp.json", 0, 304),
        Row("404", "/metadata/2.root.json", 0, 404),
    ]
    for name, size in (("200, 64 KiB", 64 << 10), ("200, 64 MiB", 64 << 20)):
        content = os.urandom(size)
        digest = hashlib.sha256(content).hexdigest()
        file = root / "blobs/sha256" / digest[:2] / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        rows.append(Row(name, f"/blobs/sha256/{digest[:2]}/{digest}", size))
    for path in (root, *root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return rows


def make_certificate(file: Path) -> None:
    """Write a key and a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    unlocked = serialization.NoEncryption()
    file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, unlocked)
        + certificate.public_bytes(pem)
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[int]:
    """Run a server, wait until it listens, and yield its process id."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(500):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()


def start_all(folder: Path, root: Path, stack: ExitStack) -> list[Peer]:
    """Start every server that is installed."""
    pem = folder / "server.pem"
    make_certificate(pem)
    peers: list[Peer] = []

    def start(name: str, command: Sequence[str], port: int, tls_port: int | None) -> None:
        peers.append(Peer(name, stack.enter_context(running(command, port)), port, tls_port))

    def configured(name: str, text: str, **values: object) -> tuple[Path, Path]:
        run = folder / name
        run.mkdir()
        run.chmod(0o777)
        file = run / "conf"
        file.write_text(text.format(run=run, pem=pem, root=root, **values))
        return run, file

    port, tls_port = free_port(), free_port()
    command = [sys.executable, "-c", FLEETWARD, str(root), str(port), str(tls_port), str(pem)]
    start("fleetward", command, port, tls_port)
    nginx = os.environ.get("NGINX_BIN") or shutil.which("nginx")
    if not nginx:
        return peers
    origin, origin_tls = free_port(), free_port()
    run, file = configured("nginx", NGINX, port=origin, tls_port=origin_tls)
    start("nginx", [nginx, "-p", str(run), "-c", str(file)], origin, origin_tls)
    if varnish := shutil.which("varnishd"):
        run, file = configured("varnish", VARNISH, origin=origin)
        port = free_port()
        listen = ["-a", f"127.0.0.1:{port}", "-f", str(file), "-s", "malloc,512m"]
        start("varnish", [varnish, "-F", "-n", str(run / "work"), *listen], port, None)
    if squid := shutil.which("squid"):
        port, tls_port = free_port(), free_port()
        _, file = configured("squid", SQUID, port=port, tls_port=tls_port, origin=origin)
        start("squid", [squid, "-N", "-f", str(file)], port, tls_port)
    return peers


def cpu_seconds(pid: int) -> float:
    """Return what a process and its children have used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / TICKS
    return own + sum(cpu_seconds(int(child)) for child in children)


def etag_of(peer: Peer, row: Row, *, is_tls: bool) -> str:
    """Ask once, which warms the caches too, and return the ETag; the answer must be right."""
    if is_tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        asking: http.client.HTTPConnection = http.client.HTTPSConnection(
            "127.0.0.1", peer.tls_port, context=context
        )
    else:
        asking = http.client.HTTPConnection("127.0.0.1", peer.port)
    asking.request("GET", row.path)
    answer = asking.getresponse()
    length = len(answer.read())
    asking.close()
    assert answer.status == (404 if row.status == 404 else 200), (peer.name, row, answer.status)
    assert row.status != 200 or length == row.length, (peer.name, row, length)
    return answer.headers.get("ETag") or "*"


def measure(
    wrk: str, peer: Peer, row: Row, connections: int, seconds: int, *, is_tls: bool
) -> Rate:
    """Let wrk ask for some seconds."""
    etag = etag_of(peer, row, is_tls=is_tls)
    url = f"http://127.0.0.1:{peer.port}{row.path}"
    if is_tls:
        url = f"https://127.0.0.1:{peer.tls_port}{row.path}"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=60s"]
    if row.status == 304:
        command += ["-H", f"If-None-Match: {etag}"]
    before = cpu_seconds(peer.pid)
    said = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    used = max(cpu_seconds(peer.pid) - before, 1 / TICKS)
    found = re.search(r"(\d+) requests in ([\d.]+)(\w+), ([\d.]+)([KMGT]?)B read", said)
    assert found, said
    count = float(found[1])
    if row.length > 1 << 20:
        count = float(found[4]) * UNITS[found[5]] / row.length
    lasted = float(found[2]) * (60 if found[3] == "m" else 1)
    return Rate(count / lasted, count / used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a second each, 64 connections")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many counts")
    parser.add_argument("--rows", default="", help="only rows with this text in their name")
    parser.add_argument("--peers", default="fleetward,nginx,varnish,squid")
    options = parser.parse_args()
    wrk = os.environ.get("WRK_BIN") or shutil.which("wrk")
    if wrk is None:
        sys.exit("wrk is not in PATH: install it, or set WRK_BIN")
    loads = [64] if options.quick else [64, 256]
    seconds, rounds = (1, 1) if options.quick else (options.seconds, options.rounds)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        rows = [row for row in make_repository(folder / "root") if options.rows in row.name]
        peers = start_all(folder, folder / "root", stack)
        peers = [peer for peer in peers if peer.name in options.peers]
        print("\n## Serving a repository\n")
        print(
            "Requests a second by wrk, on the same cores; in brackets per CPU-second of the "
            "server. Last: both beside nginx's.\n",
            flush=True,
        )
        lines = []
        for is_tls in (False, True):
            for connections in loads:
                for row in rows:
                    rates = {
                        peer.name: median_of(
                            [
                                measure(wrk, peer, row, connections, seconds, is_tls=is_tls)
                                for _ in range(rounds)
                            ]
                        )
                        for peer in peers
                        if peer.tls_port or not is_tls
                    }
                    label = f"{row.name}, {'TLS' if is_tls else 'plain'}, {connections}"
                    lines.append([label, *cells_of(rates, peers)])
        table(["answer, clients", *(p.name for p in peers), "CPU", "wall"], lines)


def median_of(rates: list[Rate]) -> Rate:
    return Rate(
        statistics.median(rate.wall for rate in rates),
        statistics.median(rate.cpu for rate in rates),
    )


def cells_of(rates: dict[str, Rate], peers: list[Peer]) -> list[str]:
    """Return a cell for each peer, and what ours is beside nginx."""
    cells = []
    for peer in peers:
        rate = rates.get(peer.name)
        cells.append(f"{rate.wall:,.0f} ({rate.cpu:,.0f})" if rate else "")
    ours, nginx = rates.get("fleetward"), rates.get("nginx")
    if ours is None or nginx is None:
        return [*cells, "", ""]
    return [*cells, f"{ours.cpu / nginx.cpu:.2f}", f"{ours.wall / nginx.wall:.2f}"]


if __name__ == "__main__":
    main()
