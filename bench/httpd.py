"""Files per second beside nginx, with wrk, on loopback: `python bench/httpd.py [--seconds 3]`.

Both serve the same folder, one process each, one after the other. Since wrk shares the cores, the
fair number is requests per second of the server's own CPU time; both are printed. nginx is tuned:
sendfile, tcp_nopush, open_file_cache, no log. Without wrk or nginx in PATH (or in WRK_BIN, NGINX_BIN) what
is absent is left out.
"""

import argparse
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measuring import table

NGINX = """
daemon off; master_process off; pid {run}/pid; error_log {run}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s; open_file_cache_errors on;
  client_body_temp_path {run}/b; proxy_temp_path {run}/p; fastcgi_temp_path {run}/f;
  uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""
FLEETWARD = """
import asyncio, sys
from pathlib import Path
from fleetward.httpd.background import serve
from fleetward.httpd.files import RepositoryHandler
from fleetward.httpd.server import Server

async def main():
    server = Server(RepositoryHandler(Path(sys.argv[1])))
    await serve(server, "127.0.0.1", int(sys.argv[2]), ready=print, stop=asyncio.Event())
if len(sys.argv) > 3:
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
TICKS = os.sysconf("SC_CLK_TCK")


def make_repository(root: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Write the files, and return the rows: name -> (path, headers)."""
    stamp = root / "metadata/timestamp.json"
    stamp.parent.mkdir()
    stamp.write_bytes(b"x" * 471)
    rows: dict[str, tuple[str, tuple[str, ...]]] = {"471 B": ("/metadata/timestamp.json", ())}
    rows["304"] = ("/metadata/timestamp.json", ("If-None-Match: *",))
    rows["404"] = ("/metadata/2.root.json", ())
    for name, size in (("64 KiB", 64 << 10), ("64 MiB", 64 << 20)):
        content = os.urandom(size)
        digest = hashlib.sha256(content).hexdigest()
        file = root / "blobs/sha256" / digest[:2] / digest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        rows[name] = (f"/blobs/sha256/{digest[:2]}/{digest}", ())
    return rows


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int) -> Iterator[int]:
    """Run a server, wait until it listens, and yield its process id."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def measure(
    wrk: str, pid: int, url: str, headers: tuple[str, ...], options: argparse.Namespace
) -> tuple[float, float]:
    """Return requests per second, by the wall and by the server's CPU."""
    command = [wrk, "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--timeout=30s"]
    for header in headers:
        command += ["-H", header]
    before = cpu_seconds(pid)
    said = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    used = cpu_seconds(pid) - before
    count = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    return rate, count / max(used, 1 / TICKS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    wrk = os.environ.get("WRK_BIN") or shutil.which("wrk")
    nginx = os.environ.get("NGINX_BIN") or shutil.which("nginx")
    if wrk is None:
        sys.exit("wrk is not in PATH: install it, or set WRK_BIN")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        root.mkdir()
        rows = make_repository(root)
        servers: dict[str, tuple[list[str], int]] = {}
        for name, extra in (("asyncio", []), ("uvloop", ["uvloop"])):
            port = free_port()
            command = [sys.executable, "-c", FLEETWARD, str(root), str(port), *extra]
            servers[name] = (command, port)
        if nginx:
            run = Path(folder) / "nginx"
            run.mkdir()
            port = free_port()
            (run / "conf").write_text(NGINX.format(run=run, root=root, port=port))
            servers["nginx"] = ([nginx, "-p", str(run), "-c", str(run / "conf")], port)
        report(wrk, servers, rows, options)


def report(
    wrk: str,
    servers: dict[str, tuple[list[str], int]],
    rows: dict[str, tuple[str, tuple[str, ...]]],
    options: argparse.Namespace,
) -> None:
    results: dict[tuple[str, str], tuple[float, float]] = {}
    for name, (command, port) in servers.items():
        with running(command, port) as pid:
            for row, (path, headers) in rows.items():
                url = f"http://127.0.0.1:{port}{path}"
                results[row, name] = measure(wrk, pid, url, headers, options)
    print("\n## Serving a repository\n")
    print(
        f"Requests a second by wrk over {options.connections} connections, on the same two cores; "
        "in brackets per CPU-second of the server, and that beside nginx's.\n"
    )
    lines = []
    for row in rows:
        cells = [row]
        for name in servers:
            rate, per_cpu = results[row, name]
            beside = results.get((row, "nginx"))
            ratio = f"; {per_cpu / beside[1]:.2f}" if beside else ""
            cells.append(f"{rate:,.0f} ({per_cpu:,.0f}{ratio})")
        lines.append(cells)
    table(["answer", *servers], lines)


if __name__ == "__main__":
    main()
