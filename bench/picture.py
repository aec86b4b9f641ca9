"""Draws the README's pictures.

docs/demo.svg is the demo's last picture as a terminal shows it, docs/console.png the console's
first page at that moment, which wants Chromium.
"""

import io
import re
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from fleetward.demo.acts import Login, Play
from fleetward.demo.content import sample_series
from fleetward.demo.screen import Screen
from fleetward.demo.stage import Stage

DOCS = Path(__file__).resolve().parent.parent / "docs"
TERMINAL = DOCS / "demo.svg"
CONSOLE = DOCS / "console.png"
HOSTS = 8
NEWEST = "sample-3"
"""The last release of the sample series."""
SHOWN = Login("http://127.0.0.1:8443", "demo", "xxxx-xxxx-xxxx-xxxx")
"""In place of this run's."""


def main() -> None:
    console = Console(file=io.StringIO(), width=132, record=True, force_terminal=True)
    screen = Screen(console)
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder), HOSTS, console=True) as stage:
        play = Play(stage, sample_series(Path(folder)), screen)
        play.play()
        assert play.login
        photograph(play.login, CONSOLE, NEWEST)
    screen.opened(SHOWN)
    draw(console, screen)


def draw(console: Console, screen: Screen) -> None:
    """Draw the terminal, with a relay's usual address in place of this run's."""
    console.print(screen.picture())
    without_fonts = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    drawn = console.export_svg(title="fleetward demo", code_format=without_fonts)
    drawn = re.sub(r"127\.0\.0\.1:(?!8443)\d+", "relay.site:2967", drawn)
    TERMINAL.write_text(drawn.replace("Fira Code", "DejaVu Sans Mono"))
    print(f"drew {TERMINAL}")


def photograph(login: Login, picture: Path, newest: str) -> None:
    """Log in as a person does, and keep a picture of the first page."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(
            viewport={"width": 1440, "height": 900}, reduced_motion="reduce", color_scheme="light"
        )
        page.goto(login.url)
        page.get_by_label("Name").fill(login.name)
        page.get_by_label("Password").fill(login.password)
        page.get_by_role("button", name="Log in").click()
        # Both come live: the last release, and that every host has it.
        page.get_by_role("rowheader", name=newest).first.wait_for(timeout=90_000)
        page.get_by_text("The fleet is protected").wait_for(timeout=90_000)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=picture)
        browser.close()
    print(f"took {picture}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
