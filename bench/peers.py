"""The peers that stand beside Fleetward's relay: nginx, varnish, squid as caches before one upstream.

Each is a command and its configuration in a folder of its own; all listen on loopback. A peer that
is not installed is left out, and its column with it.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NGINX = """
daemon off; worker_processes 1; user root; pid {run}/pid; error_log {run}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
  client_body_temp_path {run}/b; proxy_temp_path {run}/p; fastcgi_temp_path {run}/f;
  uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  proxy_cache_path {run}/cache keys_zone=c:10m max_size=4g;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://127.0.0.1:{upstream}; proxy_cache c; proxy_cache_valid 200 1h;
      proxy_http_version 1.1; proxy_cache_lock on; {more}
    }}
  }}
}}
"""
LONG_LOCK = "proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;"
SQUID = """
http_port 127.0.0.1:{port} accel defaultsite=bench no-vhost
cache_peer 127.0.0.1 parent {upstream} 0 no-query originserver name=up
acl all_of_them src all
http_access allow all_of_them
collapsed_forwarding on
cache_mem 512 MB
maximum_object_size 256 MB
maximum_object_size_in_memory 256 MB
refresh_pattern . 60 100% 60
pid_filename {run}/pid
access_log none
cache_log {run}/cache.log
cache_store_log none
coredump_dir {run}
shutdown_lifetime 1 seconds
cache_effective_user proxy
visible_hostname bench
pinger_enable off
max_filedescriptors 8192
"""


@dataclass(frozen=True)
class Peer:
    """A cache that can be started.

    Attributes:
        name: its column.
        command: what to run.
        port: where it listens.
    """

    name: str
    command: tuple[str, ...]
    port: int


def free_port() -> int:
    """Return a port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def relay(run: Path, upstream: int, *more: str) -> Peer:
    """Return Fleetward's relay."""
    port = free_port()
    command = (sys.executable, "-m", "fleetward", "relay", "run")
    where = ("--upstream", f"http://127.0.0.1:{upstream}", "--cache", str(run / "relay"))
    return Peer("fleetward", (*command, *where, "--listen", f"127.0.0.1:{port}", *more), port)


def nginx(run: Path, upstream: int, name: str = "nginx", more: str = "") -> Peer | None:
    """Return nginx with its proxy cache, or None where it is not installed."""
    program = os.environ.get("NGINX_BIN") or shutil.which("nginx")
    if program is None:
        return None
    folder, port = run / name.replace(" ", "-"), free_port()
    folder.mkdir()
    text = NGINX.format(run=folder, port=port, upstream=upstream, more=more)
    (folder / "conf").write_text(text)
    return Peer(name, (program, "-p", str(folder), "-c", str(folder / "conf")), port)


def varnish(run: Path, upstream: int) -> Peer | None:
    """Return varnish, or None where it is not installed."""
    program = shutil.which("varnishd")
    if program is None:
        return None
    folder, port = run / "varnish", free_port()
    folder.mkdir()
    where = ("-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{upstream}", "-n", str(folder / "n"))
    tuned = ("-p", "first_byte_timeout=600", "-p", "between_bytes_timeout=600")
    return Peer("varnish", (program, "-F", *where, "-s", "malloc,1g", *tuned), port)


def squid(run: Path, upstream: int) -> Peer | None:
    """Return squid, or None where it is not installed."""
    program = shutil.which("squid")
    if program is None:
        return None
    folder, port = run / "squid", free_port()
    folder.mkdir()
    run.chmod(0o755)  # squid refuses to be root, and takes Debian's user `proxy`
    folder.chmod(0o777)
    (folder / "conf").write_text(SQUID.format(run=folder, port=port, upstream=upstream))
    service = f"bench{port}"  # names its shared memory, which one that was killed leaves behind
    return Peer("squid", (program, "-N", "-n", service, "-f", str(folder / "conf")), port)


@contextmanager
def running(peer: Peer, seconds: float = 30) -> Iterator[int]:
    """Run a peer, wait until it listens, and yield its process id; its children end with it."""
    with subprocess.Popen(
        peer.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            deadline = time.monotonic() + seconds
            while not _listens(peer.port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{peer.name} does not listen: {' '.join(peer.command)}")
                time.sleep(0.02)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def family(pid: int) -> list[int]:
    """Return a process and all that it has started."""
    found = [pid]
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += family(int(path.parent.name))
    return found


def peak_mib(pid: int) -> float:
    """Return the peak resident memory of a process and its children, together."""
    return sum(_status(one, "VmHWM") for one in family(pid)) / 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its children."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _status(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0
