"""The demo's console: it shows what hosts run, says so where it does not, and is never left behind."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import psutil
import pytest
from rich.console import Console

from fleetward.adapters.clock import SystemClock
from fleetward.demo.acts import Login, Play
from fleetward.demo.console import LiveConsole, is_installed, settings_for
from fleetward.demo.content import sample_series
from fleetward.demo.screen import Lines, Screen
from fleetward.demo.stage import Stage
from fleetward.errors import NetworkError

CLAIM = "console-shows-every-host"
LOGIN = Login("http://127.0.0.1:1", "demo", "the-password")


def silence() -> Console:
    return Console(file=io.StringIO(), width=200)


def verdict(play: Play) -> tuple[bool, str]:
    """Return what was said of the console."""
    (claim,) = [claim for claim in play.claims if claim.id == CLAIM]
    return claim.holds, claim.evidence


def test_a_host_that_reports_no_more_makes_the_claim_fail(tmp_path: Path) -> None:
    """One host falls silent before the last release; the console still shows the one before.

    The others are shown as they are, and the claim counts them. Then the console ends: who asks it
    is told so.
    """
    with Stage(tmp_path, 2, console=True) as stage:
        play = Play(stage, sample_series(tmp_path), Lines(silence()))
        report, counted = stage.report, list[str]()

        def falls_silent(name: str) -> None:
            counted.append(name)
            if name != "host-02" or counted.count(name) < 5:
                report(name)
            elif counted.count(name) == 5:
                stage.patience = timedelta(seconds=2)

        stage.report = falls_silent  # type: ignore[method-assign]
        play.play()
        holds, evidence = verdict(play)
        assert (holds, all(c.holds for c in play.claims if c.id != CLAIM)) == (False, True)
        assert "says of 1 of 2 hosts" in evidence
        assert "of 2 that they kept sample-2" in evidence
        console = stage.console
        assert console
        with pytest.raises(NetworkError, match="answers 404"):
            console.ask("/nothing-here")
        assert psutil.pid_exists(console.pid)
    assert not psutil.pid_exists(console.pid)
    with pytest.raises(NetworkError, match="does not answer"):
        console.ask("/hosts")


def test_a_console_that_cannot_start_stops_nothing_else(tmp_path: Path) -> None:
    """Its address is no address of this machine; all other claims hold, and it is said why."""

    class OnNoAddress(Stage):
        def _new_console(self) -> LiveConsole:
            made = super()._new_console()
            made.settings = replace(made.settings, listen="192.0.2.1:0")
            return made

    with OnNoAddress(tmp_path, 1, console=True) as stage:
        play = Play(stage, sample_series(tmp_path), Lines(silence()))
        play.play()
    assert {c.id for c in play.claims if not c.holds} == {CLAIM}
    assert "cannot listen on 192.0.2.1" in verdict(play)[1]
    assert play.login is None


def test_its_first_command_may_fail(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, "http://127.0.0.1:1", tmp_path / "none", "http://127.0.0.1:2")
    broken = replace(settings, db="sqlite:///")
    with (
        LiveConsole(tmp_path / "console", SystemClock(), broken) as console,
        pytest.raises(NetworkError, match="`fleetward console createadmin` failed"),
    ):
        console.ready()
    assert not psutil.pid_exists(console.pid)


def test_the_password_is_shown_to_people_alone() -> None:
    for is_for_people in (True, False):
        console = silence()
        Lines(console, is_for_people=is_for_people).opened(LOGIN)
        assert isinstance(console.file, io.StringIO)
        assert LOGIN.url in console.file.getvalue()
        assert (LOGIN.password in console.file.getvalue()) is is_for_people


def test_the_screen_keeps_the_login_in_sight() -> None:
    console = silence()
    screen = Screen(console)
    screen.opened(LOGIN)
    console.print(screen.picture())
    assert isinstance(console.file, io.StringIO)
    assert f"name: demo   password: {LOGIN.password}" in console.file.getvalue()


def test_it_is_installed_here() -> None:
    assert is_installed()


# -- the program, as people run it -------------------------------------------------------------


@dataclass
class Running:
    """`fleetward demo` on a terminal of the test's.

    Attributes:
        program: the process.
        terminal: our end of its terminal.
        shown: everything that it has shown.
    """

    program: "subprocess.Popen[bytes]"
    terminal: int
    shown: str = ""

    def until(self, pattern: str) -> re.Match[str]:
        """Read on until the terminal has shown `pattern`."""
        while not (found := re.search(pattern, self.shown)):
            piece = self._read()
            assert piece, self.shown
            self.shown += piece
        return found

    def _read(self) -> str:
        try:
            return os.read(self.terminal, 65536).decode(errors="replace")
        except OSError:  # Linux: nobody has the other end any more
            return ""

    def ends(self) -> int:
        """Read to the end; return the exit code."""
        while piece := self._read():
            self.shown += piece
        return self.program.wait(timeout=60)


@contextmanager
def on_a_terminal(folder: Path, *arguments: str) -> Iterator[Running]:
    """Run the demo with its temporary folder in `folder`."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "fleetward", "demo", "--hosts", "1", *arguments]
    environment = os.environ | {"TMPDIR": str(folder), "COLUMNS": "200", "TERM": "xterm"}
    program = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True
    )
    os.close(its)
    try:
        yield Running(program, ours)
    finally:
        if program.poll() is None:
            program.kill()
            program.wait()
        os.close(ours)


def consoles_of(program: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """Return the consoles among a program's children."""
    children = psutil.Process(program.pid).children(recursive=True)
    return [child for child in children if "console" in child.cmdline()]


def log_in(url: str, name: str, password: str) -> str:
    """Log in as a browser does; return the page that comes then."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with browser.open(url, timeout=30) as page:
        asked, address = page.read().decode(), page.url
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', asked)
    assert token, asked
    fields = {"username": name, "password": password, "csrfmiddlewaretoken": token[1]}
    sent = urllib.request.Request(address, urlencode(fields).encode(), {"Referer": address})  # noqa: S310 (ours)
    with browser.open(sent, timeout=30) as page:
        return str(page.read().decode())


def test_it_stays_for_people_until_ctrl_c(tmp_path: Path) -> None:
    """The password on the terminal opens the console; Ctrl-C ends and removes everything."""
    with on_a_terminal(tmp_path) as demo:
        demo.until("Ctrl-C ends it and removes everything")
        login = demo.until(r"console: (http://127\.0\.0\.1:\d+) +name: (\w+) +password: ([\w-]+)")
        page = log_in(login[1], login[2], login[3])
        assert "Overview" in page
        (console,) = consoles_of(demo.program)
        os.kill(demo.program.pid, signal.SIGINT)
        assert demo.ends() == 0, demo.shown
    assert not console.is_running()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ended_in_the_middle_it_leaves_nothing_behind(tmp_path: Path, ending: int) -> None:
    with on_a_terminal(tmp_path, "--once") as demo:
        demo.until("sample-1")
        consoles = consoles_of(demo.program)
        os.kill(demo.program.pid, ending)
        assert demo.ends() != 0
    assert consoles
    assert not any(console.is_running() for console in consoles)
    assert list(tmp_path.iterdir()) == []
