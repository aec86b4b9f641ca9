"""Real listeners, started here: what a survey says of each, the verdict, and what `ss` says too."""

import hashlib
import os
import pwd
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which

import pytest

from fleetward.core.listeners import FileState, Listener, Platform, Reach, Survey, Transport
from fleetward.core.portrules import PortRule, Verdict
from fleetward.core.ports import Expectations, Judged, judge
from fleetward.listeners import linux_namespaces, linux_netlink, linux_owners, linux_proc
from fleetward.listeners.executables import Digests
from fleetward.listeners.linux_owners import LinuxOwners
from fleetward.listeners.linux_proc import ProcSockets
from fleetward.listeners.packages import packages_here
from fleetward.listeners.surveying import Surveyor, surveyor_here
from support.listening import (
    CODE,
    INTERPRETER,
    Listening,
    activated,
    as_nobody,
    copied_interpreter,
    listening,
    started,
)
from support.namespaces import two_machines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc and netlink")

USED_AS_NOBODY = (linux_namespaces, linux_netlink, linux_owners, linux_proc)
"""Loaded before the user changes: the new user may not read these files."""


def survey(*ports: int) -> Survey:
    return surveyor_here().survey(frozenset(ports))


def found_on(*ports: int, rules: tuple[PortRule, ...] = ()) -> list[Judged]:
    return list(judge(survey(*ports), Expectations(rules=rules)))


def ids(judged: Judged) -> set[str]:
    return {reason.id for reason in judged.reasons}


PLAIN = ("interpreter-unpinned", "nothing-expects-it")
"""What decides of a listener of Python's that nobody expects; the rest are notes."""


def the_only(program: Listening) -> Listener:
    (found,) = survey(program.port).listeners
    return found


def test_a_plain_listener_with_everything_that_is_known_of_it() -> None:
    with listening("tcp", "127.0.0.1") as program:
        found = the_only(program)
        before = datetime.now(UTC)
    assert found.socket.protocol is Transport.TCP
    assert (found.socket.address, found.socket.port) == ("127.0.0.1", program.port)
    assert found.reach is Reach.LOOPBACK
    assert found.in_own_namespace
    assert found.user == pwd.getpwuid(os.geteuid()).pw_name
    (owner,) = found.owners
    assert owner.pid == program.pid
    assert owner.command[:2] == (str(INTERPRETER), "-c")
    assert owner.parent is not None
    assert owner.parent.pid == os.getpid()
    assert owner.user == found.user
    assert owner.started is not None
    assert before - timedelta(minutes=5) < owner.started <= before + timedelta(seconds=5)
    assert owner.executable is not None
    assert owner.executable.path == str(INTERPRETER)
    assert owner.executable.sha256 == hashlib.sha256(INTERPRETER.read_bytes()).hexdigest()
    assert owner.executable.state is FileState.PRESENT
    assert owner.script is not None
    assert owner.script.kind == "code"
    assert not owner.activated


def test_its_verdict_and_the_reasons() -> None:
    with listening("tcp", "127.0.0.1") as program:
        (judged,) = found_on(program.port)
    assert judged.verdict is Verdict.UNKNOWN
    assert {"interpreter-unpinned", "nothing-expects-it"} <= set(judged.ids)


def test_udp_has_no_listen_state_and_is_found_all_the_same() -> None:
    with listening("udp", "127.0.0.1") as program:
        (judged,) = found_on(program.port)
    assert judged.listener.socket.protocol is Transport.UDP
    assert judged.listener.owners[0].pid == program.pid
    assert judged.verdict is Verdict.UNKNOWN
    assert judged.ids == PLAIN


def test_near_miss_a_connected_udp_socket_is_a_client() -> None:
    with listening("udp", "127.0.0.1") as program, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", program.port))
        port = client.getsockname()[1]
        assert survey(port).listeners == ()


def test_an_established_connection_is_no_listener() -> None:
    with listening("tcp", "127.0.0.1") as program, socket.socket() as client:
        client.connect(("127.0.0.1", program.port))
        assert survey(client.getsockname()[1]).listeners == ()
        assert len(survey(program.port).listeners) == 1


def test_a_socket_for_both_families_and_its_near_miss() -> None:
    with listening("tcp", "::", "both") as program:
        (both,) = found_on(program.port)
    with listening("tcp", "::", "v6only") as program:
        (only,) = found_on(program.port)
    assert both.listener.serves_both
    assert (both.verdict, both.ids) == (only.verdict, only.ids) == (Verdict.UNKNOWN, PLAIN)
    assert {"serves-both", "reachable"} <= ids(both)
    assert not only.listener.serves_both
    assert "serves-both" not in ids(only)
    assert only.listener.reach is Reach.EVERY_ADDRESS


def test_a_pair_with_reuseport_are_two_listeners_of_one_program() -> None:
    with (
        listening("tcp", "127.0.0.1", "reuse") as first,
        listening("tcp", "127.0.0.1", str(first.port), "reuse") as second,
    ):
        found = found_on(first.port)
    assert {one.listener.owners[0].pid for one in found} == {first.pid, second.pid}
    assert all(one.ids == PLAIN for one in found)


def test_a_pair_with_reuseport_from_two_files_is_told(tmp_path: Path) -> None:
    """Another program slips onto a port that is served already."""
    thief = copied_interpreter(tmp_path / "thief")
    with thief.open("ab") as file:
        file.write(b"\0")
    with (
        listening("tcp", "127.0.0.1", "reuse") as first,
        listening("tcp", "127.0.0.1", str(first.port), "reuse", executable=thief),
    ):
        found = found_on(first.port)
    assert [one.verdict for one in found] == [Verdict.UNKNOWN] * 2
    assert all({"shared-port", "nothing-expects-it"} <= set(one.ids) for one in found)


def test_a_socket_that_was_inherited_over_a_fork() -> None:
    with listening("tcp", "127.0.0.1", "fork") as program:
        (judged,) = found_on(program.port)
    owners = judged.listener.owners
    assert len(owners) == 2
    assert owners[0].pid == program.pid
    assert owners[1].parent is not None
    assert owners[1].parent.pid == program.pid
    assert "inherited" in ids(judged)
    assert (judged.verdict, judged.ids) == (Verdict.UNKNOWN, PLAIN)


def test_socket_activation() -> None:
    with activated() as program:
        (judged,) = found_on(program.port)
    assert judged.listener.owners[0].activated
    assert "socket-activation" in ids(judged)
    assert "inherited" not in ids(judged)
    assert (judged.verdict, judged.ids) == (Verdict.UNKNOWN, PLAIN)


@pytest.mark.skipif(
    which("systemd-socket-activate") is None, reason="no systemd: apt-get install systemd"
)
def test_socket_activation_by_systemds_own_program(tmp_path: Path) -> None:
    """The manager holds the socket until somebody connects; then the service has it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", str(INTERPRETER), "-c"]
    serves = "import sys; print('serves', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [*command, serves], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as program:
        assert program.stdin
        assert program.stdout
        assert program.stderr
        try:
            assert b"Listening on" in program.stderr.readline()
            with socket.create_connection(("127.0.0.1", port)):
                assert program.stdout.readline() == b"serves\n"
                (judged,) = found_on(port)
        finally:
            program.stdin.close()
            program.terminate()
            program.wait(timeout=10)
    assert judged.listener.activated
    assert "socket-activation" in ids(judged)


def test_a_program_whose_executable_was_deleted(tmp_path: Path) -> None:
    copy = copied_interpreter(tmp_path / "gone")
    digest = hashlib.sha256(copy.read_bytes()).hexdigest()
    with listening("tcp", "127.0.0.1", executable=copy) as program:
        (present,) = found_on(program.port)
        copy.unlink()
        (judged,) = found_on(program.port)
    assert "executable-deleted" not in ids(present)
    file = judged.listener.owners[0].executable
    assert file is not None
    assert (file.path, file.state, file.sha256) == (str(copy), FileState.DELETED, digest)
    assert judged.verdict is Verdict.SUSPICIOUS
    assert "executable-deleted" in ids(judged)


def test_near_miss_a_program_whose_executable_was_updated(tmp_path: Path) -> None:
    copy = copied_interpreter(tmp_path / "updated")
    with listening("tcp", "127.0.0.1", executable=copy) as program:
        copy.unlink()
        copy.write_bytes(b"the new version")
        (judged,) = found_on(program.port)
    assert judged.verdict is Verdict.UNKNOWN
    assert "executable-replaced" in ids(judged)


def test_a_name_with_deleted_in_it_is_only_a_name(tmp_path: Path) -> None:
    copy = copied_interpreter(tmp_path / "x (deleted)")
    with listening("tcp", "127.0.0.1", executable=copy) as program:
        (judged,) = found_on(program.port)
    assert "executable-deleted" not in ids(judged)


def test_a_program_from_memory(tmp_path: Path) -> None:
    code = (
        "import os, sys; fd = os.memfd_create('x'); "
        "os.write(fd, open(sys.argv[1], 'rb').read()); "
        "os.execve(fd, sys.argv[1:], {**os.environ, 'PYTHONHOME': sys.base_prefix})"
    )
    words = [str(INTERPRETER), "-c", code, str(INTERPRETER), "-c", CODE, "tcp", "127.0.0.1"]
    with started(words) as program:
        (judged,) = found_on(program.port)
    assert judged.verdict is Verdict.SUSPICIOUS
    assert "executable-in-memory" in ids(judged)


def test_an_executable_that_anybody_may_replace(tmp_path: Path) -> None:
    copy = copied_interpreter(tmp_path / "open" / "service")
    with listening("tcp", "127.0.0.1", executable=copy) as program:
        (closed,) = found_on(program.port)
        copy.parent.chmod(0o777)
        (judged,) = found_on(program.port)
    assert "writable-by-anyone" not in ids(closed)
    assert judged.verdict is Verdict.SUSPICIOUS
    assert f"anybody on this host may write {copy.parent}" in [r.sentence for r in judged.reasons]


def test_a_script_is_named_and_can_be_pinned(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text(CODE)
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    with started([str(INTERPRETER), "-u", str(script), "tcp", "127.0.0.1"]) as program:
        (unpinned,) = found_on(program.port, rules=(PortRule(name="a", path=str(INTERPRETER)),))
        pin = PortRule(name="b", script=str(script), script_sha256=digest)
        (pinned,) = found_on(program.port, rules=(pin,))
        (other,) = found_on(program.port, rules=(PortRule(name="c", script_sha256="00" * 32),))
    owner = unpinned.listener.owners[0]
    assert owner.script is not None
    assert (owner.script.name, owner.script.sha256) == (str(script), digest)
    assert unpinned.verdict is Verdict.UNKNOWN
    assert "interpreter-unpinned" in ids(unpinned)
    assert pinned.verdict is Verdict.EXPECTED
    assert other.verdict is Verdict.UNKNOWN


def test_a_program_named_rtvscan_that_is_not(tmp_path: Path) -> None:
    """The name that people know from this port, on a machine where it cannot be."""
    fake = copied_interpreter(tmp_path / "rtvscan.exe")
    with listening("tcp", "127.0.0.1", executable=fake) as program:
        (judged,) = found_on(program.port)
    assert judged.verdict is Verdict.SUSPICIOUS
    assert "imitation" in ids(judged)
    reason = next(reason for reason in judged.reasons if reason.id == "imitation")
    assert "'rtvscan.exe' looks like rtvscan.exe" in reason.sentence
    assert reason.next_step


def test_a_file_of_a_package_is_known_and_intact() -> None:
    perl = Path("/usr/bin/perl")
    if not Path("/var/lib/dpkg/info").is_dir() or not perl.exists():
        pytest.skip("no perl of a package: apt-get install perl-base")
    code = (
        "use IO::Socket::INET; $|=1; my $s=IO::Socket::INET->new(Listen=>1,"
        "LocalAddr=>'127.0.0.1'); print $s->sockport, qq(\\n); <STDIN>;"
    )
    with started([str(perl), "-e", code]) as program:
        found = the_only(program)
    file = found.owners[0].executable
    assert file is not None
    assert file.package is not None
    assert file.package.name.startswith("perl")
    assert file.package.intact is True


@pytest.mark.namespaces
def test_a_listener_in_another_network_namespace() -> None:
    with two_machines() as (machine, _):
        words = ["ip", "netns", "exec", machine.name, str(INTERPRETER), "-c"]
        with started([*words, CODE, "tcp", "::", "both"]) as program:
            own = surveyor_here(elsewhere=False).survey(frozenset({program.port}))
            (judged,) = found_on(program.port)
            told = linux_proc.ProcSockets(Path(f"/proc/{program.pid}/net"), 7)
            (by_proc,) = told.sockets(frozenset({program.port}))
    assert own.listeners == ()
    assert not judged.listener.in_own_namespace
    assert judged.listener.owners[0].pid == program.pid
    assert judged.listener.serves_both
    assert "other-namespace" in ids(judged)
    assert (judged.verdict, judged.ids) == (Verdict.UNKNOWN, PLAIN)
    assert (by_proc.inode, by_proc.v6only) == (judged.listener.socket.inode, None)


# -- without root ------------------------------------------------------------------------------


def test_without_root_the_socket_its_user_and_what_was_hidden_are_told() -> None:
    with listening("tcp", "127.0.0.1") as program:
        judged = as_nobody(lambda: found_on(program.port))
        seen = as_nobody(lambda: survey(program.port))
    assert USED_AS_NOBODY
    (one,) = judged
    assert one.verdict is Verdict.UNKNOWN
    assert one.listener.owners == ()
    assert one.listener.user == "root"
    assert one.ids[0] == "owner-unseen"
    told = " ".join(unseen.what for unseen in seen.unseen)
    assert "1 sockets have owners among" in told
    assert "namespaces of other users' programs" in told
    assert {unseen.command for unseen in seen.unseen} == {"sudo fleetward ports show"}


def test_without_root_the_users_own_listeners_are_whole() -> None:
    def look() -> list[Listener]:
        with socket.socket() as own:
            own.bind(("127.0.0.1", 0))
            own.listen()
            return list(survey(own.getsockname()[1]).listeners)

    (found,) = as_nobody(look)
    assert found.user == "nobody"
    assert len(found.owners) == 1


# -- two ways, and ss --------------------------------------------------------------------------


def test_the_text_files_tell_the_same_as_netlink_but_for_the_flag() -> None:
    digests = Digests()
    owners = LinuxOwners(digests, packages_here(digests))
    by_proc = Surveyor(Platform.LINUX, (ProcSockets(),), owners, elsewhere=False)
    with (
        listening("tcp", "::1") as first,
        listening("udp", "127.0.0.1") as second,
        listening("tcp", "::", "both") as third,
    ):
        ports = frozenset({first.port, second.port, third.port})
        one = by_proc.survey(ports)
        other = surveyor_here(elsewhere=False).survey(ports)
    assert (one.method, other.method) == ("/proc/net", "netlink")

    def facts(found: Survey) -> list[tuple[object, ...]]:
        return [
            (x.socket.protocol, x.socket.address, x.socket.port, x.socket.inode, x.owners, x.user)
            for x in found.listeners
        ]

    assert facts(one) == facts(other)


@pytest.mark.skipif(which("ss") is None, reason="no ss: apt-get install iproute2")
def test_the_same_facts_as_ss_on_everything_that_both_report(tmp_path: Path) -> None:
    fake = copied_interpreter(tmp_path / "rtvscan.exe")
    with (
        listening("tcp", "127.0.0.1") as a,
        listening("tcp", "::", "both") as b,
        listening("tcp", "::", "v6only") as c,
        listening("udp", "127.0.0.1") as d,
        listening("udp", "::", "both") as e,
        listening("tcp", "127.0.0.1", "reuse") as f,
        listening("tcp", "127.0.0.1", str(f.port), "reuse") as g,
        listening("tcp", "127.0.0.1", "fork") as h,
        activated() as i,
        listening("tcp", "::1", executable=fake) as j,
    ):
        here = surveyor_here(elsewhere=False)
        before = {one.socket.inode: facts_of(one) for one in here.survey(frozenset()).listeners}
        told = subprocess.run(["ss", "-tulpneH"], capture_output=True, text=True, check=True)
        after = {one.socket.inode: facts_of(one) for one in here.survey(frozenset()).listeners}
    by_ss = dict(map(parsed, told.stdout.splitlines()))
    by_us = dict(before.items() & after.items())  # other programs of this machine come and go
    both = by_ss.keys() & by_us.keys()
    assert {inode: by_ss[inode] for inode in both} == {inode: by_us[inode] for inode in both}
    started_here = {program.port for program in (a, b, c, d, e, f, g, h, i, j)}
    assert started_here <= {by_us[inode][2] for inode in both}


Facts = tuple[str, str, int, frozenset[int], int]


def parsed(line: str) -> tuple[int, Facts]:
    """Read a line of `ss -tulpneH`: its inode, and protocol, address, port, pids and uid."""
    words = line.split()
    address, _, port = words[4].rpartition(":")
    address = address.strip("[]").partition("%")[0]
    pids = frozenset(int(pid) for pid in re.findall(r"pid=(\d+)", line))
    uid = re.search(r"uid:(\d+)", line)
    inode = re.search(r"ino:(\d+)", line)
    assert inode
    plain = "both" if address == "*" else address
    return int(inode[1]), (words[0], plain, int(port), pids, int(uid[1]) if uid else 0)


def facts_of(found: Listener) -> Facts:
    one = found.socket
    address = "both" if found.serves_both else one.address
    pids = frozenset(owner.pid for owner in found.owners)
    return one.protocol.value, address, one.port, pids, one.uid or 0
