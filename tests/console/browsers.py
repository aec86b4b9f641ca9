"""Real Chromium for tests: pages that collect what goes wrong in them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

ADVICE = "no Chromium: apt-get install chromium"

WIDTHS = (1440, 360)
THEMES = ("light", "dark")

SCREENSHOTS = os.environ.get("FLEETWARD_SCREENSHOTS", "")
"""A folder to keep pictures of every page in; none are kept where it is not set."""


def chromium() -> str | None:
    """Return the path of Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Window:
    """A page of the browser, and its complaints.

    Attributes:
        page: Playwright's page.
        complaints: errors of scripts, of the console, of the content security policy.
    """

    page: Page
    complaints: list[str] = field(default_factory=list)

    def look(self, name: str) -> None:
        """Look at the page in both widths and themes: accessibility, overflow, a picture."""
        for theme in THEMES:
            self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})
            self.page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            self._audit(f"{name} {theme}")
            for width in WIDTHS:
                self.page.set_viewport_size({"width": width, "height": 900})
                widest = self.page.evaluate("document.documentElement.scrollWidth")
                if widest > width:
                    self.complaints.append(f"{name}: {widest} pixels wide on {width}")
                if SCREENSHOTS:
                    path = Path(SCREENSHOTS) / f"{name}-{width}-{theme}.png"
                    self.page.screenshot(path=path, full_page=True)
        self.page.set_viewport_size({"width": WIDTHS[0], "height": 900})

    def _audit(self, name: str) -> None:
        found = Axe().run(self.page).response["violations"]
        self.complaints.extend(
            f"{name}: {wrong['impact']} {wrong['id']}: {node['html'][:160]}"
            for wrong in found
            for node in wrong["nodes"]
        )


@contextmanager
def window() -> Iterator[Window]:
    """Give a window of a new browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(
            viewport={"width": WIDTHS[0], "height": 900}, reduced_motion="reduce"
        )
        opened = Window(context.new_page())
        opened.page.set_default_timeout(20_000)
        opened.page.on(
            "console",
            lambda said: (
                opened.complaints.append(f"console: {said.text}")
                if said.type in {"error", "warning"}
                else None
            ),
        )
        opened.page.on("pageerror", lambda error: opened.complaints.append(f"script: {error}"))
        try:
            yield opened
        finally:
            context.close()
            browser.close()
