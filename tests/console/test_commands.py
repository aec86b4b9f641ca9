"""`fleetward console …` within this process: what the commands do, on the tests' own database.

test_running.py runs the same from outside, with real databases.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from console.cast import PASSWORD
from console.programs import fetch
from fleetward.adapters.disk import Disk
from fleetward.cli import main
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.asgi import Application
from fleetward.console.asgi import application as console_application
from fleetward.console.bodies import Receive, Send
from fleetward.console.organisation.models import Token, User
from fleetward.console.serving import bind
from fleetward.console.wiring import Wiring
from fleetward.errors import NetworkError

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def this_database(monkeypatch: pytest.MonkeyPatch) -> list[ConsoleFileSettings]:
    """Let commands take the Django that is set up already."""
    asked: list[ConsoleFileSettings] = []

    def started(disk: Disk, wiring: Wiring) -> Path:
        asked.append(wiring.settings)
        return Path("/")

    monkeypatch.setattr("fleetward.cli.console.start_django", started)
    monkeypatch.setattr("fleetward.cli.console_options.start_django", started)
    return asked


def run(*words: str) -> int:
    return main.run(["console", *words])


def create_admin(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(PASSWORD + "\r\nsecond line\n")
    assert run("createadmin", "Ada", "--password-file", str(tmp_path / "pw")) == 0


def test_createadmin_takes_the_first_line_of_the_file(tmp_path: Path) -> None:
    create_admin(tmp_path)
    ada = User.objects.get()
    assert ada.check_password(PASSWORD)
    assert ada.is_administrator()
    assert not ada.must_change_password


def test_createadmin_again_gives_another_password(tmp_path: Path) -> None:
    create_admin(tmp_path)
    (tmp_path / "pw").write_text("a different long sentence")
    assert run("createadmin", "ada", "--password-file", str(tmp_path / "pw")) == 0
    assert User.objects.get().check_password("a different long sentence")


def test_createadmin_asks_twice_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = iter([PASSWORD, PASSWORD, PASSWORD, "another"])

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(typed))
    assert run("createadmin", "ada") == 0
    assert User.objects.get().check_password(PASSWORD)
    assert run("createadmin", "ada") == 2
    assert "differ" in capsys.readouterr().err


def test_a_token_is_printed_once_and_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_admin(tmp_path)
    capsys.readouterr()
    words = ("token", "ADA", "--name", "t", "--scope", "read", "--scope", "audit", "--days", "7")
    assert run(*words) == 0
    assert capsys.readouterr().out.startswith(Token.objects.get().prefix)
    assert Token.objects.get().scopes == ["audit", "read"]
    for wrong in (("token", "bob", "--name", "t", "--scope", "read"), (*words[:4], "--scope", "x")):
        assert run(*wrong) == 2


def test_audit_verify_prints_a_head_to_keep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_admin(tmp_path)
    capsys.readouterr()
    assert run("audit", "verify") == 0
    head = capsys.readouterr().out.split()[-1]
    assert run("audit", "verify", "--head", head, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert next(iter(found)) == "schema"
    assert found["ok"] is True
    assert f"{found['entries']}:{found['head']}" == head
    assert run("audit", "verify", "--head", f"1:{'0' * 64}") == 1
    assert "written anew" in capsys.readouterr().out
    assert run("audit", "verify", "--head", "1:short") == 2


def test_flags_win_over_the_file(tmp_path: Path, this_database: list[ConsoleFileSettings]) -> None:
    (tmp_path / "c.toml").write_text('db = "sqlite:///one.db"\nname = "Meridian"\n')
    config = ("--config", str(tmp_path / "c.toml"))
    assert run("migrate", *config, "--db", "sqlite:///two.db") == 0
    assert run("migrate", *config) == 0
    assert [settings.db for settings in this_database] == ["sqlite:///two.db", "sqlite:///one.db"]
    assert {settings.name for settings in this_database} == {"Meridian"}
    assert run("migrate", "--config", str(tmp_path / "none.toml")) == 12


def test_settings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("settings") == 0
    assert "[sign_in]" in capsys.readouterr().out


def test_run_serves_until_it_is_told_to_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server starts, answers, and ends with exit code 0 on SIGTERM."""
    answers: list[int] = []
    threads: list[threading.Thread] = []

    def visit(url: str) -> None:
        answers.append(fetch(f"{url}/anything")[0])
        os.kill(os.getpid(), signal.SIGTERM)

    def announced(url: str) -> None:
        threads.append(threading.Thread(target=visit, args=(url,)))
        threads[0].start()

    async def teapot(scope: object, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    monkeypatch.setattr("fleetward.cli.console.collect_static_files", lambda: None)
    monkeypatch.setattr("fleetward.cli.console.print_listening", announced)
    monkeypatch.setattr("fleetward.console.asgi.application", lambda: Application(teapot, {}, ()))
    assert run("run", "--listen", "127.0.0.1:0", "--db", "sqlite:///x.db") == 0
    threads[0].join()
    assert answers == [418]
    assert "nobody can log in yet" in capsys.readouterr().err


def test_the_application_has_the_mounts_and_background_of_all_parts() -> None:
    made = console_application()
    assert isinstance(made, Application)


def test_an_address_that_is_not_here_is_an_error_of_the_network() -> None:
    with bind("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        bound.listen()
        with pytest.raises(NetworkError, match="cannot listen"):
            bind("127.0.0.1", port)


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        f'[tls]\ncertificate = "{tmp_path}/none"\nkey = "{tmp_path}/none"\n'
    )
    assert run("run", "--config", str(tmp_path / "c.toml"), "--listen", "127.0.0.1:0") == 12


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host has the agent alone; somebody types a command of the console there."""
    monkeypatch.delattr("fleetward.cli.console")
    monkeypatch.setitem(sys.modules, "fleetward.cli.console", None)
    assert run("run", "--db", "sqlite:///c.db") == 12
    assert "pip install 'fleetward[console]'" in capsys.readouterr().err
