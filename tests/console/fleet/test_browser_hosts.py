"""The Hosts pages in real Chromium: filters, a view under a name, many hosts asked at once."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.browsers import ADVICE, chromium, window
from console.programs import PASSWORD
from console.rollouts.filling import HOSTS
from console.rollouts.scene import Scene, scene

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as running:
        yield running


def log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/hosts/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Hosts", exact=True)).to_be_visible()


def test_a_morning_with_the_hosts(made: Scene) -> None:
    """Filter, keep the filter under a name, take the list along, ask some, then all of a site."""
    with window() as opened:
        page = opened.page
        log_in(page, made.url)
        expect(page.locator("#hosts-table tbody tr")).to_have_count(50)
        opened.look("hosts")
        page.get_by_role("link", name="Next").click()
        expect(page.locator("#hosts-table tbody tr")).to_have_count(HOSTS - 50)

        page.goto(f"{made.url}/hosts/")
        page.get_by_label("Site").select_option("porto")
        expect(page).to_have_url(re.compile(r"site=porto"))
        expect(page.locator("#hosts-table tbody tr")).to_have_count(HOSTS // 2)
        keep_the_view(page)
        opened.look("hosts-view")
        with page.expect_download() as taken:
            page.get_by_role("link", name="CSV").click()
        rows = list(csv.DictReader(Path(taken.value.path()).read_text().splitlines()))
        assert {row["site"] for row in rows} == {"porto"}
        assert len({row["record"] for row in rows}) == HOSTS // 2

        ask_two_by_keyboard(page)
        opened.look("host-act")
        page.goto(f"{made.url}/hosts/")
        page.get_by_role("link", name="Porto, all", exact=True).click()
        page.get_by_label("Ask to").select_option("pause")
        page.get_by_label("Pause for").select_option("240")
        page.get_by_role("button", name="Ask all that fit").click()
        heading = f"Pause updates: {HOSTS // 2} hosts?"
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        opened.look("host-question")
        page.get_by_label("Type how many hosts that is").fill("30")
        page.get_by_role("button", name=re.compile(r"^Ask 30 hosts")).click()
        expect(page.get_by_text("0 of 30 hosts did it, 30 have yet to answer")).to_be_visible()
        page.once("dialog", lambda asked: asked.accept())
        page.get_by_role("button", name="Take back the rest").click()
        expect(page.get_by_text("Taken back from 30 hosts.")).to_be_visible()
        page.get_by_role("link", name="withdrawn: 30").click()
        expect(page.get_by_role("table").locator("tbody tr")).to_have_count(30)
        page.get_by_role("link", name="Asked of many").click()
        expect(page.get_by_role("table").locator("tbody tr")).to_have_count(2)
        opened.look("host-acts")

        page.get_by_role("link", name="Update now").click()
        page.get_by_role("table").get_by_role("link").first.click()
        expect(page.get_by_role("region", name="Directives")).to_contain_text("update-now")
        opened.look("host-rich")
        assert not opened.complaints, "\n".join(opened.complaints)


def keep_the_view(page: Page) -> None:
    page.get_by_text("Save this view").click()
    page.get_by_label("Name of the view").fill("Porto, all")
    page.get_by_label("For everybody").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved the view “Porto, all”.")).to_be_visible()
    chosen = page.get_by_role("link", name="Porto, all", exact=True)
    expect(chosen).to_have_attribute("aria-current", "true")


def ask_two_by_keyboard(page: Page) -> None:
    for number in range(2):
        page.get_by_role("checkbox", name="Tick").nth(number).focus()
        page.keyboard.press("Space")
    page.once("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Ask the ticked hosts").press("Enter")
    expect(page.get_by_text("0 of 2 hosts did it, 2 have yet to answer")).to_be_visible()
