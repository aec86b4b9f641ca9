"""kill -9 at random moments of real processes: what readers see is always one whole release.

`make slow` kills 200 updates and 60 publishes; `make test` a handful of each. The seed is printed.
"""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.programs import fleetward, serving

SEED = random.SystemRandom().randrange(1 << 32)
Tree = dict[str, bytes]


def tree_of(number: int) -> Tree:
    chance = random.Random(number)
    fixed = {f"rules/{n:02}.yar": b"rule x%d {}\n" % n * 200 for n in range(30)}
    changed = {f"rules/{n:02}.yar": chance.randbytes(3000) for n in chance.sample(range(30), 4)}
    return {**fixed, **changed, "version": str(number).encode()}


def write_tree(folder: Path, tree: Tree) -> Path:
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def read_tree(folder: Path) -> Tree:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def killed_or_done(command: list[str], after: float) -> bool:
    """Run a command and kill it after a while; return whether it ended by itself, well."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        try:
            _, complaint = child.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return False
        assert child.returncode in {0, -signal.SIGKILL}, complaint.decode()
        return child.returncode == 0


class Site:
    """A repository, a host, and what may be read on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo, self.keys = str(folder / "repo"), str(folder / "keys")
        done = fleetward("origin", "init", self.repo, "--keys", self.keys, "--plain-keys")
        assert done.returncode == 0, done.stderr

    def publish_command(self, number: int) -> list[str]:
        tree = write_tree(self.folder / f"tree-{number}", tree_of(number))
        return [
            *(sys.executable, "-m", "fleetward", "origin", "publish", self.repo, "rules"),
            *(str(tree), "--keys", self.keys, "--release", f"r{number}", "--deltas", "2"),
        ]

    def publish(self, number: int) -> None:
        subprocess.run(self.publish_command(number), check=True, capture_output=True)

    def make_host(self, url: str) -> list[str]:
        home = str(self.folder / "agent")
        done = fleetward(
            *("agent", "init", home, "--root", f"{self.repo}/metadata/1.root.json"),
            *("--source", url, "--subscribe", f"rules={self.folder / 'content'}"),
        )
        assert done.returncode == 0, done.stderr
        return [sys.executable, "-m", "fleetward", "agent", "update", home]

    def read(self) -> Tree | None:
        current = self.folder / "content" / "current"
        return read_tree(current) if current.is_symlink() else None


def kill_updates(folder: Path, kills: int) -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    site = Site(folder)
    site.publish(1)
    with serving("origin", "serve", site.repo, "--listen", "127.0.0.1:0") as url:
        update = site.make_host(url)
        began = time.monotonic()
        assert killed_or_done(update, 60)
        whole_run = time.monotonic() - began
        number, killed = 1, 0
        while killed < kills:
            number += 1
            site.publish(number)
            allowed = [tree_of(number - 1), tree_of(number)]
            for _ in range(12):
                if killed_or_done(update, chance.uniform(0.3, 1.1) * whole_run):
                    break
                killed += 1
                assert site.read() in allowed
            else:
                assert killed_or_done(update, 60)
            assert site.read() == tree_of(number)
            done = fleetward("agent", "verify", update[-1])
            assert done.returncode == 0, done.stdout
    print(f"{killed} kills over {number} releases")


def kill_publishes(folder: Path, kills: int) -> None:
    print("seed", SEED)
    chance = random.Random(SEED)
    site = Site(folder)
    began = time.monotonic()
    site.publish(1)
    whole_run = time.monotonic() - began
    number, killed = 1, 0
    with serving("origin", "serve", site.repo, "--listen", "127.0.0.1:0") as url:
        update = site.make_host(url)
        while killed < kills:
            number += 1
            publish = site.publish_command(number)
            for _ in range(8):
                if killed_or_done(publish, chance.uniform(0.3, 1.1) * whole_run):
                    break
                killed += 1
                assert killed_or_done(update, 60)
                assert site.read() in [tree_of(number - 1), tree_of(number)]
            else:
                assert killed_or_done(publish, 60)
            assert killed_or_done(update, 60)
            assert site.read() == tree_of(number)
    print(f"{killed} kills over {number} releases")


def test_a_killed_update_leaves_one_whole_release(tmp_path: Path) -> None:
    kill_updates(tmp_path, 6)


def test_a_killed_publish_leaves_a_whole_repository(tmp_path: Path) -> None:
    kill_publishes(tmp_path, 4)


@pytest.mark.slow
def test_200_killed_updates(tmp_path: Path) -> None:
    kill_updates(tmp_path, 200)


@pytest.mark.slow
def test_60_killed_publishes(tmp_path: Path) -> None:
    kill_publishes(tmp_path, 60)
