"""The commands, as people and scripts run them, with python-tuf's own client at the other end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.progress import Progress
from tuf.ngclient import Updater

from fleetward.adapters.disk import SystemDisk
from fleetward.cli import origin_wiring
from fleetward.cli.origin import app
from fleetward.core.documents import Channel, Manifest
from fleetward.errors import (
    BusyError,
    ConfigurationError,
    KeyUnavailableError,
    UsageError,
)
from fleetward.httpd.background import ServerThread
from fleetward.httpd.files import RepositoryHandler
from fleetward.origin.serving import serve_repository
from fleetward.trust.keys import KeyCost
from fleetward.wire.documents import decode


def run(*words: object) -> int:
    """Run a command in this process and return its exit code."""
    outcome = app([str(word) for word in words], prog_name="origin", standalone_mode=False)
    return outcome if isinstance(outcome, int) else 0


def start(*words: object, **environment: str) -> "subprocess.Popen[str]":
    """Start a command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "fleetward", "origin", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )


@contextmanager
def running(*words: object) -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """Run a command that serves; give it with the first line of its standard error."""
    process = start(*words)
    assert process.stderr is not None
    try:
        yield process, process.stderr.readline()
    finally:
        process.kill()
        process.communicate(timeout=20)


class Site:
    """An origin in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repo, self.keys = folder / "repo", folder / "keys"

    def tree(self, **files: str) -> Path:
        tree = self.folder / "tree"
        tree.mkdir(exist_ok=True)
        for name, content in files.items():
            (tree / name).write_text(content)
        return tree


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    assert run("init", made.repo, "--keys", made.keys, "--plain-keys") == 0
    return made


def output(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return document


def client(site: Site, url: str, name: str = "client") -> Updater:
    for folder in ("metadata", "targets"):
        (site.folder / name / folder).mkdir(parents=True, exist_ok=True)
    return Updater(
        str(site.folder / name / "metadata"),
        f"{url}/metadata/",
        str(site.folder / name / "targets"),
        f"{url}/targets/",
        bootstrap=(site.repo / "metadata/1.root.json").read_bytes(),
    )


def fetch(updater: Updater, target: str) -> bytes:
    found = updater.get_targetinfo(target)
    assert found is not None
    return Path(updater.download_target(found)).read_bytes()


def test_a_client_of_python_tuf_follows_publish_renewal_and_rotation(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with ServerThread(RepositoryHandler(site.repo)) as server:
        for number in (1, 2):
            tree = site.tree(**{f"r{number}.yar": "rule r {}"})
            assert run("publish", site.repo, "yara", tree, "--keys", site.keys, "--json") == 0
            published = output(capsys)
            assert (published["schema"], published["state"]) == (
                "fleetward.publish/1",
                "published",
            )
            updater = client(site, server.url)
            channel = decode(Channel, fetch(updater, "channels/yara/stable.json"))
            assert channel.release.release == published["release"]
            name = f"releases/yara/{channel.release.release}.json"
            assert decode(Manifest, fetch(updater, name)).seq == number
            fetch(updater, "releases/yara/floor.json")
            fetch(updater, "releases/yara/policy.json")
        for role in ("root", "timestamp", "snapshot", "targets", "channels", "releases-yara"):
            words = ("rotate", site.repo, role, "--new-keys", 3, "--keys", site.keys)
            assert run(*words) == 0
            updater = client(site, server.url)
            decode(Channel, fetch(updater, "channels/yara/stable.json"))
        assert run("renew", site.repo, "--keys", site.keys, "root", "targets", "fleet") == 0
        fetch(client(site, server.url, "fresh"), "channels/yara/stable.json")


def test_json_is_one_document_whose_first_key_is_schema(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = site.tree(a="1")
    keys = ("--keys", site.keys)
    assert run("publish", site.repo, "p", tree, *keys) == 0
    (site.folder / "online").mkdir()
    (site.keys / "online").rename(site.folder / "online/online")
    online = ("--keys", site.folder / "online")
    commands: dict[str, tuple[object, ...]] = {
        "fleetward.change/1": ("product", "add", site.repo, "q", *keys),
        "fleetward.sign/1": ("sign", site.repo, *keys),
        "fleetward.renew/1": ("renew", site.repo, *keys),
        "fleetward.rotate/1": ("rotate", site.repo, "fleet", "--new-keys", 3, *keys),
        "fleetward.pending/1": ("pending", site.repo),
        "fleetward.steward/1": ("steward", site.repo, "--once", *online),
        "fleetward.gc/1": ("gc", site.repo),
        "fleetward.transfer/1": ("export", site.repo, site.folder / "stick"),
        "fleetward.init/1": (
            "init",
            site.folder / "r2",
            "--keys",
            site.folder / "k2",
            "--plain-keys",
        ),
    }
    capsys.readouterr()
    for schema, words in commands.items():
        assert run(*words, "--json") == 0
        text = capsys.readouterr().out
        assert text.startswith(f'{{"schema":"{schema}"'), schema
        assert text.count("\n") == 1
        json.loads(text)


def test_the_same_commands_speak_to_people(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    keys = ("--keys", site.keys)
    tree = site.tree(a="1")
    assert run("product", "add", site.repo, "p", "--engine", "yara", *keys) == 0
    assert run("product", "add", site.repo, "p", *keys) == 0
    for name in ("x", "y", "z"):
        site.tree(**{name: name})
        assert run("publish", site.repo, "p", tree, "--release", name, *keys) == 0
    assert run("publish", site.repo, "p", tree, *keys) == 0
    assert run("floor", site.repo, "p", "--release", "y", *keys) == 0
    assert run("policy", site.repo, "p", "--ramp", "0:50,60:100", *keys) == 0
    assert run("revoke", site.repo, "p", "z", "--reason", "bad", *keys) == 0
    assert run("revoke", site.repo, "p", "y", "--reason", "bad", *keys) == 0
    assert run("pending", site.repo) == 0
    assert run("sign", site.repo, *keys) == 0
    assert run("renew", site.repo, *keys) == 0
    assert run("rotate", site.repo, "root", "--new-keys", 3, *keys) == 0
    assert run("gc", site.repo, "--grace-days", 0) == 0
    assert run("export", site.repo, site.folder / "stick") == 0
    root = site.repo / "metadata/1.root.json"
    assert run("import", site.folder / "s", site.folder / "stick", "--root", root) == 0
    spoken = capsys.readouterr()
    for words in (
        "p is added\n",
        "p is added already",
        "published p@stable: z (seq 3, 4 files)",
        "unchanged p@stable",
        "the floor of p is 2",
        "p z is revoked",
        "nothing is pending",
        "nothing is due",
        "destroy the key",
        "more wait until nothing",
        "files added",
    ):
        assert words in spoken.out, words
    assert "warning: channel stable has no release left" in spoken.err


def test_the_doctor_exits_1_with_findings(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor", site.repo, "--json") == 0
    assert output(capsys) == {"schema": "fleetward.doctor/1", "ok": True, "findings": []}
    assert run("doctor", site.repo) == 0
    assert capsys.readouterr().out == "no findings\n"
    assert run("doctor", site.repo, "--keys", site.keys, "--json") == 1
    document = output(capsys)
    assert not document["ok"]
    assert {f["id"] for f in document["findings"]} == {"plain-keys", "keys-in-one-place"}
    assert document["findings"][0].keys() == {"id", "severity", "sentence", "next_step"}
    assert run("doctor", site.repo, "--keys", site.keys) == 1
    assert "[plain-keys]" in capsys.readouterr().out


def test_the_keys_folder_and_its_files_are_the_owner_s_alone(site: Site) -> None:
    assert site.keys.stat().st_mode & 0o777 == 0o700
    for path in site.keys.rglob("*.pem"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_mistakes_on_the_command_line_are_usage_errors(site: Site) -> None:
    keys = ("--keys", site.keys)
    run("product", "add", site.repo, "p", *keys)
    for words in (
        ("floor", site.repo, "p", *keys),
        ("floor", site.repo, "p", "--seq", 1, "--release", "r", *keys),
        ("policy", site.repo, "p", "--ramp", "", "--when-nothing-is-allowed", "x", *keys),
        ("publish", site.repo, "P!", site.tree(a="1"), *keys),
        ("publish", site.repo, "p", site.tree(a="1"), "--release", "floor", *keys),
    ):
        with pytest.raises(UsageError):
            run(*words)
    with pytest.raises(ConfigurationError, match="there is no"):
        run("import", site.repo, site.repo, "--root", site.folder / "none")


# -- the passphrase ------------------------------------------------------------------------------


def test_a_sealed_repository_opens_with_file_or_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, words = Site(tmp_path), tmp_path / "words"
    words.write_text("correct horse\n")
    monkeypatch.delenv(origin_wiring.PASSPHRASE_VARIABLE, raising=False)
    given = ("--passphrase-file", words)
    assert run("init", site.repo, "--keys", site.keys, *given) == 0
    assert run("product", "add", site.repo, "p", "--keys", site.keys, *given) == 0
    publish = ("publish", site.repo, "p", site.tree(a="1"), "--keys", site.keys)
    with pytest.raises(KeyUnavailableError, match="--passphrase-file"):
        run(*publish)
    monkeypatch.setenv(origin_wiring.PASSPHRASE_VARIABLE, "wrong horse")
    with pytest.raises(KeyUnavailableError, match="does not open"):
        run(*publish)
    monkeypatch.setenv(origin_wiring.PASSPHRASE_VARIABLE, "correct horse")
    assert run(*publish) == 0
    with pytest.raises(ConfigurationError, match="cannot read the passphrase"):
        run("renew", site.repo, "root", "--keys", site.keys, "--passphrase-file", tmp_path / "no")


class Terminal:
    """Standard input that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_passphrase_is_asked_for_twice_at_init(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(origin_wiring.PASSPHRASE_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "stdin", Terminal())
    asked: list[dict[str, object]] = []

    def prompt(_text: str, **options: object) -> str:
        asked.append(options)
        return "correct horse"

    monkeypatch.setattr(typer, "prompt", prompt)
    for twice in (True, False):
        ring = origin_wiring.keyring_at(Path("/nowhere"), None, twice=twice)
        assert ring.passphrase.box(bytes(16), KeyCost(1, 8192)) is not None
    assert [options["confirmation_prompt"] for options in asked] == [True, False]
    assert all(options["hide_input"] and options["err"] for options in asked)
    monkeypatch.setattr(typer, "prompt", lambda _text, **_options: None)
    ring = origin_wiring.keyring_at(Path("/nowhere"), None)
    with pytest.raises(KeyUnavailableError, match="no passphrase"):
        ring.passphrase.box(bytes(16), KeyCost(1, 8192))


# -- processes -----------------------------------------------------------------------------------


def test_serve_says_where_first_and_ends_on_sigterm(site: Site) -> None:
    run("publish", site.repo, "yara", site.tree(a="1"), "--keys", site.keys)
    with running("serve", site.repo, "--listen", "127.0.0.1:0") as (process, line):
        assert line.startswith("listening on http://127.0.0.1:")
        fetch(client(site, line.split()[-1]), "channels/yara/stable.json")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_serving_ends_in_this_process_too(site: Site) -> None:
    heard: list[str] = []

    def ready(url: str) -> None:
        heard.append(url)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        asyncio.run(serve_repository(SystemDisk(), site.repo, ("127.0.0.1", 0), ready))
        assert heard[0].startswith("http://127.0.0.1:")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(ConfigurationError, match="no repository"):
        asyncio.run(serve_repository(SystemDisk(), site.folder, ("127.0.0.1", 0), ready))


def test_the_steward_ends_cleanly_on_sigterm(site: Site) -> None:
    online = site.folder / "steward"
    online.mkdir()
    (site.keys / "online").rename(online / "online")
    with running("steward", site.repo, "--keys", online) as (process, line):
        assert "nothing was due" in line
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_two_publishers_at_once_both_succeed_one_after_the_other(site: Site) -> None:
    trees = []
    for name in ("one", "two"):
        tree = site.folder / name
        tree.mkdir()
        for number in range(30):
            (tree / f"{name}{number}").write_text(f"{name}{number}" * 50)
        trees.append(tree)
    processes = [
        start("publish", site.repo, "yara", tree, "--keys", site.keys, "--json") for tree in trees
    ]
    documents = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert {document["seq"] for document in documents} == {1, 2}
    assert {document["state"] for document in documents} == {"published"}
    assert run("doctor", site.repo) == 1


def test_a_publisher_that_does_not_want_to_wait_says_so(site: Site) -> None:
    publish = ("publish", site.repo, "p", site.tree(a="1"), "--keys", site.keys)
    with (
        SystemDisk().lock(site.repo / ".publish.lock"),
        pytest.raises(BusyError, match="wait for it to end"),
    ):
        run(*publish, "--wait", 0)
    assert run(*publish) == 0


def test_serving_needs_a_repository(site: Site) -> None:
    process = start("serve", site.folder / "none", "--listen", "127.0.0.1:0")
    assert "no repository" in process.communicate(timeout=20)[1]
    assert process.returncode == 12


@pytest.mark.parametrize(
    "words",
    [[], ["product"], ["init"], ["publish"], ["serve"], ["steward"], ["doctor"], ["rotate"]],
)
def test_help_has_an_example(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run(*words, "--help")
    text = capsys.readouterr().out
    assert "Usage" in text
    if words and words != ["product"]:
        assert "Example" in text


def test_bars_show_steps() -> None:
    with Progress(console=Console(file=StringIO())) as progress:
        bars = origin_wiring.StepBars(progress)
        bars.step("deltas", 0, 2)
        bars.step("deltas", 2, 2)
        assert progress.tasks[0].finished
