"""Announcements to groups, on a network of the test's own: a relay and those that hear it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetward.adapters.datagram import WILDCARDS
from support.namespaces import Machine, ip, two_machines

pytestmark = pytest.mark.namespaces

EVERY = WILDCARDS[0]

UPPER = """
import sys
from dataclasses import replace
from pathlib import Path
from httpd.sample_repository import write
from relay.relays import TestRelay
from relay.watching import STAMP, WATCHING, TestOrigin, udp_port, watching
from support.timestamps import timestamp

folder, host = Path(sys.argv[1]), sys.argv[2]
write(folder / "repository", STAMP, timestamp(1))
push = replace(WATCHING, udp=True, announce=True)
with TestOrigin(folder / "repository") as origin:
    settings = watching(folder / "upper", origin.url, push=push)
    with TestRelay(replace(settings, host=host, port=2967)) as relay:
        udp_port(relay)
        print("joined", relay.status()["datagrams"]["joined"], flush=True)
        for line in sys.stdin:
            origin.publish(int(line))
"""

HOST = """
import sys
from fleetward.adapters.clock import SystemClock
from fleetward.agent.hearing import Ears
from fleetward.config.agent import PushSettings

ears = Ears.open(PushSettings(announcements=True, listen=(sys.argv[1],), group=(sys.argv[2],)))
print("ready", flush=True)
rings = []
while not rings:
    ears.hear(lambda: 1, lambda: rings.append(1), SystemClock())
print("rang", flush=True)
"""

LOWER = """
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from httpd.rawhttp import get
from relay.relays import TestRelay
from relay.watching import STAMP, WATCHING, Waiter, udp_port, watching

push = replace(WATCHING, watch=False, poll=timedelta(), udp=True, announce=True)
settings = watching(Path(sys.argv[1]) / "lower", "http://10.77.0.1:2967", push=push)
with TestRelay(replace(settings, host="0.0.0.0", port=2967)) as relay:
    udp_port(relay)
    get(relay.url, STAMP)
    with Waiter(relay.url, 1) as waiter:
        print("ready", flush=True)
        answer = waiter.answer()
    counted = relay.status()
    print(answer.status, counted["datagrams"]["heard"], counted["upstream_requests"], flush=True)
"""


@contextmanager
def running(
    machine: Machine, code: str, *arguments: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run code in a namespace, and give it and its first line; it is ended afterwards."""
    with machine.start(code, *arguments) as program:
        try:
            yield program, says(program)
        finally:
            program.terminate()
            program.communicate()


def says(program: "subprocess.Popen[str]") -> str:
    assert program.stdout
    line = program.stdout.readline().strip()
    if not line:
        program.terminate()
        raise AssertionError(program.communicate()[1])
    return line


def publish(program: "subprocess.Popen[str]", version: int) -> None:
    assert program.stdin
    program.stdin.write(f"{version}\n")
    program.stdin.flush()


def give_ipv6(machine: Machine, address: str) -> None:
    shown = subprocess.run(
        ["ip", "-n", machine.name, "-o", "link"], check=True, capture_output=True, text=True
    ).stdout
    names = [line.split()[1].partition("@")[0].rstrip(":") for line in shown.splitlines()]
    device = next(name for name in names if name != "lo")
    ip("-n", machine.name, "addr", "add", f"{address}/64", "dev", device, "nodad")


@pytest.mark.parametrize(
    ("listen", "group"), [(EVERY, "239.255.29.67"), ("::", "ff08::2967")], ids=["IPv4", "IPv6"]
)
def test_a_host_that_was_asked_to_listen_hears_its_relay(
    tmp_path: Path, listen: str, group: str
) -> None:
    with two_machines() as (first, second):
        give_ipv6(first, "fd77::1")
        give_ipv6(second, "fd77::2")
        with (
            running(first, UPPER, str(tmp_path), EVERY) as (relay, joined),
            running(second, HOST, listen, group) as (host, _),
        ):
            assert joined == "joined 2"
            publish(relay, 2)
            assert says(host) == "rang"


def test_relays_hear_each_other_and_each_asks_once(tmp_path: Path) -> None:
    """Both announce to the group that both have joined: no storm comes of it."""
    with two_machines() as (first, second):
        give_ipv6(first, "fd77::1")
        give_ipv6(second, "fd77::2")
        with (
            running(first, UPPER, str(tmp_path), EVERY) as (upper, _),
            running(second, LOWER, str(tmp_path)) as (lower, _),
        ):
            publish(upper, 2)
            assert says(lower) == "200 1 2"


def test_a_relay_on_loopback_joins_and_tells_no_group(tmp_path: Path) -> None:
    with (
        two_machines() as (first, _second),
        running(first, UPPER, str(tmp_path), "127.0.0.1") as (_, joined),
    ):
        assert joined == "joined 0"
        assert "431DFFEF" not in first.run("print(open('/proc/net/igmp').read())")
