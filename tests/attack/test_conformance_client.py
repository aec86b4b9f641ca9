"""Stories about the executable that tuf-conformance drives, against repositories of any form."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Generator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from urllib.parse import quote

import pytest

from fleetward.core.digest import sha256_of
from support.fakes import FakeClock
from support.sourceserver import SourceServer, gives, source_server
from support.trusthost import real_time_clock
from support.tufsim import SimRepository

CLIENT = Path(__file__).with_name("conformance_client")


def load_main() -> Callable[[list[str]], int]:
    """Return the executable's `main`, so that most stories need no process."""
    loader = SourceFileLoader("conformance_client", str(CLIENT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    path = list(sys.path)
    loader.exec_module(module)
    sys.path[:] = path
    sys.dont_write_bytecode = writes
    main: Callable[[list[str]], int] = module.main
    return main


MAIN = load_main()


class Client:
    """The executable, with a folder of metadata and one of targets."""

    def __init__(self, folder: Path, url: str) -> None:
        self.metadata = folder / "metadata"
        self.targets = folder / "targets"
        self.metadata.mkdir()
        self.targets.mkdir()
        self._root = folder / "initial_root.json"
        self._at = ["--metadata-dir", str(self.metadata)]
        self._url = ["--metadata-url", f"{url}/metadata/"]
        self._target_url = f"{url}/targets/"

    def init_command(self, root: bytes) -> list[str]:
        self._root.write_bytes(root)
        return [*self._at, "init", str(self._root)]

    def refresh_command(self) -> list[str]:
        return [*self._url, *self._at, "refresh"]

    def download_command(self, name: str) -> list[str]:
        target = ["--target-name", name, "--target-dir", str(self.targets)]
        base = ["--target-base-url", self._target_url]
        return [*self._url, *self._at, *target, *base, "download"]

    def init(self, root: bytes) -> int:
        return MAIN(self.init_command(root))

    def refresh(self) -> int:
        return MAIN(self.refresh_command())

    def download(self, name: str) -> int:
        return MAIN(self.download_command(name))

    def trusted(self) -> dict[str, int]:
        """Return the version of each trusted role, by file name without its end."""
        found = {}
        for path in self.metadata.glob("*.json"):
            found[path.stem] = json.loads(path.read_bytes())["signed"]["version"]
        return found

    def content(self, role: str) -> bytes:
        return (self.metadata / f"{role}.json").read_bytes()

    def downloaded(self) -> list[bytes]:
        return sorted(path.read_bytes() for path in self.targets.iterdir())


@pytest.fixture
def clock() -> FakeClock:
    return real_time_clock()


@pytest.fixture
def origin(clock: FakeClock) -> SimRepository:
    return SimRepository(clock, {})


@pytest.fixture
def source(origin: SimRepository) -> Generator[SourceServer]:
    with source_server(origin.files) as server:
        yield server


@pytest.fixture
def client(origin: SimRepository, source: SourceServer, tmp_path: Path) -> Client:
    made = Client(tmp_path, source.url)
    assert made.init(origin.anchor) == 0
    return made


def asked(source: SourceServer) -> list[str]:
    """Return what was asked for since the last call, without its folder."""
    names = [path.partition("/")[2] for path in source.asked]
    source.asked.clear()
    return names


def test_the_executable_itself(origin: SimRepository, source: SourceServer, tmp_path: Path) -> None:
    # Each command in a process of its own, from a folder that is not the checkout.
    client = Client(tmp_path, source.url)
    origin.add_target("targets", "a/b.txt", b"content")
    origin.publish("targets")
    commands = [
        client.init_command(origin.anchor),
        client.refresh_command(),
        client.download_command("a/b.txt"),
        client.download_command("absent"),
    ]
    codes = [
        subprocess.run(
            [sys.executable, "-P", str(CLIENT), *command],
            check=False,
            capture_output=True,
            cwd=tmp_path,
            timeout=60,
        ).returncode
        for command in commands
    ]
    assert codes == [0, 0, 0, 1]
    assert CLIENT.stat().st_mode & 0o111
    assert client.downloaded() == [b"content"]


def test_a_first_refresh(origin: SimRepository, source: SourceServer, client: Client) -> None:
    assert client.trusted() == {"root": 1}
    assert client.refresh() == 0
    assert client.trusted() == {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
    for role in client.trusted():
        assert client.content(role) == origin.files[origin.path(role)]
    expected = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
    assert asked(source) == expected

    # Nothing new: nothing more than the two questions is asked.
    assert client.refresh() == 0
    assert asked(source) == expected[:2]


@pytest.mark.parametrize("root", ["unsigned", "without version", "no json"])
def test_an_initial_root_that_is_none(
    origin: SimRepository, source: SourceServer, tmp_path: Path, root: str
) -> None:
    client = Client(tmp_path, source.url)
    document = json.loads(origin.anchor)
    if root == "unsigned":
        document["signatures"][0]["sig"] = "00" * 64
    else:
        del document["signed"]["version"]
    content = b"no json" if root == "no json" else json.dumps(document).encode()
    assert client.init(content) == 1
    assert client.refresh() == 1
    assert source.asked == []


def test_a_root_chain_with_rotated_keys(origin: SimRepository, client: Client) -> None:
    for _ in range(3):
        origin.rotate_root()
    origin.publish("targets")
    assert client.refresh() == 0
    assert client.trusted()["root"] == 4
    assert client.content("root") == origin.files["metadata/4.root.json"]


def test_a_refused_root_leaves_the_last_good_one(origin: SimRepository, client: Client) -> None:
    origin.rotate_root()
    origin.rotate("root")
    origin.publish_role("root")
    assert client.refresh() == 1
    assert client.trusted() == {"root": 2}


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_an_expired_role(origin: SimRepository, client: Client, role: str) -> None:
    assert client.refresh() == 0
    origin.renew_expiry(role, days=-1)
    origin.publish(*({role, "targets"} if role == "targets" else {role}))
    assert client.refresh() == 1

    # What was verified before the failure is kept, and no more.
    reached = ["root", "timestamp", "snapshot", "targets"].index(role)
    versions = client.trusted()
    assert versions["root"] == (2 if role == "root" else 1)
    assert versions["timestamp"] == (2 if reached > 1 else 1)
    assert versions["snapshot"] == (2 if reached > 2 else 1)
    assert versions["targets"] == 1


def test_partial_failure_keeps_what_was_verified(origin: SimRepository, client: Client) -> None:
    # Snapshot says another version than timestamp: only root and timestamp are trusted.
    origin.roles["snapshot"].version += 1
    origin.files["metadata/1.snapshot.json"] = origin.sign("snapshot")
    assert client.refresh() == 1
    assert client.trusted() == {"root": 1, "timestamp": 1}


@pytest.mark.parametrize("with_digests", [True, False])
def test_rollbacks(origin: SimRepository, client: Client, with_digests: bool) -> None:  # noqa: FBT001
    origin.with_digests = with_digests
    origin.publish("targets")
    origin.publish("targets")
    assert client.refresh() == 0
    before = client.trusted()

    # Of timestamp, of snapshot, and of targets, each by itself.
    origin.roles["timestamp"].version -= 2
    origin.publish("timestamp")
    assert client.refresh() == 1
    origin.roles["timestamp"].version += 2
    origin.roles["snapshot"].version -= 2
    origin.publish("snapshot")
    assert client.refresh() == 1
    assert client.trusted() == before
    origin.roles["snapshot"].version += 2
    origin.roles["targets"].version -= 2
    origin.publish("targets")
    assert client.refresh() == 1
    assert client.trusted()["targets"] == before["targets"]


def test_a_timestamp_that_changes_without_a_new_version(
    origin: SimRepository, source: SourceServer, client: Client
) -> None:
    assert client.refresh() == 0
    kept = client.content("timestamp")
    origin.roles["timestamp"].snapshot_meta.version = 100  # type: ignore[attr-defined]
    origin.republish("timestamp")
    assert client.refresh() == 0
    assert client.content("timestamp") == kept
    assert asked(source)[-1] == "timestamp.json"


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot", "timestamp"), ("snapshot",)])
def test_fast_forward_recovery(
    origin: SimRepository, client: Client, roles: tuple[str, ...]
) -> None:
    # Huge versions are published; then the keys are rotated, and versions begin again.
    forwarded = "targets" if roles == ("snapshot",) else roles[0]
    origin.roles[forwarded].version = 99_999
    origin.publish("targets" if forwarded == "targets" else forwarded)
    assert client.refresh() == 0
    assert client.trusted()[forwarded] >= 99_999
    for role in roles:
        origin.rotate(role)
    origin.roles[forwarded].version = 2
    origin.publish("root", "targets" if forwarded == "targets" else forwarded)
    assert client.refresh() == 0
    assert client.trusted()[forwarded] == 3


@pytest.mark.parametrize(("threshold", "signing", "code"), [(2, 2, 0), (2, 1, 1), (3, 2, 1)])
def test_thresholds(
    clock: FakeClock, tmp_path: Path, threshold: int, signing: int, code: int
) -> None:
    origin = SimRepository(clock, {"snapshot": (threshold, 3)})
    origin.signers["snapshot"] = origin.signers["snapshot"][:signing]
    origin.publish("snapshot")
    with source_server(origin.files) as source:
        client = Client(tmp_path, source.url)
        assert client.init(origin.anchor) == 0
        assert client.refresh() == code
        assert ("snapshot" in client.trusted()) is (code == 0)


@pytest.mark.parametrize("role", ["snapshot", "targets"])
def test_bytes_that_were_not_signed(
    origin: SimRepository, source: SourceServer, client: Client, role: str
) -> None:
    # The digest is wrong, though the signature is right: the file was written differently.
    path = origin.path(role)
    other = json.dumps(json.loads(origin.files[path]), indent=1).encode()
    source.scripts[path] = gives(other)
    assert client.refresh() == 1
    assert role not in client.trusted()


def test_metadata_without_digests_may_be_written_differently(
    origin: SimRepository, source: SourceServer, client: Client
) -> None:
    origin.with_digests = False
    origin.publish("targets")
    path = origin.path("targets")
    other = json.dumps(json.loads(origin.files[path]), indent=1).encode()
    source.scripts[path] = gives(other)
    assert client.refresh() == 0
    assert client.content("targets") == other


@pytest.mark.parametrize(
    "role", ["?", "#", "/delegated", "../delegated", "a b", "ä", "%2e", ".", "role.1", "1.role"]
)
def test_odd_role_names(
    origin: SimRepository, source: SourceServer, client: Client, role: str
) -> None:
    origin.delegate(role, ["*"])
    origin.publish("targets", role)
    assert client.download("nothing of that name") == 1

    # The right file was asked for, and is trusted under the same quoted name in D alone.
    assert f"1.{quote(role, safe='')}.json" in asked(source)
    assert client.trusted()[quote(role, safe="")] == 1
    assert len(client.trusted()) == 5
    assert {path.name for path in client.metadata.parent.iterdir()} == {
        "initial_root.json",
        "metadata",
        "metadata.state",
        "targets",
    }

    # Asked again, it is not downloaded again.
    assert client.download("nothing of that name") == 1
    assert asked(source) == ["2.root.json", "timestamp.json"]


def test_delegations_are_walked_in_their_order(
    origin: SimRepository, source: SourceServer, client: Client
) -> None:
    # Two roles name the same target; the first one, terminating, decides.
    origin.delegate("first", ["files/*"])
    origin.delegate("second", ["files/*"])
    origin.add_target("second", "files/x", b"of the second")
    origin.publish("targets", "first", "second")
    assert client.download("files/x") == 1
    assert "second" not in client.trusted()
    origin.add_target("first", "files/x", b"of the first")
    origin.publish("first")
    assert client.download("files/x") == 0
    assert client.downloaded() == [b"of the first"]
    assert client.trusted()["first"] == 2
    assert asked(source)[-1].startswith("files/")


def test_a_delegated_role_that_fails_leaves_the_others(
    origin: SimRepository, client: Client
) -> None:
    origin.delegate("first", ["*"])
    origin.delegate("second", ["*"], by="first")
    origin.publish("targets", "first", "second")
    origin.signers["second"] = origin.signers["targets"]
    origin.publish("second")
    assert client.download("x") == 1
    assert client.trusted()["first"] == 1
    assert "second" not in client.trusted()


@pytest.mark.parametrize("name", ["plain.txt", "in/a/folder.txt", "with space", "ünï/ö"])
def test_downloads(origin: SimRepository, source: SourceServer, client: Client, name: str) -> None:
    content = b"one"
    origin.add_target("targets", name, content)
    origin.publish("targets")
    folder, _, last = name.rpartition("/")
    served = f"targets/{folder}/{sha256_of(content)}.{last}".replace("//", "/")
    origin.files[quote(served)] = content
    assert client.download(name) == 0
    assert [path.name for path in client.targets.iterdir()] == [quote(name, safe="")]
    assert client.downloaded() == [b"one"]

    # A second time the file is there already, and is not asked for.
    asked(source)
    assert client.download(name) == 0
    assert asked(source) == ["2.root.json", "timestamp.json"]


def test_a_target_that_was_substituted(
    origin: SimRepository, source: SourceServer, client: Client
) -> None:
    origin.add_target("targets", "a", b"honest")
    origin.add_target("targets", "b", b"honest too")
    origin.publish("targets")
    assert client.download("a") == 0
    for name in list(origin.files):
        if name.startswith("targets/"):
            origin.files[name] = b"hostile"
    assert client.download("b") == 1
    assert client.downloaded() == [b"honest"]

    # A longer one is cut, one that is not there is an error.
    source.scripts[f"targets/{sha256_of(b'honest too')}.b"] = gives(bytes(100_000))
    assert client.download("b") == 1
    source.scripts[f"targets/{sha256_of(b'honest too')}.b"] = gives(b"", 404)
    assert client.download("b") == 1

    # A new content takes the place of the old one.
    origin.add_target("targets", "a", b"newer")
    origin.publish("targets")
    assert client.download("a") == 0
    assert client.downloaded() == [b"newer"]


def test_a_repository_without_consistent_snapshots(clock: FakeClock, tmp_path: Path) -> None:
    origin = SimRepository(clock, {})
    origin.root.consistent_snapshot = False
    origin.publish_role("root")
    origin.add_target("targets", "a", b"plain")
    origin.publish("targets")
    for role in ("snapshot", "targets"):
        origin.files[f"metadata/{role}.json"] = origin.files[origin.path(role)]
    origin.files["targets/a"] = b"plain"
    with source_server(origin.files) as source:
        client = Client(tmp_path, source.url)
        assert client.init(origin.anchor) == 0
        assert client.download("a") == 0
        assert client.downloaded() == [b"plain"]


def test_fields_that_nobody_knows(origin: SimRepository, client: Client) -> None:
    origin.root.unrecognized_fields["custom"] = {"a": [1, None]}
    origin.roles["timestamp"].unrecognized_fields["x-issued"] = "yesterday"
    origin.publish("root", "targets")
    assert client.refresh() == 0
    assert client.content("root") == origin.files["metadata/2.root.json"]


def test_init_again_begins_again(origin: SimRepository, client: Client) -> None:
    origin.rotate_root()
    assert client.refresh() == 0
    assert client.init(origin.anchor) == 0
    assert client.trusted()["root"] == 1
    assert client.refresh() == 0
    assert client.trusted()["root"] == 2
