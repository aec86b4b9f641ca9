"""Many listeners at once, drawn at random: every way to list them says the same."""

import json
import random
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.listeners import BoundSocket, Platform, Survey, Transport
from fleetward.core.ports import Expectations, judge
from fleetward.listeners.linux_cgroups import (
    container_of,
    parse_membership,
    unified_mount,
    unit_of,
)
from fleetward.listeners.linux_netlink import NetlinkSockets
from fleetward.listeners.linux_owners import LinuxOwners, holders_of
from fleetward.listeners.linux_proc import ProcSockets, parse_table
from fleetward.listeners.psutil_source import from_psutil
from fleetward.listeners.surveying import Surveyor, surveyor_here
from fleetward.wire.ports import decode_ports, encode_ports, ports_document
from support.fakes import START
from support.listening import INTERPRETER, started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc and netlink")

HOLD = """
import json, socket, sys
held, told = [], []
for kind, address, only in json.loads(sys.argv[1]):
    one = socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET,
        socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM,
    )
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    one.bind((address, 0))
    if kind == "tcp":
        one.listen()
    held.append(one)
    told.append(one.getsockname()[1])
print(json.dumps(told), flush=True)
sys.stdin.read()
"""

Wanted = tuple[str, str, bool]
ADDRESSES = ("127.0.0.1", "127.0.0.2", "::1", "::", "0.0.0.0")  # noqa: S104 (held for a moment)


def drawn(seed: int, count: int = 60) -> list[Wanted]:
    chooses = random.Random(seed)
    return [
        (chooses.choice(["tcp", "udp"]), chooses.choice(ADDRESSES), chooses.random() < 0.5)
        for _ in range(count)
    ]


@contextmanager
def held(wanted: list[Wanted]) -> Iterator[tuple[int, list[int]]]:
    """Hold sockets in a child; give its pid and the ports."""
    command = [str(INTERPRETER), "-c", HOLD, json.dumps(wanted)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        try:
            yield child.pid, json.loads(child.stdout.readline())
        finally:
            child.stdin.close()
            child.wait(timeout=10)


Fact = tuple[str, str, int, int]


def facts(found: Survey, pid: int) -> set[Fact]:
    return {
        (one.socket.protocol.value, one.socket.address, one.socket.port, one.socket.inode)
        for one in found.listeners
        if any(owner.pid == pid for owner in one.owners)
    }


@pytest.mark.parametrize("seed", range(4))
def test_netlink_proc_and_psutil_say_the_same_and_it_is_what_was_asked(seed: int) -> None:
    print(f"seed {seed}")
    wanted = drawn(seed)
    with held(wanted) as (pid, ports):
        chosen = frozenset(ports)
        by_netlink = surveyor_here(elsewhere=False).survey(chosen)
        by_proc = Surveyor(Platform.LINUX, (ProcSockets(),), LinuxOwners(), elsewhere=False).survey(
            chosen
        )
        by_psutil = {
            (one.laddr.ip, one.laddr.port, one.type == socket.SOCK_DGRAM)
            for one in psutil.Process(pid).net_connections(kind="inet")
        }
        sockets, owners = from_psutil()
        theirs = owners.owners([one for one in sockets.sockets(chosen) if one.pid == pid])
    expected = {
        (kind, address, port) for (kind, address, _), port in zip(wanted, ports, strict=True)
    }
    ours = facts(by_netlink, pid)
    assert {fact[:3] for fact in ours} == expected
    assert len(ours) == len(wanted)
    assert facts(by_proc, pid) == ours
    assert by_psutil == {(address, port, kind == "udp") for kind, address, port in expected}
    assert len(theirs.by_socket) == len(wanted)


def test_the_flag_of_each_ipv6_socket_is_seen() -> None:
    wanted = [(kind, "::", only) for kind in ("tcp", "udp") for only in (True, False)]
    with held(wanted) as (pid, ports):
        found = surveyor_here(elsewhere=False).survey(frozenset(ports))
    flags = {one.socket.port: one.socket.v6only for one in found.listeners if one.owners}
    assert pid
    assert [flags[port] for port in ports] == [True, False, True, False]


def test_one_port_of_many_is_all_that_the_kernel_answers() -> None:
    with held(drawn(9, 200)) as (_, ports):
        (found,) = NetlinkSockets().sockets(frozenset(ports[:1]))
        several = NetlinkSockets().sockets(frozenset(ports[:7]))
    assert found.port == ports[0]
    assert {one.port for one in several} == set(ports[:7])


def test_owners_are_found_in_one_walk_for_all() -> None:
    with held(drawn(3, 50)) as (pid, ports):
        sockets = NetlinkSockets().sockets(frozenset(ports))
        holders, hidden = holders_of(frozenset(one.inode for one in sockets))
    assert hidden >= 0
    assert len(holders) == 50
    assert {owner for held_by in holders.values() for owner, _ in held_by} == {pid}
    descriptors = [numbers for held_by in holders.values() for _, numbers in held_by]
    assert len(set(descriptors)) == 50


def test_a_whole_machine_as_a_document_and_back() -> None:
    with held(drawn(5, 30)):
        found = surveyor_here().survey(frozenset())
    judged = judge(found, Expectations())
    document = ports_document(found, judged, ports=(), host="h", made=START)
    assert decode_ports(encode_ports(document)) == document
    assert len(document.listeners) >= 30


@pytest.mark.skipif(which("lsof") is None, reason="no lsof: apt-get install lsof")
def test_lsof_finds_the_same_programs() -> None:
    with held([("tcp", "127.0.0.1", False)] * 5) as (pid, ports):
        ours = surveyor_here(elsewhere=False).survey(frozenset(ports))
        told = subprocess.run(
            ["lsof", "-nP", "-a", "-iTCP", "-sTCP:LISTEN", "-p", str(pid), "-Fn"],
            capture_output=True,
            text=True,
            check=True,
        )
    by_lsof = {
        int(port) for port in re.findall(r"^n127\.0\.0\.1:(\d+)$", told.stdout, re.MULTILINE)
    }
    assert by_lsof == {one.socket.port for one in ours.listeners if one.owners[0].pid == pid}


def test_a_program_that_ends_during_a_survey_is_left_out_or_whole() -> None:
    """Programs come and go while /proc is walked; a survey is never half a program."""
    words = [str(INTERPRETER), "-c", "print(1, flush=True); import sys; sys.stdin.read()"]
    for _ in range(3):
        with started(words) as program:
            pid = program.pid
        found = LinuxOwners().owners(
            [BoundSocket(protocol=Transport.TCP, address="127.0.0.1", port=1, inode=pid)]
        )
        assert all(owner.pid != pid for owners in found.by_socket.values() for owner in owners)


# -- whatever the text is ----------------------------------------------------------------------


@given(st.lists(st.text(max_size=120), max_size=5))
def test_tables_of_any_text_give_sockets_or_nothing(lines: list[str]) -> None:
    assert all(one.port >= 0 for one in parse_table(lines, Transport.TCP, "0A"))


@given(
    address=st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16),
    port=st.integers(0, 65_535),
    uid=st.integers(0, 2**32 - 1),
    inode=st.integers(0, 2**32 - 1),
)
def test_tables_of_the_kernels_form_are_read_as_it_meant(
    address: bytes, port: int, uid: int, inode: int
) -> None:
    words = [address[at : at + 4] for at in range(0, len(address), 4)]
    printed = "".join(
        word[::-1].hex() if sys.byteorder == "little" else word.hex() for word in words
    )
    line = f"0: {printed.upper()}:{port:04X} 0:0 0A 0:0 0:0 0 {uid} 0 {inode} 1"
    (found,) = parse_table([line], Transport.TCP, "0A")
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    assert socket.inet_pton(family, found.address) == address
    assert (found.port, found.uid, found.inode) == (port, uid, inode)


@given(st.text(max_size=200))
def test_cgroups_of_any_text(text: str) -> None:
    assert "/" not in unit_of(text)
    assert len(container_of(text).partition(" ")[2]) <= 12
    assert isinstance(parse_membership(text), str)


@given(st.lists(st.sampled_from(["30 23 0:26 / /a rw - cgroup2 c rw", "1 2 3 / /b - x y", "x"])))
def test_mounts_of_any_order(lines: list[str]) -> None:
    found = unified_mount("\n".join(lines))
    assert found == (Path("/a") if any("cgroup2" in line for line in lines) else None)
