"""A whole site behind a thin link: 200 agents take a release whose delta is large.

    python -m bench.wholesite [--hosts 200] [--mbit 10] [--delay 40] [--mib 2.2] [--workers 4]

Two network namespaces joined by `wanlink.py` (10 Mbit/s, 40 ms each way): the origin in one, the
relay and the agents in the other. The agents are the agent's own loop, with their long polls
waiting; the origin publishes; measured are the bytes on the link, as the relay and as the link's
interface count them, and when the last host has the delta and when it runs the release.

Needs root, iproute2 and the link emulator (`FLEETWARD_LAB`, or `../shared/lab`).
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.measuring import fleetward, table

LAB = Path(os.environ.get("FLEETWARD_LAB", "../shared/lab"))
WAN, SITE = "10.77.0.1", "10.77.0.2"
MIB = 1024 * 1024


def run(*command: str) -> str:
    """Run a command to its end, which must be good; return what it printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def namespaces() -> Iterator[tuple[str, str]]:
    """Make two network namespaces."""
    names = (f"fw-wan-{os.getpid()}", f"fw-site-{os.getpid()}")
    with ExitStack() as stack:
        for name in names:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
        yield names


@contextmanager
def link(names: tuple[str, str], mbit: float, delay: float) -> Iterator[None]:
    """Join them by the emulated link."""
    wan, site = names
    command = [sys.executable, str(LAB / "wanlink.py"), wan, WAN, site, SITE, f"{mbit}", f"{delay}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout
        assert emulator.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            emulator.terminate()
            emulator.stdout.read()


@contextmanager
def program(name: str, log: Path, *arguments: str) -> Iterator[str]:
    """Run a `fleetward` server in a namespace and give its URL."""
    command = ["ip", "netns", "exec", name, *fleetward(*arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        first = server.stderr.readline()
        assert first.startswith("listening on"), first + server.stderr.read()
        try:
            yield first.split()[-1]
        finally:
            server.terminate()
            log.write_text(server.stderr.read())


@contextmanager
def agents(name: str, hosts: int, workers: int, *arguments: str) -> Iterator[list[Any]]:
    """Run the hosts in some processes, and yield the processes once all hosts are ready."""
    share = [hosts // workers + (n < hosts % workers) for n in range(workers)]
    with ExitStack() as stack:
        running = []
        for number, count in enumerate(share):
            first = str(sum(share[:number]))
            command = ["ip", "netns", "exec", name, sys.executable, "-m", "bench.siteagents"]
            told = [*arguments[:3], first, str(count), arguments[3]]
            one = subprocess.Popen([*command, *told], stdout=subprocess.PIPE, text=True)
            stack.callback(one.wait)
            stack.callback(one.terminate)
            running.append(one)
        for one in running:
            assert one.stdout
            assert json.loads(one.stdout.readline())["event"] == "ready"
        yield running


def events_of(running: list[Any]) -> list[dict[str, Any]]:
    """Return everything that the hosts say until they end."""
    return [json.loads(line) for one in running for line in one.stdout]


def status_of(site: str, url: str) -> dict[str, Any]:
    """Return the relay's status, asked inside the site."""
    asked = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    command = ("ip", "netns", "exec", site, sys.executable, "-c", asked, f"{url}/v1/relay")
    found: dict[str, Any] = json.loads(run(*command))
    return found


def link_bytes(site: str) -> tuple[int, int]:
    """Return bytes received and sent on the link, as the site's interface counts them."""
    told = json.loads(run("ip", "-n", site, "-s", "-j", "link", "show", "dev", "wan0"))[0]
    return told["stats64"]["rx"]["bytes"], told["stats64"]["tx"]["bytes"]


def trees(work: Path, mib: float) -> tuple[Path, Path]:
    """Return two trees whose delta is at least so large: rules, and content that does not shrink."""
    rng = random.Random(7)
    first, second = work / "v1", work / "v2"
    for tree in (first, second):
        tree.mkdir()
        for number in range(200):
            (tree / f"rule-{number}.yar").write_text(f"rule r{number} {{ condition: true }}\n" * 20)
        (tree / "same.bin").write_bytes(random.Random(1).randbytes(MIB))
        (tree / "model.bin").write_bytes(rng.randbytes(int(mib * MIB)))
    return first, second


def publish(work: Path, tree: Path, release: str) -> dict[str, Any]:
    """Publish a tree; return what the command says."""
    keys = ("--keys", str(work / "keys"))
    where = ("origin", "publish", str(work / "repo"), "rules", str(tree))
    said = run(*fleetward(*where, *keys, "--release", release, "--json"))
    document: dict[str, Any] = json.loads(said)
    return document


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--mbit", type=float, default=10)
    parser.add_argument("--delay", type=float, default=40)
    parser.add_argument("--mib", type=float, default=2.2)
    options = parser.parse_args()
    if os.geteuid() != 0 or not (LAB / "wanlink.py").exists():
        sys.exit("the site needs root, iproute2, and FLEETWARD_LAB=folder of wanlink.py")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        measure(Path(folder), stack, options)


def measure(work: Path, stack: ExitStack, options: argparse.Namespace) -> None:
    first, second = trees(work, options.mib)
    keys = ("--keys", str(work / "keys"), "--plain-keys")
    run(*fleetward("origin", "init", str(work / "repo"), *keys))
    publish(work, first, "v1")
    wan, site = names = stack.enter_context(namespaces())
    stack.enter_context(link(names, options.mbit, options.delay))
    served = ("origin", "serve", str(work / "repo"), "--listen", f"{WAN}:8080")
    origin = stack.enter_context(program(wan, work / "origin.log", *served))
    kept = ("--cache", str(work / "cache"), "--listen", f"{SITE}:2967")
    cache = ("relay", "run", "--upstream", origin, *kept)
    relay = stack.enter_context(program(site, work / "relay.log", *cache))
    told = (str(work / "hosts"), str(work / "repo/metadata/1.root.json"), relay, "v2")
    began = time.monotonic()
    running = stack.enter_context(agents(site, options.hosts, options.workers, *told))
    print(
        f"<!-- {options.hosts} hosts ready in {time.monotonic() - began:.0f} s -->", file=sys.stderr
    )
    before, on_link = status_of(site, relay), link_bytes(site)
    publish(work, second, "v2")
    published = time.monotonic()
    events = events_of(running)
    after, on_link_after = status_of(site, relay), link_bytes(site)
    manifest = next((work / "repo/targets/releases/rules").glob("*.v2.json"))
    deltas = json.loads(manifest.read_bytes())["deltas"]
    report(options, deltas, (before, after), (on_link, on_link_after), (published, events))


def report(
    options: argparse.Namespace,
    deltas: list[dict[str, Any]],
    status: tuple[dict[str, Any], dict[str, Any]],
    on_link: tuple[tuple[int, int], tuple[int, int]],
    happened: tuple[float, list[dict[str, Any]]],
) -> None:
    before, after = status
    published, events = happened
    delta = min(one["length"] for one in deltas)
    blobs = after["upstream_blob_bytes"] - before["upstream_blob_bytes"]
    received, sent = (b - a for a, b in zip(*on_link, strict=True))
    limit = delta * 8 / (options.mbit * 1e6)
    at = {
        event: sorted(one["at"] - published for one in events if one["event"] == event)
        for event in ("blob", "confirmed")
    }
    title = (
        f"{options.hosts} hosts behind {options.mbit:g} Mbit/s, {2 * options.delay:g} ms round trip"
    )
    print(f"## Site: {title}\n")
    rows = [
        ("delta", f"{delta:,} B"),
        ("WAN blob bytes", f"{blobs:,} B"),
        ("WAN blob bytes over the delta's", f"{blobs / delta:.3f}"),
        ("received over the link, all in all", f"{received:,} B"),
        ("sent over the link, all in all", f"{sent:,} B"),
        ("the link's own limit for the delta", f"{limit:.2f} s"),
        ("first host has the delta", f"{at['blob'][0]:.2f} s"),
        ("last host has the delta", f"{at['blob'][-1]:.2f} s"),
        ("of the link's limit", f"{at['blob'][-1] / limit:.2f}"),
        ("first host runs the release", f"{at['confirmed'][0]:.2f} s"),
        ("last host runs the release", f"{at['confirmed'][-1]:.2f} s"),
        ("hosts that run it", len(at["confirmed"])),
    ]
    table(("", "measured"), rows)


if __name__ == "__main__":
    main()
