"""`fleetward console enrol-token …`: tokens made, listed and ended on the console's machine."""

import json
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from console.cast import SetClock, add_site
from console.catalogue.repositories import ANCHOR, Origin
from console.hosts import add_host
from console.programs import Console
from fleetward.adapters.disk import Disk
from fleetward.cli import main
from fleetward.console.audit.models import Entry
from fleetward.console.fleet.models import EnrolmentToken
from fleetward.console.fleet.tokens import secret_of
from fleetward.console.wiring import Wiring, wire
from fleetward.errors import DiskError
from fleetward.wire.tokenfile import TokenFile, decode_token_file
from support.fakes import START

URL = "https://console.example"


@pytest.fixture(autouse=True)
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetClock:
    """Let commands take the Django that is set up already, with a folder of its own for the keys."""
    stands = SetClock(START)

    def started(disk: Disk, wiring: Wiring) -> Path:
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        wire(Wiring(settings=wiring.settings.having(state=state), clock=stands))
        return state

    monkeypatch.setattr("fleetward.cli.console_options.start_django", started)
    monkeypatch.setattr("fleetward.cli.output.people._width", 200)
    return stands


def run(*words: str) -> int:
    return main.run(["console", "enrol-token", *words])


def create(file: Path, *words: str, url: str = URL) -> int:
    return run("create", "--token-file", str(file), "--url", url, *words)


def opened(file: Path) -> TokenFile:
    return decode_token_file(file.read_bytes())


@pytest.mark.django_db
class TestCreate:
    def test_the_file_enrols_and_nobody_else_reads_it(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "token.json"
        assert create(file) == 0
        row = EnrolmentToken.objects.get()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert opened(file).token == secret_of(row.token).text()
        assert opened(file).pins.console == URL
        assert (row.uses, row.needs_approval, row.site, row.created_by) == (
            1,
            False,
            None,
            "console",
        )
        assert row.expires - row.created == timedelta(days=1)
        said = capsys.readouterr()
        assert f"token {row.token} enrols 1 host at {URL} until 2026-11-25 02:00 UTC" in said.err
        assert opened(file).token not in said.err + said.out, "a terminal is logged"
        assert [path.name for path in tmp_path.glob(".*")] == [], "no copy is left"

    def test_all_that_a_token_may_be_bound_to(self, tmp_path: Path) -> None:
        add_site("berlin")
        words = ["--site", "berlin", "--tag", "desk", "--tag", "VIP", "--uses", "200"]
        more = ["--hours", "72", "--approval", "--note", "the move of floor 3"]
        assert create(tmp_path / "t", *words, *more) == 0
        row = EnrolmentToken.objects.get()
        assert row.site is not None
        assert (row.site.name, row.uses, row.needs_approval) == ("berlin", 200, True)
        assert sorted(tag.name for tag in row.tags.all()) == ["desk", "vip"]
        assert (row.note, row.expires - row.created) == ("the move of floor 3", timedelta(hours=72))

    def test_a_record_comes_back_once(self, tmp_path: Path) -> None:
        host = add_host(3)
        assert create(tmp_path / "t", "--record", host.record) == 0
        assert EnrolmentToken.objects.get().host == host
        assert create(tmp_path / "u", "--record", host.record, "--uses", "2") == 2

    def test_it_is_in_the_audit_log_with_the_hand_over(self, tmp_path: Path) -> None:
        create(tmp_path / "t", "--note", "floor 3")
        made, handed = Entry.objects.order_by("seq")
        name = EnrolmentToken.objects.get().token
        assert {made.subject, handed.subject} == {f"enrolment-token:{name}"}
        assert (made.actor_kind, made.action) == ("system", "hosts.enrol")
        assert json.loads(made.after)["note"] == "floor 3"
        assert json.loads(handed.after) == {"handed_over": True}
        assert opened(tmp_path / "t").token not in made.after + handed.after

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--site", "berlin"), "the sites are: porto"),
            (("--record", "0" * 16), "there is no record"),
            (("--uses", "0"), "a token is for 1 to 100000 hosts"),
            (("--uses", "100001"), "a token is for 1 to 100000 hosts"),
            (("--hours", "0"), "a token lives up to 90 days"),
            (("--hours", "-1"), "a token lives up to 90 days"),
            (("--hours", "2161"), "a token lives up to 90 days"),
            (("--hours", "9" * 30), "a token lives up to 90 days"),
            (("--tag", "two words"), "up to 20 tags"),
        ],
    )
    def test_what_is_not_made_leaves_nothing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
    ) -> None:
        add_site("porto")
        assert create(tmp_path / "t", *words) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "t").exists()
        assert not EnrolmentToken.objects.exists()
        assert not Entry.objects.exists()

    def test_a_file_that_is_there_is_kept(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "t").write_text("another token")
        assert create(tmp_path / "t") == 12
        assert "is there already" in capsys.readouterr().err
        assert (tmp_path / "t").read_text() == "another token"
        (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
        assert create(tmp_path / "link") == 12
        assert create(tmp_path / "none" / "t") == 12
        assert not EnrolmentToken.objects.exists()

    def test_a_disk_that_is_full_leaves_no_token(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise DiskError("no space left")

        monkeypatch.setattr("fleetward.cli.console_enrolment.write_file", full)
        assert create(tmp_path / "t") == 13
        assert not EnrolmentToken.objects.exists()
        assert not Entry.objects.exists()

    def test_a_console_that_does_not_know_its_url_makes_none(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "c.toml").write_text('listen = "0.0.0.0:8443"\n')
        words = ["--token-file", str(tmp_path / "t"), "--config", str(tmp_path / "c.toml")]
        assert run("create", *words) == 2
        assert "or --url" in capsys.readouterr().err
        assert not EnrolmentToken.objects.exists()


@pytest.mark.django_db
class TestAfterwards:
    def test_list_shows_what_is_good_and_no_secret(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], clock: SetClock
    ) -> None:
        assert run("list") == 0
        assert "no token is good now" in capsys.readouterr().out
        create(tmp_path / "a", "--note", "good one", "--uses", "2000")
        create(tmp_path / "b", "--note", "short one", "--hours", "1")
        create(tmp_path / "c", "--note", "ended one")
        ended = EnrolmentToken.objects.get(note="ended one")
        assert run("revoke", ended.token) == 0
        clock.sleep(timedelta(hours=2))
        capsys.readouterr()
        assert run("list") == 0
        shown = capsys.readouterr().out
        assert "good one" in shown
        assert "0 of 2,000" in shown
        assert "short one" not in shown
        assert run("list", "--all") == 0
        every = capsys.readouterr().out
        assert "expired" in every
        assert "ended" in every
        for name in ("a", "b", "c"):
            assert opened(tmp_path / name).token not in every

    def test_list_for_machines(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        add_site("berlin")
        create(tmp_path / "a", "--site", "berlin", "--tag", "desk", "--approval")
        EnrolmentToken.objects.update(used=1)
        capsys.readouterr()
        assert run("list", "--json") == 0
        assert json.loads(capsys.readouterr().out)["tokens"] == []
        assert run("list", "--all", "--json") == 0
        text = capsys.readouterr().out
        assert text.startswith('{"schema":"fleetward.enrolment-tokens/1",')
        (found,) = json.loads(text)["tokens"]
        assert found["standing"] == "used up"
        assert (found["site"], found["tags"], found["approval"]) == ("berlin", ["desk"], True)
        assert (found["used"], found["uses"], found["record"]) == (1, 1, None)
        assert set(found).isdisjoint({"secret", "file"})

    def test_a_note_writes_nothing_on_the_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        create(tmp_path / "a", "--note", "\x1b[2J[bold]note")
        capsys.readouterr()
        run("list")
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert "[bold]note" in shown

    def test_an_ended_token_gives_no_file(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        create(tmp_path / "a")
        name = EnrolmentToken.objects.get().token
        again = ["file", name, "--token-file", str(tmp_path / "b"), "--url", URL]
        assert run(*again) == 0
        assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
        assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
        assert run("revoke", name) == 0
        revoked = EnrolmentToken.objects.get().revoked
        entries = Entry.objects.count()
        assert run("revoke", name) == 0, "it is ended, as was asked"
        assert EnrolmentToken.objects.get().revoked == revoked
        (tmp_path / "b").unlink()
        capsys.readouterr()
        assert run(*again) == 2
        assert "used up, expired or revoked" in capsys.readouterr().err
        assert not (tmp_path / "b").exists()
        assert Entry.objects.count() == entries

    @pytest.mark.parametrize("name", ["0" * 16, "x" * 400])
    def test_a_token_that_is_not_there(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
    ) -> None:
        assert run("revoke", name) == 2
        assert "there is no token" in capsys.readouterr().err
        assert run("file", name, "--token-file", str(tmp_path / "t")) == 2


def test_from_the_command_to_an_enrolled_host(tmp_path: Path) -> None:
    """On one machine: a console, a token by the command, an agent that enrols with it."""
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    with Origin(tmp_path / "origin") as origin, console.running() as url:
        file = tmp_path / "token.json"
        words = ["--token-file", str(file), "--url", url, "--tag", "desk"]
        made = console.ask("enrol-token", "create", *words)
        assert made.returncode == 0, made.stderr
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        home = str(tmp_path / "home")
        anchor = str(origin.repository / ANCHOR)
        source = ["--source", origin.url, "--subscribe", f"yara={tmp_path}/yara"]
        agent("init", home, "--root", anchor, *source)
        said = agent("enroll", home, "--token-file", str(file))
        assert f"enrolled at {url}: record" in said.replace("\n", " ")
        listed = json.loads(console.ask("enrol-token", "list", "--all", "--json").stdout)
        (token,) = listed["tokens"]
        assert (token["used"], token["standing"], token["tags"]) == (1, "used up", ["desk"])
        verdict = console.ask("audit", "verify")
        assert verdict.returncode == 0, verdict.stdout


def agent(*words: str) -> str:
    command = [sys.executable, "-m", "fleetward", "agent", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr
