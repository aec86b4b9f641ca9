"""A whole day with the console in real Chromium: from the first login to the last logout.

Every process is real: the origin, the console, the agent. Whoever looks never reloads a page to
see what is new, and nothing may be said in the browser's console over the whole day, complaints
of the content security policy included.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.browsers import ADVICE, Window, chromium, window
from console.programs import PASSWORD, Console
from console.test_browser import FIRST, fill, log_in, set_second_factor_up
from fleetward.cli.main import run
from support.programs import fleetward, serving

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]

OWN = "a password of her own"
LIVE = 45_000
"""Milliseconds; a part of a page looks for news every 10 or 15 seconds."""


@dataclass(frozen=True)
class Day:
    """What the story is about.

    Attributes:
        folder: where everything lies.
        origin: the origin's URL.
        url: the console's.
        opened: the browser's window.
    """

    folder: Path
    origin: str
    url: str
    opened: Window

    @property
    def page(self) -> Page:
        return self.opened.page

    @property
    def home(self) -> str:
        return str(self.folder / "agent")

    @property
    def installed(self) -> Path:
        return self.folder / "content/current/a.yar"

    def publish(self, release: str) -> None:
        tree = self.folder / "tree"
        tree.mkdir(exist_ok=True)
        (tree / "a.yar").write_text(f"rule {release} {{ condition: true }}\n")
        where = ["--keys", str(self.folder / "keys"), "--release", release]
        repo = str(self.folder / "repo")
        assert run(["origin", "publish", repo, "rules", str(tree), *where]) == 0


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    repo, keys = str(tmp_path / "repo"), str(tmp_path / "keys")
    assert run(["origin", "init", repo, "--keys", keys, "--plain-keys"]) == 0
    console = Console(tmp_path / "console", f"sqlite:///{tmp_path}/console/console.db")
    console.folder.mkdir()
    console.create_admin()
    with ExitStack() as stack:
        origin = stack.enter_context(serving("origin", "serve", repo, "--listen", "127.0.0.1:0"))
        (console.folder / "c.toml").write_text(
            f"[repository]\nurl = '{origin}'\nroot = '{repo}/metadata/1.root.json'\npoll = 1\n"
            "[alerts]\nevery = 1\nsettle = 2\n"
        )
        url = stack.enter_context(console.running("--config", "c.toml"))
        yield Day(tmp_path, origin, url, stack.enter_context(window()))


@contextmanager
def running_agent(home: str) -> Iterator[None]:
    """Run the agent's loop as its program does, reporting and asking every second."""
    settings = Path(home, "agent.toml")
    text = settings.read_text()
    for name, usual in (("report_every", "60.0"), ("inbox_every", "45.0")):
        text = text.replace(f"{name} = {usual}", f"{name} = 1.0")
    settings.write_text(text)
    command = [sys.executable, "-m", "fleetward", "agent", "run", home]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as agent:
        try:
            yield
        finally:
            os.kill(agent.pid, signal.SIGTERM)
            assert agent.stderr
            said = agent.stderr.read()
    assert agent.returncode == 0, said
    assert "Traceback" not in said


@contextmanager
def no_reload(page: Page) -> Iterator[None]:
    """Whatever the block waits for comes by itself: the document stays the same."""
    page.evaluate("window.stays = true")
    yield
    assert page.evaluate("window.stays === true"), "the page was loaded anew"


def test_a_whole_day(day: Day) -> None:
    """First login, enrolment, a release, filters, a directive, an alert's life, logout."""
    day.publish("r1")
    let_grace_in(day)
    token = make_a_token(day)
    enrol_and_see_the_host_arrive(day, token)
    with running_agent(day.home):
        see_a_release_arrive(day)
        filter_hosts_by_the_address(day)
        ask_the_host(day, "verify-tree", "rules: intact")
        see_an_alert_from_its_beginning_to_its_end(day)
    log_out_for_good(day)
    assert not day.opened.complaints, "\n".join(day.opened.complaints)


def let_grace_in(day: Day) -> None:
    """An administrator gives grace a password for once; she chooses her own, and a second factor."""
    page = day.page
    page.goto(day.url)
    log_in(page, "ada", PASSWORD)
    set_second_factor_up(page)
    who = {"Name to log in": "grace", "Full name": "Grace Hopper", "First password": FIRST}
    fill(page, f"{day.url}/settings/users/new/", who, "administrators")
    expect(page.get_by_role("heading", name="Grace Hopper")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    log_in(page, "grace", FIRST)
    expect(page.get_by_role("heading", name="New password")).to_be_visible()
    page.goto(f"{day.url}/hosts/")
    expect(page.get_by_role("heading", name="New password")).to_be_visible()
    page.get_by_label("Present password").fill(FIRST)
    page.get_by_label("New password", exact=True).fill(OWN)
    page.get_by_label("New password, again").fill(OWN)
    page.get_by_role("button", name="Change it").click()
    set_second_factor_up(page)
    page.get_by_role("link", name="I have kept them").click()
    expect(page.get_by_role("heading", name="Begin here")).to_be_visible()


def make_a_token(day: Day) -> Path:
    """The way from the overview to a token's file."""
    page = day.page
    page.get_by_role("link", name="Enrol hosts").click()
    page.get_by_label("What it is for").fill("the first host")
    page.get_by_role("button", name="Make the token").click()
    expect(page.get_by_text("is made. Download its file")).to_be_visible()
    with page.expect_download() as begun:
        page.get_by_role("button", name="File").click()
    file = day.folder / "token.json"
    begun.value.save_as(file)
    return file


def enrol_and_see_the_host_arrive(day: Day, token: Path) -> None:
    page = day.page
    page.goto(day.url)
    with no_reload(page):
        follows = ["--source", day.origin, "--subscribe", f"rules={day.folder}/content"]
        root = str(day.folder / "repo/metadata/1.root.json")
        assert run(["agent", "init", day.home, "--root", root, *follows]) == 0
        way = ["--console", day.url, "--token-file", str(token)]
        asked = fleetward("agent", "enroll", day.home, *way)
        assert asked.returncode == 0, asked.stderr
        assert fleetward("agent", "update", day.home).returncode == 0
        expect(page.get_by_text("The fleet is protected")).to_be_visible(timeout=LIVE)
        product = page.get_by_role("region", name="rules", exact=True)
        expect(product.get_by_text("1 of 1 hosts protected")).to_be_visible(timeout=LIVE)
        expect(product.get_by_role("rowheader", name="r1").first).to_be_visible()


def see_a_release_arrive(day: Day) -> None:
    """First on the page of the product, by the origin; then on the overview, by the host itself."""
    page = day.page
    page.goto(f"{day.url}/products/rules/")
    with no_reload(page):
        day.publish("r2")
        expect(page.get_by_role("link", name="r2").first).to_be_visible(timeout=LIVE)
    page.goto(day.url)
    with no_reload(page):
        product = page.get_by_role("region", name="rules", exact=True)
        expect(product.get_by_role("rowheader", name="r2").first).to_be_visible(timeout=LIVE)
        expect(page.get_by_text("The fleet is protected")).to_be_visible(timeout=LIVE)


def filter_hosts_by_the_address(day: Day) -> None:
    """What is filtered stands in the address, so that it can be kept and sent to others."""
    page = day.page
    page.goto(f"{day.url}/hosts/?product=rules&release=r1")
    expect(page.get_by_text("No host fits")).to_be_visible()
    page.goto(f"{day.url}/hosts/")
    page.keyboard.press("/")
    page.keyboard.type("nobody-is-called-so")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/hosts/\?search=nobody-is-called-so$"))
    expect(page.get_by_text("No host fits")).to_be_visible()
    page.goto(f"{day.url}/hosts/?product=rules&release=r2")
    page.locator("#hosts-table tbody a").first.click()
    expect(page.locator("#host-live")).to_be_visible()


def ask_the_host(day: Day, kind: str, answer: str) -> None:
    """On the host's page: a directive waits, is done, and its answer is read."""
    page = day.page
    asks = page.locator("form[action$='/hosts/ask/']")
    asks.locator("select[name=kind]").select_option(kind)
    asks.locator("button[type=submit]").click()
    expect(page.get_by_text("Asked 1 host")).to_be_visible()
    with no_reload(page):
        asked = page.get_by_role("row").filter(has_text=answer).first
        expect(asked.get_by_text("done", exact=True)).to_be_visible(timeout=LIVE)


def see_an_alert_from_its_beginning_to_its_end(day: Day) -> None:
    """Somebody writes to an installed file; it is found, taken on, mended, and over."""
    page = day.page
    day.installed.write_text("rule tampered { condition: false }\n")
    ask_the_host(day, "verify-tree", "a.yar was changed")
    page.goto(f"{day.url}/alerts/")
    title = page.get_by_role("link", name="found changed files of rules r2")
    with no_reload(page):
        expect(title).to_be_visible(timeout=LIVE)
    title.click()
    expect(page.get_by_text("Find out what writes there")).to_be_visible()
    page.get_by_label("What you do about it").fill("a script wrote there; repairing it")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("Acknowledged by grace")).to_be_visible()
    with no_reload(page):
        repair(day)
        expect(page.locator("#alert").get_by_text("Resolved").first).to_be_visible(timeout=LIVE)
    page.goto(day.url)
    expect(page.get_by_text("Nothing is wrong")).to_be_visible()


def repair(day: Day) -> None:
    """Do what the alert advises; the agent's own run may be at work at that moment."""
    deadline = time.monotonic() + 30
    while (done := fleetward("agent", "update", day.home, "--repair")).returncode != 0:
        assert time.monotonic() < deadline, done.stderr
    assert day.installed.read_text() == "rule r2 { condition: true }\n"


def log_out_for_good(day: Day) -> None:
    """What was shown is gone: neither Back nor its address brings it again."""
    page = day.page
    page.goto(f"{day.url}/hosts/")
    expect(page.locator("#hosts-table tbody a").first).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(page.locator("#hosts-table")).to_have_count(0)
    page.goto(f"{day.url}/hosts/")
    expect(page).to_have_url(re.compile("/login/"))
