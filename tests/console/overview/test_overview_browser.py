"""The overview, relays and alerts in real Chromium: looked at, live, and an alert's life."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.browsers import ADVICE, Window, chromium, window
from console.programs import PASSWORD, Console

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from fleetward.adapters.disk import SystemDisk
from fleetward.config.console import ConsoleFileSettings
from fleetward.console.starting import start_django
from fleetward.console.wiring import Wiring

folder = Path(sys.argv[1])
settings = ConsoleFileSettings(db=f"sqlite:///{folder}/console.db", state=folder)
start_django(SystemDisk(), Wiring(settings=settings))

from console.overview.generated import Plan, generate
from fleetward.console.relays.models import Turn

now = datetime.now(UTC)
generate(now, Plan(hosts=300, minutes=("osaka",)))
# The relays of this fleet do not exist: nobody is to ask them.
Turn.objects.create(work="relays", holder="nobody", until=now + timedelta(days=1))
"""


def fleet(folder: Path) -> None:
    """Write a fleet into the console's database."""
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"},
    )


PAGES = {
    "overview": "/",
    "relays": "/relays/",
    "alerts": "/alerts/",
    "alerts-resolved": "/alerts/?state=resolved",
}


def log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/login/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def settings_without_second_factor(folder: Path) -> str:
    path = folder / "console.toml"
    path.write_text("[sign_in]\ntotp_for_administrators = false\n")
    return str(path)


def test_a_morning_with_a_sick_fleet(tmp_path: Path) -> None:
    """Somebody looks at every page, takes an alert on, and sees a relay come back without reload.

    Every page is looked at by axe, for overflow, in both widths and themes; nothing may be said in
    the browser's console, the content security policy's complaints included.
    """
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    console.create_admin()
    fleet(tmp_path)
    config = settings_without_second_factor(tmp_path)
    with console.running("--config", config) as url, window() as opened:
        page = opened.page
        log_in(page, url)
        page.goto(url)
        expect(page.get_by_role("link", name="osaka.meridian.example:2967 freezes")).to_be_visible()
        for name, path in PAGES.items():
            page.goto(f"{url}{path}")
            opened.look(name)
        take_an_alert_on(opened, url)
        a_relay_comes_back(opened, url, tmp_path / "console.db")
        assert not opened.complaints, "\n".join(opened.complaints)


def take_an_alert_on(opened: Window, url: str) -> None:
    page = opened.page
    page.goto(f"{url}/alerts/")
    page.get_by_label("Kind").select_option("relay-frozen")
    page.wait_for_url("**/alerts/?kind=relay-frozen")
    page.get_by_role("link", name="freezes").click()
    expect(page.get_by_text("What to do next")).to_be_visible()
    opened.look("alert")
    page.get_by_label("What you do about it").fill("rebooting it")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.get_by_text("Acknowledged by ada")).to_be_visible()
    expect(page.get_by_text("rebooting it").first).to_be_visible()
    opened.look("alert-taken-on")


def a_relay_comes_back(opened: Window, url: str, database: Path) -> None:
    """The relay serves what is new again: the page that is open shows it by itself."""
    page = opened.page
    page.goto(f"{url}/relays/")
    page.get_by_role("link", name="relay1.osaka").click()
    expect(page.get_by_text("may freeze them on purpose")).to_be_visible()
    opened.look("relay")
    with sqlite3.connect(database, timeout=30) as rows:
        rows.execute(
            "UPDATE relays_relay SET version = 24310, answered = ? WHERE name LIKE '%osaka%'",
            [(datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%d %H:%M:%S.%f")],
        )
    expect(page.get_by_text("may freeze them on purpose")).to_be_hidden(timeout=30_000)
    expect(page.locator(".badge.good", has_text="well")).to_be_visible()
