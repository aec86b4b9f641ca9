"""The demo: its claims hold on the sample and on the user's own rules, and can fail."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from rich.console import Console

from fleetward.cli.main import run
from fleetward.demo.acts import Claim, Play
from fleetward.demo.content import ReleaseFolder, sample_series, user_series
from fleetward.demo.screen import Lines, Screen
from fleetward.demo.stage import Stage
from fleetward.errors import ConfigurationError


@pytest.fixture
def no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for an installation without the extra `console`."""
    monkeypatch.setattr("fleetward.cli.demo.is_installed", lambda: False)


def test_the_sample_holds_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--hosts", "3", "--once", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "fleetward.demo/1"
    assert told["ok"] is True
    assert [c["id"] for c in told["claims"]] == [
        "first-release-everywhere",
        "pack-crossed-once",
        "tampering-found",
        "tampering-repaired",
        "old-timestamp-refused",
        "altered-blob-refused",
        "one-delta-a-step",
        "same-tree-everywhere",
        "wan-carries-each-byte-once",
        "console-shows-every-host",
    ]
    assert list(told["console"]) == ["url"]
    assert len({s["tree"] for s in told["steps"]}) == 3
    for step in told["steps"][1:]:
        assert step["wan_blob_bytes"] == step["blob_bytes"] < step["pack_bytes"] / 5


@pytest.mark.usefixtures("no_console")
def test_the_users_own_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day in ("Monday", "Tuesday"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "own.rules").write_text(f"alert {day}\n" * 500)
    assert run(["demo", "--hosts", "2", "--once", "--content", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "monday" in shown.out
    assert "no console: " in shown.err
    assert "console-shows-every-host" not in shown.out


def test_a_claim_that_does_not_hold_is_said(tmp_path: Path) -> None:
    """The changed file is repaired before anybody looks; the demo must not call that found."""
    console = Console(file=io.StringIO(), width=200)
    with Stage(tmp_path, 2) as stage:
        play = Play(stage, sample_series(tmp_path), Lines(console))
        tampered = stage.tamper

        def tampers_nothing(name: str) -> str:
            path = tampered(name)
            stage.update([name], play.audience.host, repair=True)
            return path

        stage.tamper = tampers_nothing  # type: ignore[method-assign]
        play.play()
    verdicts = {claim.id: claim.holds for claim in play.claims}
    assert verdicts["tampering-found"] is False
    assert verdicts["same-tree-everywhere"] is True
    written = console.file
    assert isinstance(written, io.StringIO)
    assert "DOES NOT HOLD  tampering-found" in written.getvalue()


def test_the_screen_shows_hosts_releases_and_claims(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160, force_terminal=True)
    screen = Screen(console)
    with Stage(tmp_path, 17) as stage, screen.shown():
        play = Play(stage, sample_series(tmp_path), screen)
        play.play()
        screen.claim(Claim("made-up", holds=False, evidence="[x]"))
    written = console.file
    assert isinstance(written, io.StringIO)
    for words in ("host-01", "… 1 more", "sample-3", "✔", "✘", "made-up"):
        assert words in written.getvalue()


class TestContent:
    def names(self, series: list[ReleaseFolder]) -> list[str]:
        return [release.name for release in series]

    def folder(self, at: Path, *names: str) -> Path:
        for name in names:
            path = at / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return at

    def test_subfolders_are_releases_by_name(self, tmp_path: Path) -> None:
        content = self.folder(tmp_path / "c", "v2/a", "v1/a", "v3 ü/a", "README")
        assert self.names(user_series(content, tmp_path)) == ["v1", "v2", "v3--"]

    def test_archives_are_releases_by_name(self, tmp_path: Path) -> None:
        content = tmp_path / "c"
        content.mkdir()
        tree = self.folder(tmp_path / "t", "a.rules")
        for name in ("1.tar.gz", "2.tar.xz"):
            with tarfile.open(content / name, "w:gz" if name.endswith("gz") else "w:xz") as tar:
                tar.add(tree / "a.rules", "a.rules")
        with zipfile.ZipFile(content / "3.zip", "w") as zipped:
            zipped.write(tree / "a.rules", "a.rules")
        series = user_series(content, tmp_path)
        assert self.names(series) == ["1", "2", "3"]
        assert (series[2].tree / "a.rules").exists()

    def test_one_archive_of_folders_is_a_series(self, tmp_path: Path) -> None:
        tree = self.folder(tmp_path / "t", "v1/a", "v2/a", "v3/a", "v4/a")
        with tarfile.open(tmp_path / "all.tar", "w") as tar:
            tar.add(tree, "all")
        assert self.names(user_series(tmp_path / "all.tar", tmp_path)) == ["v1", "v2", "v3", "v4"]

    def test_plain_files_are_one_release_and_get_followers(self, tmp_path: Path) -> None:
        content = self.folder(tmp_path / "my-rules", "a.rules", "b.rules")
        assert self.names(user_series(content, tmp_path)) == [
            "my-rules",
            "my-rules-2",
            "my-rules-2-3",
        ]

    def test_a_single_folder_is_one_release(self, tmp_path: Path) -> None:
        content = self.folder(tmp_path / "c", "floor/a.rules")
        assert self.names(user_series(content, tmp_path))[0] == "release-1"

    def test_nothing_to_publish_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="there is no"):
            user_series(tmp_path / "no", tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(ConfigurationError, match="holds no file"):
            user_series(tmp_path / "empty", tmp_path)
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "bad.tar").write_bytes(b"not a tar")
        with pytest.raises(ConfigurationError, match="cannot unpack"):
            user_series(tmp_path / "c", tmp_path)
        (tmp_path / "c" / "bad.tar").rename(tmp_path / "c" / "bad.zip")
        with pytest.raises(ConfigurationError, match="cannot unpack"):
            user_series(tmp_path / "c", tmp_path)
