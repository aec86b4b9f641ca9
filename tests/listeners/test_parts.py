"""The parts of a survey on recorded data: /proc's tables, cgroups, packages, files, namespaces."""

import hashlib
import os
import stat
from pathlib import Path

import pytest

from fleetward.adapters.processes import Finished
from fleetward.core.listeners import (
    BoundSocket,
    FileState,
    PackageFile,
    Platform,
    Transport,
    Unseen,
)
from fleetward.errors import ConfigurationError
from fleetward.listeners import executables, linux_cgroups, linux_namespaces, packages, surveying
from fleetward.listeners.executables import Digests, inside, state_of, writable_by_anyone
from fleetward.listeners.linux_cgroups import (
    container_of,
    parse_membership,
    paths_by_id,
    unified_mount,
    unit_of,
)
from fleetward.listeners.linux_namespaces import namespaces, own_namespace, sockets_elsewhere
from fleetward.listeners.linux_owners import LinuxOwners, ProgramReader, user_name
from fleetward.listeners.linux_proc import ProcSockets
from fleetward.listeners.packages import (
    DpkgPackages,
    NoPackages,
    RpmPackages,
    other_names,
    packages_here,
    run_rpm,
)
from fleetward.listeners.source import Owners, Ports, SourceDeniedError
from fleetward.listeners.surveying import Surveyor, surveyor_here

# -- /proc/net ---------------------------------------------------------------------------------

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
TCP = HEAD + (
    "   0: 0100007F:0B97 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 111 1 0\n"
    "   1: 0100007F:0B97 0100007F:C001 01 00000000:00000000 00:00000000 00000000    33        0 112 1 0\n"
    "   2: nonsense:XXXX 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 113 1 0\n"
    "   3: short line 0A\n"
)
TCP6 = HEAD + (
    "   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A "
    "00000000:00000000 00:00000000 00000000     0        0 114 1 0\n"
)
UDP = HEAD + (
    "   0: 00000000:0B97 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 115 2 0\n"
    "   1: 0100007F:9999 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 116 2 0\n"
)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    for name, text in (("tcp", TCP), ("tcp6", TCP6), ("udp", UDP)):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_tables_of_proc(net: Path) -> None:
    """Established connections, connected UDP sockets and lines of another form are left out."""
    found = ProcSockets(net, 9).sockets(frozenset())
    rows = [(s.protocol.value, s.address, s.port, s.inode, s.uid) for s in found]
    assert rows == [
        ("tcp", "127.0.0.1", 2967, 111, 33),
        ("tcp", "::1", 80, 114, 0),
        ("udp", "0.0.0.0", 2967, 115, 0),  # noqa: S104 (a text)
    ]
    assert {s.namespace for s in found} == {9}
    assert {s.v6only for s in found} == {None}
    assert len(ProcSockets(net).sockets(frozenset({80}))) == 1


def test_tables_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "tcp").mkdir()
    with pytest.raises(SourceDeniedError, match="tcp"):
        ProcSockets(tmp_path).sockets(frozenset())
    assert ProcSockets(tmp_path / "none").sockets(frozenset()) == ()


# -- cgroups -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "unit", "container"),
    [
        ("/system.slice/nginx.service", "nginx.service", ""),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service", "x.service", ""),
        ("/user.slice/user-1000.slice/session-2.scope", "session-2.scope", ""),
        ("/", "", ""),
        ("", "", ""),
        (f"/system.slice/docker-{'ab' * 32}.scope", f"docker-{'ab' * 32}.scope", "docker abababababab"),
        (f"/docker/{'cd' * 32}", "", "docker cdcdcdcdcdcd"),
        (f"/kubepods/burstable/pod12/{'ef' * 32}", "", "kubepods efefefefefef"),
        (f"/machine.slice/libpod-{'12' * 32}.scope", f"libpod-{'12' * 32}.scope", "libpod 121212121212"),
        ("/lxc.payload.web/system.slice/x.service", "x.service", "lxc web"),
        ("/lxc/web", "", "lxc web"),
        ("/machine.slice/systemd-nspawn@b.service", "systemd-nspawn@b.service", "machine systemd-nspa"),
    ],
)  # fmt: skip
def test_units_and_containers(path: str, unit: str, container: str) -> None:
    assert unit_of(path) == unit
    assert container_of(path) == container


def test_which_hierarchy_counts() -> None:
    assert parse_membership("0::/system.slice/a.service\n") == "/system.slice/a.service"
    hybrid = "9:name=systemd:/system.slice/b.service\n4:memory:/x\n0::/\n"
    assert parse_membership(hybrid) == "/system.slice/b.service"
    assert parse_membership("4:memory:/x\n") == "/"
    assert parse_membership("") == "/"


def test_where_the_unified_hierarchy_is() -> None:
    old = "30 23 0:26 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids"
    new = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
    assert unified_mount(f"{old}\n{new}\n") == Path("/sys/fs/cgroup")
    assert unified_mount(old) is None


def test_paths_of_cgroups_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "system.slice" / "a.service"
    deep.mkdir(parents=True)
    (tmp_path / "b").mkdir()
    number, root = deep.stat().st_ino, tmp_path.stat().st_ino
    assert paths_by_id(tmp_path, [number, 1]) == {number: "/system.slice/a.service"}
    assert paths_by_id(tmp_path, [root]) == {root: "/"}
    assert paths_by_id(None, [number]) == {}
    assert paths_by_id(tmp_path, []) == {}
    assert linux_cgroups._inode(str(tmp_path / "gone")) == -1
    monkeypatch.setattr(linux_cgroups, "MAX_CGROUPS", 0)
    assert paths_by_id(tmp_path, [number]) == {}


# -- packages ----------------------------------------------------------------------------------


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def dpkg(tmp_path: Path) -> Path:
    folder = tmp_path / "var/lib/dpkg/info"
    folder.mkdir(parents=True)
    (folder / "honest.list").write_text("/.\n/usr\n/usr/bin/honestd\n/usr/bin/honestd-extra\n")
    (folder / "old:amd64.list").write_text("/.\n/bin/oldie")
    (folder / "old:amd64.md5sums").write_text(f"{md5_of(b'old')}  bin/oldie\n")
    digest = md5_of(b"honest")
    (folder / "honest.md5sums").write_text(f"{'0' * 32}  usr/bin/a\n{digest}  usr/bin/honestd\n")
    return folder


def test_the_package_of_a_file_and_whether_it_is_intact(dpkg: Path, tmp_path: Path) -> None:
    running = tmp_path / "running"
    running.write_bytes(b"honest")
    database = DpkgPackages(Digests(), dpkg)
    path = "/usr/bin/honestd"
    assert database.find([(path, running)]) == {path: PackageFile(name="honest", intact=True)}
    running.write_bytes(b"altered")
    assert database.find([(path, running)]) == {path: PackageFile(name="honest", intact=False)}


def test_both_names_of_a_merged_folder(dpkg: Path, tmp_path: Path) -> None:
    """The package lists /bin/oldie, the program was started as /usr/bin/oldie."""
    running = tmp_path / "running"
    running.write_bytes(b"old")
    found = DpkgPackages(Digests(), dpkg).find([("/usr/bin/oldie", running)])
    assert found == {"/usr/bin/oldie": PackageFile(name="old", intact=True)}
    assert other_names("/bin/sh") == ("/bin/sh", "/usr/bin/sh")
    assert other_names("/usr/lib/x") == ("/usr/lib/x", "/lib/x")
    assert other_names("/opt/x") == ("/opt/x",)
    assert other_names("/usr/share/x") == ("/usr/share/x",)


def test_near_misses_of_packages(dpkg: Path, tmp_path: Path) -> None:
    """A path that only begins like one; a file without a digest; bytes that are gone."""
    database = DpkgPackages(Digests(), dpkg)
    running = tmp_path / "running"
    running.write_bytes(b"x")
    assert database.find([("/usr/bin/honest", running), ("/bin/hones", running)]) == {}
    extra = database.find([("/usr/bin/honestd-extra", running)])
    assert extra["/usr/bin/honestd-extra"].intact is None
    gone = database.find([("/usr/bin/honestd", tmp_path / "none")])
    assert gone["/usr/bin/honestd"].intact is None
    assert database.find([]) == {}


def test_what_is_remembered_of_packages_ends_with_the_next_installation(
    dpkg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = tmp_path / "running"
    running.write_bytes(b"x")
    database = DpkgPackages(Digests(), dpkg)
    files = [("/opt/new", running)]
    assert database.find(files) == {}
    with (dpkg / "honest.list").open("a") as listing:
        listing.write("/opt/new\n")
    assert database.find(files) == {}, "dpkg never writes into a list"
    (dpkg / "new.list").write_text("/.\n/opt/new\n")
    (dpkg / "honest.list").unlink()
    assert database.find(files)["/opt/new"].name == "new"
    monkeypatch.setattr(packages, "MAX_REMEMBERED", 0)
    assert database.find([("/bin/oldie", running)])["/bin/oldie"].name == "old"
    assert set(database._owners) == {"/bin/oldie"}


class Rpm:
    """Answers as rpm does."""

    def __init__(self, owner: str, differs: str | None = "", code: int | None = 0) -> None:
        self.owner, self.differs, self.code = owner, differs, code

    def __call__(self, command: object) -> Finished:
        assert isinstance(command, tuple)
        if command[1] == "-qf":
            return Finished(0 if self.owner else 1, self.owner or "file /x is not owned")
        return Finished(None if self.differs is None else 1, self.differs or "")


@pytest.mark.parametrize(
    ("rpm", "found"),
    [
        (Rpm("nginx-core\n"), PackageFile(name="nginx-core", intact=True)),
        (Rpm("nginx", "S.5....T.    /x"), PackageFile(name="nginx", intact=False)),
        (Rpm("nginx", ".......T.    /x"), PackageFile(name="nginx", intact=True)),
        (Rpm("nginx", "..?......    /x"), PackageFile(name="nginx", intact=None)),
        (Rpm("nginx", "S.5....T.  c /etc/x.conf"), PackageFile(name="nginx", intact=True)),
        (Rpm("nginx", None), PackageFile(name="nginx", intact=None)),
        (Rpm(""), None),
    ],
)
def test_rpm(rpm: Rpm, found: PackageFile | None) -> None:
    told = RpmPackages(rpm).find([("/x", Path("/proc/1/exe"))])
    assert told.get("/x") == found


def test_a_machine_without_rpm() -> None:
    def absent(_: object) -> Finished:
        raise ConfigurationError("cannot run rpm")

    assert RpmPackages(absent).find([("/x", Path("/x")), ("/y", Path("/y"))]) == {}
    assert run_rpm(("true",)).exit_code == 0


def test_which_database_a_machine_has(dpkg: Path, tmp_path: Path) -> None:
    assert isinstance(packages_here(Digests(), tmp_path), DpkgPackages)
    assert isinstance(packages_here(Digests(), tmp_path / "none"), NoPackages)
    (tmp_path / "r/var/lib/rpm").mkdir(parents=True)
    assert isinstance(packages_here(Digests(), tmp_path / "r"), RpmPackages)
    assert NoPackages().find([("/x", dpkg)]) == {}
    assert packages._content(dpkg / "none") == b""
    (dpkg / "empty.list").write_bytes(b"")
    assert packages._lines_among(dpkg / "empty.list", ["/x"]) == []


# -- files -------------------------------------------------------------------------------------


def test_digests_are_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, digests = tmp_path / "f", Digests()
    file.write_bytes(b"one")
    first = digests.of(file)
    assert first == digests.of(file) == hashlib.sha256(b"one").hexdigest()
    file.write_bytes(b"two!")
    assert digests.of(file) == hashlib.sha256(b"two!").hexdigest()
    assert digests.of(tmp_path) is None
    assert digests.of(tmp_path / "none") is None
    assert len(digests._known) == 2
    monkeypatch.setattr(executables, "MAX_KEPT_DIGESTS", 1)
    assert digests.of(file, "md5") == md5_of(b"two!")
    assert len(digests._known) == 1
    monkeypatch.setattr(executables, "MAX_HASHED_BYTES", 3)
    assert digests.of(file) is None


def test_what_became_of_a_file(tmp_path: Path) -> None:
    file, other = tmp_path / "f", tmp_path / "g"
    file.write_bytes(b"x")
    facts = file.stat()
    assert state_of(str(file), facts) == (str(file), FileState.PRESENT)
    assert state_of(f"{other} (deleted)", facts) == (str(other), FileState.DELETED)
    other.write_bytes(b"y")
    assert state_of(f"{other} (deleted)", facts) == (str(other), FileState.REPLACED)
    assert state_of("/hidden/by/mounts", facts) == ("/hidden/by/mounts", FileState.PRESENT)
    assert state_of("/memfd:x (deleted)", facts) == ("/memfd:x", FileState.NEVER_A_FILE)
    assert state_of("/f", facts, tmp_path) == ("/f", FileState.PRESENT)


def test_who_may_write_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    file = folder / "f"
    file.write_bytes(b"x")
    assert writable_by_anyone(str(file)) is None
    file.chmod(0o666)
    assert writable_by_anyone(str(file)) == str(file)
    file.chmod(0o644)
    folder.chmod(0o777)
    assert writable_by_anyone(str(file)) == str(folder)
    folder.chmod(0o1777)
    assert writable_by_anyone(str(file)) == str(folder), "a program in /tmp itself"
    folder.chmod(0o755)
    folder.parent.chmod(0o1777)
    assert writable_by_anyone(str(file)) is None, "near miss: sticky, and further up"
    folder.parent.chmod(0o777)
    assert writable_by_anyone(str(file)) == str(folder.parent)
    assert writable_by_anyone("/b/f", folder.parent) == "/"
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o777
    folder.parent.chmod(0o755)
    assert inside(tmp_path, "/x") == tmp_path / "x"


# -- programs that end, and other traps of /proc -----------------------------------------------


def proc_with(tmp_path: Path, pid: int, **files: str) -> Path:
    folder = tmp_path / "proc" / str(pid)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return tmp_path / "proc"


STAT = "77 (a) b ) S 5 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 600 1 1"


def test_a_name_with_parentheses_does_not_move_the_fields(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, 77, stat=STAT, comm="a) b \n", cmdline="x\0y\0")
    (proc / "stat").write_text("cpu 1\nbtime 1000\n")
    found = ProgramReader(proc, Digests()).read(77)
    assert found is not None
    assert found.parent is not None
    assert (found.parent.pid, found.parent.name) == (5, "")
    assert found.command == ("x", "y")
    assert found.started is not None
    assert found.started.timestamp() == 1000 + 600 // os.sysconf("SC_CLK_TCK")
    assert (found.executable, found.user) == (None, "")


def test_a_program_that_has_ended_is_nobody(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, 77)
    reader = ProgramReader(proc, Digests())
    assert reader.read(77) is None
    assert reader.read(78) is None
    orphan = proc_with(tmp_path, 79, stat=STAT.replace(" S 5 ", " S 0 "))
    found = ProgramReader(orphan, Digests()).read(79)
    assert found is not None
    assert (found.parent, found.started) == (None, None)


def test_an_environment_that_passes_descriptors(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, 77, environ="LISTEN_PID=77\0LISTEN_FDS=2\0")
    reader = ProgramReader(proc, Digests())
    assert reader.was_passed(77, (4, 9))
    assert not reader.was_passed(77, (5,))
    for text in ("LISTEN_PID=78\0LISTEN_FDS=2\0", "LISTEN_PID=77\0LISTEN_FDS=x\0", ""):
        (proc / "77" / "environ").write_text(text)
        assert not ProgramReader(proc, Digests()).was_passed(77, (3,))


def test_users_without_a_name() -> None:
    assert user_name(0) == "root"
    assert user_name(4_000_000_000) == "4000000000"


def test_sockets_without_inodes_have_no_owners_to_look_for() -> None:
    kernel = BoundSocket(protocol=Transport.UDP, address="::", port=51820)
    assert LinuxOwners().owners([kernel]) == Owners({})


# -- namespaces --------------------------------------------------------------------------------


def test_namespaces_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch, net: Path) -> None:
    """To enter is denied; then /proc/PID/net tells the same, and where that is denied, it is told."""
    found = {7: 4711, own_namespace(): 1}
    monkeypatch.setattr(linux_namespaces, "namespaces", lambda _: (dict(found), 2))
    proc = net / "proc"
    (proc / "self" / "ns").mkdir(parents=True)
    folder = proc / "4711"
    folder.mkdir()
    (folder / "net").symlink_to(net)
    monkeypatch.setattr(linux_namespaces, "own_namespace", lambda _: own_namespace())
    told = sockets_elsewhere(frozenset({2967}), proc)
    assert [one.inode for one in told.sockets] == [111, 115]
    assert {one.namespace for one in told.sockets} == {7}
    (folder / "net").unlink()
    (folder / "net").mkdir()
    (folder / "net" / "tcp").mkdir()
    denied = sockets_elsewhere(frozenset({2967}), proc)
    assert denied.sockets == ()
    assert "1 of 1 other network namespaces" in denied.unseen[0].what
    assert "(2)" in denied.unseen[1].what


def test_a_file_that_is_no_namespace_is_not_entered(tmp_path: Path) -> None:
    link = tmp_path / "net"
    link.write_bytes(b"")
    with pytest.raises(SourceDeniedError):
        linux_namespaces.inside(link, tuple)
    assert own_namespace(tmp_path) == 0
    (tmp_path / "12").mkdir()
    assert namespaces(tmp_path) == ({}, 0)


# -- surveys -----------------------------------------------------------------------------------


class Denied:
    """A way that the machine refuses."""

    method = "denied"

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        raise SourceDeniedError("no such way")


class Recorded:
    """A way with recorded sockets."""

    method = "recorded"

    def __init__(self, *sockets: BoundSocket) -> None:
        self._sockets = sockets

    def sockets(self, ports: Ports) -> tuple[BoundSocket, ...]:
        return self._sockets

    def owners(self, sockets: object) -> Owners:
        return Owners({}, (Unseen(what="all"),))


def test_the_second_way_is_taken_where_the_first_is_refused() -> None:
    rows = [BoundSocket(protocol=Transport.TCP, address="::1", port=p, cgroup=1) for p in (9, 5, 7)]
    recorded = Recorded(*rows)
    surveyor = Surveyor(Platform.MACOS, (Denied(), recorded), recorded)
    found = surveyor.survey(frozenset(), frozenset({7}))
    assert [one.socket.port for one in found.listeners] == [5, 9]
    assert (found.method, found.ephemeral) == ("recorded", None)
    assert found.unseen == (Unseen(what="all"),)


def test_a_machine_that_shows_nothing_says_what_to_do() -> None:
    surveyor = Surveyor(Platform.LINUX, (Denied(), Denied()), Recorded())
    with pytest.raises(ConfigurationError, match="AF_NETLINK"):
        surveyor.sockets(frozenset())


def test_a_kernel_without_the_usual_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(surveying, "_MOUNTS", tmp_path / "none")
    monkeypatch.setattr(surveying, "_EPHEMERAL", tmp_path / "none")
    row = BoundSocket(protocol=Transport.TCP, address="::1", port=1, cgroup=1, uid=0)
    surveyor = Surveyor(Platform.LINUX, (Recorded(row),), Recorded(), elsewhere=False)
    found = surveyor.survey(frozenset())
    assert (found.ephemeral, found.listeners[0].unit) == (None, "")


def test_this_machine_has_a_surveyor() -> None:
    assert surveyor_here().platform is Platform.LINUX
