"""The catalogue in real Chromium: a release arrives without a reload, its changes fill in."""

import re
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from console.browsers import ADVICE, Window, chromium, window
from console.catalogue.repositories import ANCHOR, Origin
from console.programs import PASSWORD, Console
from fleetward.core.documents import Policy, RampStep
from fleetward.core.names import ProductName, ReleaseName
from fleetward.origin.products import revoke, set_policy
from support.trusthost import real_time_clock

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]

YARA = ProductName("signature-base")


def _rules(number: int) -> dict[str, bytes]:
    """Return a tree whose rules change a little with every number."""
    yara = "".join(
        f'rule APT_Sample_{i} : apt\n{{\n  meta:\n    version = "{number if i == number else 0}"\n'
        f'  strings:\n    $a = "indicator {i}"\n  condition:\n    $a\n}}\n'
        for i in range(number, 40 + number)
    )
    return {
        "apt/samples.yar": yara.encode(),
        f"apt/new_{number}.yar": b"rule New_%d { condition: false }\n" % number,
        "README": b"signature base %d\n" % number,
    }


def _suricata(number: int) -> dict[str, bytes]:
    lines = [
        f'{"#" if i == number else ""}alert tcp $EXTERNAL_NET any -> $HOME_NET 2967 (msg:"ET EXPLOIT '
        f'Symantec Remote Management {i}"; sid:{2003250 + i}; rev:{7 + (i % 5 == number % 5)};)'
        for i in range(60)
    ]
    return {"emerging.rules": "\n".join(lines).encode()}


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    clock = real_time_clock()
    clock.advance(timedelta(days=-6))
    with Origin(tmp_path / "origin", clock) as made:
        for number in range(1, 7):
            made.publish(YARA, _rules(number), release=f"2026.11.{18 + number}-1", engine="yara")
            made.publish("et-open", _suricata(number), release=f"2026.11.{18 + number}-1")
            made.clock.advance(timedelta(days=1))
        made.publish(YARA, _rules(6), channel="canary", release="2026.11.24-2", urgent=True)
        steps = (RampStep(age=0, percent=10), RampStep(age=14_400, percent=100))
        set_policy(made.again(), Policy(product=YARA, ramp=steps))
        revoke(made.again(), YARA, ReleaseName("2026.11.20-1"), "stops the engine on Windows")
        yield made


def _add_hosts(file: Path) -> None:
    """Add hosts as check-ins would, so that the bars have something to show."""
    now = datetime.now(UTC).isoformat(sep=" ")
    releases = ["2026.11.24-1"] * 61 + ["2026.11.23-1"] * 22 + ["2026.11.21-1"] * 9 + [""] * 3
    with sqlite3.connect(file) as database:
        for number, release in enumerate(releases):
            database.execute(
                "INSERT INTO fleet_host (id, record, name, standing, os, agent, created,"
                " standing_since, clone_sign) VALUES (?, ?, ?, 'active', '', '', ?, ?, '')",
                (number + 1, f"{number:016x}", f"host-{number}", now, now),
            )
            database.execute(
                "INSERT INTO fleet_productstate (host_id, product, channel, release, seq, state,"
                " tree, since) VALUES (?, ?, 'stable', ?, 0, 'confirmed', '', ?)",
                (number + 1, YARA, release, now),
            )


def _log_in(page: Page, url: str) -> None:
    page.goto(f"{url}/products/")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def test_a_day_with_releases(origin: Origin, tmp_path: Path) -> None:
    """The pages fill in while somebody looks; the repository is taken over, and that is seen."""
    folder = tmp_path / "console"
    folder.mkdir()
    console = Console(folder, f"sqlite:///{folder}/console.db")
    console.create_admin()
    _add_hosts(folder / "console.db")
    (folder / "c.toml").write_text(
        f"[sign_in]\ntotp_for_administrators = false\n[repository]\nurl = '{origin.url}'\n"
        f"root = '{origin.repository / ANCHOR}'\npoll = 1\n"
    )
    with console.running("--config", "c.toml") as url, window() as opened:
        page = opened.page
        _log_in(page, url)
        expect(page.get_by_role("heading", name=YARA)).to_be_visible(timeout=30_000)
        opened.look("products")
        _look_at_a_product(opened, url)
        _compare(opened, url)
        _see_a_release_arrive(page, url, origin)
        _look_at_trust(opened, url, origin, tmp_path)
        page.goto(f"{url}/")
        expect(page.get_by_role("heading", name="Trust")).to_be_visible()
        expect(page.get_by_text("All roles")).to_be_visible()
        opened.look("overview-with-releases")
        assert not opened.complaints, "\n".join(opened.complaints)


def _look_at_a_product(opened: Window, url: str) -> None:
    page = opened.page
    page.goto(f"{url}/products/{YARA}/")
    expect(page.get_by_role("heading", name="Which release when")).to_be_visible()
    opened.look("product")
    page.get_by_label("Show").select_option("revoked")
    expect(page).to_have_url(re.compile(r"\?state=revoked$"))
    table = page.get_by_role("region", name="Releases")
    expect(table.get_by_role("link", name="2026.11.20-1")).to_be_visible()
    expect(table.get_by_role("link", name="2026.11.21-1")).to_be_hidden()


def _compare(opened: Window, url: str) -> None:
    page = opened.page
    for product, expected in ((YARA, "New_6"), ("et-open", "Symantec Remote Management 6")):
        page.goto(f"{url}/products/{product}/2026.11.24-1/")
        seen = page.locator("#changes").get_by_text(expected).filter(visible=True).first
        expect(seen).to_be_visible(timeout=30_000)
        opened.look(f"release-{product}")
    page.get_by_label("Since").select_option("2026.11.19-1")
    expect(page).to_have_url(re.compile("against=2026.11.19-1"))
    expect(page.locator("#changes").get_by_role("heading", name="Suricata rules")).to_be_visible(
        timeout=30_000
    )


def _see_a_release_arrive(page: Page, url: str, origin: Origin) -> None:
    page.goto(f"{url}/products/")
    page.evaluate("window.stays = true")
    origin.publish("et-open", _suricata(7), release="2026.11.25-1")
    expect(page.get_by_role("link", name="2026.11.25-1")).to_be_visible(timeout=40_000)
    assert page.evaluate("window.stays"), "the page was not loaded anew"


def _look_at_trust(opened: Window, url: str, origin: Origin, tmp_path: Path) -> None:
    page = opened.page
    page.goto(f"{url}/trust/")
    expect(page.get_by_text("nothing of it expires soon")).to_be_visible()
    opened.look("trust")
    forged = Origin(tmp_path / "forged", origin.clock, seed=666)
    origin.serve(forged.repository)
    expect(page.get_by_text("The repository was refused")).to_be_visible(timeout=40_000)
    opened.look("trust-refused")
