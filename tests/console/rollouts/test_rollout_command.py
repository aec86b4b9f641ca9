"""`fleetward rollout …` against a real console, and against whatever else may answer."""

import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters import test_http_ways
from console.programs import fetch
from console.rollouts.filling import HOSTS, REASON
from console.rollouts.scene import Scene, scene
from fleetward.cli import main
from support.sourceserver import Exchange, SourceServer, gives, source_server

certificate = test_http_ways.certificate


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("rollout")) as made:
        until_counted(made)
        yield made


def until_counted(made: Scene) -> None:
    """Wait until the console has followed the repository and counted its hosts."""
    token = made.token_file.read_text().strip()
    deadline = datetime.now(UTC) + timedelta(seconds=60)
    found: dict[str, Any] = {}
    while found.get("counted") is None or found["evidence"]["hosts"] != HOSTS:
        assert datetime.now(UTC) < deadline, found
        headers = {"Authorization": f"Bearer {token}"}
        status, _, content = fetch(f"{made.url}/api/v1/rollouts/yara/stable", headers)
        found = json.loads(content) if status == 200 else {}


@pytest.fixture(autouse=True)
def _wide_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward.cli.output.people._width", 200)
    for name in ("FLEETWARD_TOKEN", "FLEETWARD_CONSOLE"):
        monkeypatch.delenv(name, raising=False)


def run(made: Scene, *words: str) -> int:
    where = ["--console", made.url, "--token-file", str(made.token_file)]
    return main.run(["rollout", *words, *where])


class TestAgainstAConsole:
    def test_list(self, console: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(console, "list") == 0
        shown = capsys.readouterr().out
        took = len(console.records(0, 20)) - 1
        assert "yara@stable" in shown
        assert "2 of 3" in shown
        assert f"{took} of {HOSTS}" in shown

    def test_list_for_machines(self, console: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(console, "list", "--json", "--under-way", "--site", "berlin") == 0
        text = capsys.readouterr().out
        assert text.startswith('{"schema":"fleetward.rollouts/1",')
        (found,) = json.loads(text)["rollouts"]
        assert (found["product"], found["release"], found["open"]) == ("yara", "r2", 2)
        assert found["evidence"]["hosts"] == HOSTS // 2

    def test_show(self, console: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(console, "show", "yara") == 0
        shown = capsys.readouterr().out
        early = console.records(0, 20)
        assert "yara@stable: r2, running, before it r1" in shown
        assert "Wave 2 of 3 (20 % of the hosts) is open since" in shown
        assert f"{len(early) - 1} of {len(early)} hosts in the open waves took it" in shown
        assert f"rolled-back: {REASON}" in shown
        assert early[0] in shown
        assert early[1] in shown, "it is silent"
        assert early[2] not in shown, "it is behind, and a figure alone"

    def test_show_for_machines(self, console: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(console, "show", "yara@stable", "--json") == 0
        text = capsys.readouterr().out
        assert text.startswith('{"schema":"fleetward.rollout/1",')
        found = json.loads(text)
        assert [host["standing"] for host in found["hosts"]] == ["failed", "silent"]
        assert found["waves"][1]["evidence"]["behind"] == 1

    def test_explain(self, console: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        back, waits = console.records(0, 20)[0], console.records(20, 100)[0]
        assert run(console, "explain", "yara", "--host", back) == 0
        assert f"tried r2 and does not run it: {REASON}." in capsys.readouterr().out
        assert run(console, "explain", "yara", "--host", waits, "--json") == 0
        text = capsys.readouterr().out
        assert text.startswith('{"schema":"fleetward.rollout-explanation/1",')
        found = json.loads(text)
        assert (found["standing"], found["wave"]) == ("waiting", 3)
        assert found["conclusion"].endswith("since the host's wave is not open.")

    def test_token_and_console_may_come_from_the_environment(
        self,
        console: Scene,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("FLEETWARD_TOKEN", console.token_file.read_text())
        monkeypatch.setenv("FLEETWARD_CONSOLE", f"{console.url}/")
        assert main.run(["rollout", "list"]) == 0
        assert "yara@stable" in capsys.readouterr().out

    def test_what_is_not_there(self, console: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(console, "show", "clamav") == 2
        assert "no such thing" in capsys.readouterr().err
        assert run(console, "explain", "yara", "--host", "nobody") == 2
        assert "there is no host 'nobody'" in capsys.readouterr().err

    def test_a_token_that_is_not_taken(
        self, console: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLEETWARD_TOKEN", "fw_aaaaaaaa_" + 32 * "a")
        assert main.run(["rollout", "list", "--console", console.url]) == 12
        said = capsys.readouterr().err
        assert "does not take the token" in said
        assert "fleetward console token" in said
        assert "fw_aaaaaaaa" not in said

    def test_a_path_that_is_no_console(
        self, console: Scene, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A console behind a proxy under another path answers, and is not found."""
        where = ["--console", f"{console.url}/nowhere", "--token-file", str(console.token_file)]
        assert main.run(["rollout", "list", *where]) == 12
        assert "is no Fleetward console (it answered 404)" in capsys.readouterr().err


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("fw_secret\n")
    return file


@pytest.fixture
def other() -> Iterator[SourceServer]:
    with source_server({}) as server:
        yield server


def problem(status: int, detail: str, **more: object) -> bytes:
    return json.dumps({"type": "about:blank", "status": status, "detail": detail, **more}).encode()


LIST = "api/v1/rollouts?limit=500"


class TestAgainstAnythingElse:
    @pytest.mark.parametrize(
        ("status", "code", "words"),
        [
            (401, 12, "does not take the token: why"),
            (403, 12, "does not permit this to the token: why"),
            (404, 2, "why"),
            (409, 2, "why"),
            (422, 2, "why (too long)"),
            (500, 11, "failed (HTTP status 500): why"),
            (503, 11, "try again"),
        ],
    )
    def test_a_refusal_is_a_sentence_with_an_exit_code(
        self,
        other: SourceServer,
        token: Path,
        capsys: pytest.CaptureFixture[str],
        status: int,
        code: int,
        words: str,
    ) -> None:
        body = problem(status, "why", errors=[{"where": [], "why": "too long"}])
        other.scripts[LIST] = gives(body if status == 422 else problem(status, "why"), status)
        where = ["--console", other.url, "--token-file", str(token)]
        assert main.run(["rollout", "list", *where]) == code
        said = capsys.readouterr().err
        assert words in said
        assert "Traceback" not in said
        assert "fw_secret" not in said

    @pytest.mark.parametrize(
        "body", [b"<html>", b"[]", b'{"hello": 1}', b"\xff\xfe", b"[" * 20_000, b""]
    )
    def test_what_is_no_console(
        self, other: SourceServer, token: Path, capsys: pytest.CaptureFixture[str], body: bytes
    ) -> None:
        other.scripts[LIST] = gives(body)
        where = ["--console", other.url, "--token-file", str(token)]
        assert main.run(["rollout", "list", *where]) == 12
        assert "is no Fleetward console" in capsys.readouterr().err

    def test_a_login_page_in_between_gets_no_token(
        self, other: SourceServer, token: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        target = {"Location": f"{other.url}/login"}
        other.scripts[LIST] = lambda exchange: exchange.answer(302, target)
        where = ["--console", other.url, "--token-file", str(token)]
        assert main.run(["rollout", "list", *where]) == 11
        assert "redirects are refused" in capsys.readouterr().err
        assert other.asked == [LIST]

    def test_nobody_answers(self, token: Path, capsys: pytest.CaptureFixture[str]) -> None:
        where = ["--console", "http://127.0.0.1:1", "--token-file", str(token)]
        assert main.run(["rollout", "list", *where]) == 11
        assert "look whether the source runs" in capsys.readouterr().err

    def test_a_list_of_many_pages_is_whole(
        self, other: SourceServer, token: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = {"items": [{"n": 1}, {"n": 2}], "next": 7}
        other.scripts[LIST] = gives(json.dumps(page).encode())
        other.scripts[f"{LIST}&cursor=7"] = gives(b'{"items": [{"n": 3}], "next": null}')
        where = ["--console", other.url, "--token-file", str(token)]
        assert main.run(["rollout", "list", "--json", *where]) == 0
        found = json.loads(capsys.readouterr().out)["rollouts"]
        assert found == [{"n": 1}, {"n": 2}, {"n": 3}]

    def test_a_proxy_carries_the_question(
        self, token: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        seen: list[str] = []
        with source_server({}) as proxy:

            def carry(exchange: Exchange) -> None:
                seen.append(exchange.headers.get("authorization", ""))
                exchange.answer(200, {}, b'{"items": [], "next": null}')

            proxy.scripts["http://localhost:9/" + LIST] = carry
            monkeypatch.setenv("http_proxy", proxy.url)
            monkeypatch.setenv("no_proxy", "")
            where = ["--console", "http://localhost:9", "--token-file", str(token)]
            assert main.run(["rollout", "list", *where]) == 0
        assert seen == ["Bearer fw_secret"]
        assert "there are no rollouts" in capsys.readouterr().out


class TestByTls:
    def test_a_private_authority_is_believed_where_it_is_named(
        self, certificate: Path, token: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with source_server({}, tls=context) as server:
            server.scripts[LIST] = gives(b'{"items": [], "next": null}')
            where = ["--console", server.url, "--token-file", str(token)]
            assert main.run(["rollout", "list", *where, "--ca-file", str(certificate)]) == 0
            assert main.run(["rollout", "list", *where]) == 11
        assert "its certificate does not verify" in capsys.readouterr().err

    def test_authorities_that_cannot_be_read(
        self, tmp_path: Path, token: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        where = ["--console", "https://localhost:1", "--token-file", str(token)]
        absent = str(tmp_path / "absent.pem")
        assert main.run(["rollout", "list", *where, "--ca-file", absent]) == 12
        assert "there is no file" in capsys.readouterr().err
        assert main.run(["rollout", "list", *where, "--ca-file", str(token)]) == 12
        assert "give a PEM file" in capsys.readouterr().err


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("console", "code", "words"),
        [
            (None, 2, "name the console"),
            ("console.example", 2, "is no URL of a console"),
            ("ftp://console.example", 2, "is no URL of a console"),
            ("https://", 2, "is no URL of a console"),
            ("https://[::1", 2, "is no URL of a console"),
            ("https://console.example:x", 2, "is no URL of a console"),
            ("https://console.example/?a=1", 2, "is no URL of a console"),
            ("https://ada:pw@console.example", 2, "no place in a console's URL"),
            ("http://console.example", 12, "would send the token in clear"),
            ("http://10.0.0.1:8443", 12, "would send the token in clear"),
        ],
    )
    def test_a_console_that_cannot_be_asked(
        self,
        token: Path,
        capsys: pytest.CaptureFixture[str],
        console: str | None,
        code: int,
        words: str,
    ) -> None:
        where = ["--console", console] if console else []
        assert main.run(["rollout", "list", *where, "--token-file", str(token)]) == code
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
    def test_this_machine_may_be_asked_without_tls(
        self, token: Path, capsys: pytest.CaptureFixture[str], host: str
    ) -> None:
        where = ["--console", f"http://{host}:1", "--token-file", str(token)]
        assert main.run(["rollout", "list", *where]) == 11, "it is asked, and nobody is there"
        assert "cannot be read" in capsys.readouterr().err

    def test_no_token(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main.run(["rollout", "list", "--console", "http://127.0.0.1:1"]) == 12
        said = capsys.readouterr().err
        assert "FLEETWARD_TOKEN" in said
        assert "fleetward console token" in said

    @pytest.mark.parametrize("content", [b"", b"two words", b"fw_\x00", b"\xff\xff", b"a\nb"])
    def test_a_file_without_a_token(
        self, token: Path, capsys: pytest.CaptureFixture[str], content: bytes
    ) -> None:
        token.write_bytes(content)
        where = ["--console", "http://127.0.0.1:1", "--token-file", str(token)]
        assert main.run(["rollout", "list", *where]) == 12
        assert str(token) in capsys.readouterr().err.replace("\n", "")

    def test_a_token_that_others_can_read_is_noted(
        self, token: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        where = ["--console", "http://127.0.0.1:1", "--token-file", str(token)]
        main.run(["rollout", "list", *where])
        assert "chmod 600" not in capsys.readouterr().err
        token.chmod(0o644)
        main.run(["rollout", "list", *where])
        assert "chmod 600" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["", "@", "a@", "@b", "a/b", "A", "a@b@c", "../x"])
    def test_what_is_no_rollout(
        self, token: Path, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        where = ["--console", "http://127.0.0.1:1", "--token-file", str(token)]
        assert main.run(["rollout", "show", name, *where]) == 2
        assert "is no PRODUCT[@CHANNEL]" in capsys.readouterr().err

    def test_nothing_that_acts_is_offered(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The steward has no gates yet: a command that does nothing would be a lie."""
        assert main.run(["rollout", "--help"]) == 0
        shown = capsys.readouterr().out
        for word in ("start", "pause", "resume", "halt", "revert", "drill"):
            assert word not in shown


def test_words_of_hosts_write_nothing_on_the_terminal(
    other: SourceServer, token: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2Jyour disk is wiped [bold]"
    told = {
        "conclusion": evil,
        "steps": [{"id": "state", "holds": None, "words": evil}],
    }
    other.scripts["api/v1/rollouts/yara/stable/explain?host=x"] = gives(json.dumps(told).encode())
    where = ["--console", other.url, "--token-file", str(token)]
    assert main.run(["rollout", "explain", "yara", "--host", "x", *where]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert shown.count("[bold]") == 2, "it is text, and no markup"
