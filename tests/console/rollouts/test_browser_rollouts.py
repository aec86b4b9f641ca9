"""Rollouts in real Chromium: a wave opens while somebody looks, a host is explained, a filter works."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.browsers import ADVICE, chromium, window
from console.programs import PASSWORD
from console.rollouts.filling import REASON
from console.rollouts.scene import Scene, scene

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]

SOON = 60_000
"""Milliseconds in which the console must have followed and counted."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as running:
        yield running


def log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/rollouts/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_a_rollout_by_waves(made: Scene) -> None:
    """Open the list, filter, look at a rollout and its hosts, ask why; a wave opens by itself."""
    with window() as opened:
        page = opened.page
        log_in(page, made.url)
        early = made.records(0, 20)
        expect(page.locator("#rollouts .rollout-tally").first).to_contain_text(
            f"{len(early) - 1} of 60", timeout=SOON
        )
        opened.look("rollouts")

        page.get_by_label("State").select_option("halted")
        expect(page.get_by_text("No rollout fits.")).to_be_visible()
        opened.look("rollouts-none")
        page.get_by_role("link", name="Show all").click()
        page.get_by_label("Site").select_option("berlin")
        expect(page).to_have_url(re.compile(r"\?site=berlin$"))
        expect(page.locator("#rollouts .rollout-tally").first).to_contain_text("of 30")
        page.get_by_role("link", name="Clear").click()
        page.get_by_role("link", name="yara on stable").click()

        expect(page.get_by_text("Wave 2 of 3 (20 % of the hosts) is open since")).to_be_visible()
        expect(page.get_by_role("table").nth(1)).to_contain_text(REASON)
        opened.look("rollout")
        page.get_by_label("How they stand").select_option("waiting")
        expect(page).to_have_url(re.compile(r"standing=waiting"))
        expect(page.locator("#hosts tbody tr")).to_have_count(min(50, 60 - len(early)))
        page.get_by_label("Wave", exact=True).select_option("2")
        expect(page.get_by_text("No host stands so.")).to_be_visible()

        page.get_by_label("Host", exact=True).fill(early[0])
        page.get_by_role("button", name="Explain").click()
        expect(page.locator("#explained")).to_contain_text("tried r2 and does not run it")
        opened.look("rollout-explained")

        made.sign(open=3)
        page.goto(f"{made.url}/rollouts/yara/stable/")
        expect(page.get_by_text("Wave 3 of 3 (100 % of the hosts) is open since")).to_be_visible(
            timeout=SOON
        )
        expect(page.locator("#rollout")).to_contain_text("may take it", timeout=SOON)
        made.sign(state="halted")
        expect(page.get_by_text("It is halted.")).to_be_visible(timeout=SOON)
        page.reload()
        expect(page.locator("ol.timeline li").first).to_contain_text("is halted")
        opened.look("rollout-halted")

        page.goto(f"{made.url}/")
        expect(page.get_by_role("link", name="yara r2", exact=True)).to_be_visible()
        opened.look("overview-with-a-rollout")
        assert not opened.complaints, "\n".join(opened.complaints)
