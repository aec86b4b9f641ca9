"""A first day with the console, in real Chromium."""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from django_otp.oath import TOTP
from playwright.sync_api import Page, expect

from console.browsers import ADVICE, Window, chromium, window
from console.programs import PASSWORD, Console

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(chromium() is None, reason=ADVICE),
]

if TYPE_CHECKING:
    from playwright._impl._api_structures import SetCookieParam

FIRST = "a long first password"


def log_in(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def code_of(secret: str, drift: int = 0) -> str:
    text = secret.replace(" ", "")
    key = base64.b32decode(text + "=" * (-len(text) % 8))
    totp = TOTP(key, drift=drift)
    totp.time = datetime.now(UTC).timestamp()
    return f"{totp.token():06d}"


def set_second_factor_up(page: Page) -> str:
    """Go through the set-up; return the secret."""
    page.get_by_text("No camera?").click()
    secret = page.locator("details code").inner_text()
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    return secret


def fill(page: Page, path: str, fields: dict[str, str], *choices: str) -> None:
    page.goto(path)
    for label, text in fields.items():
        page.get_by_label(label, exact=False).first.fill(text)
    for choice in choices:
        page.get_by_label(choice, exact=False).first.check()
    page.get_by_role("button", name="Save").click()


def add_what_an_organisation_has(page: Page, url: str) -> None:
    fill(page, f"{url}/settings/sites/new/", {"Name": "berlin", "Title": "Berlin, Mitte"})
    fill(page, f"{url}/settings/sites/new/", {"Name": "porto", "Title": "Porto"})
    fill(
        page,
        f"{url}/settings/users/new/",
        {"Name to log in": "grace", "Full name": "Grace Hopper", "First password": FIRST},
        "viewers",
    )
    expect(page.get_by_role("heading", name="Grace Hopper")).to_be_visible()
    fields = {"Name": "team", "Target": "https://127.0.0.1/hook"}
    fill(page, f"{url}/settings/notifications/new/", fields)
    page.get_by_role("button", name="Test team").click()
    expect(page.get_by_text("not a public address")).to_be_visible()


PAGES = {
    "overview": "/",
    "about": "/settings/",
    "users": "/settings/users/",
    "user": "/settings/users/2/",
    "new-user": "/settings/users/new/",
    "groups": "/settings/groups/",
    "new-group": "/settings/groups/new/",
    "sites": "/settings/sites/",
    "tokens": "/settings/tokens/",
    "new-token": "/settings/tokens/new/",
    "notifications": "/settings/notifications/",
    "channel": "/settings/notifications/1/",
    "new-channel": "/settings/notifications/new/",
    "audit": "/audit/",
    "account": "/account/",
    "password": "/account/password/",
    "confirm": "/account/confirm/",
    "group": "/settings/groups/1/",
    "site": "/settings/sites/1/",
    "enrolment": "/settings/enrolment/",
    "no-hosts": "/hosts/",
    "no-relays": "/relays/",
    "no-alerts": "/alerts/",
    "no-products": "/products/",
    "no-trust": "/trust/",
}


def test_a_first_day(tmp_path: Path) -> None:
    """An administrator comes in with a second factor, adds what the organisation has, and leaves.

    Every page is looked at on the way: by axe, for overflow, in both widths and themes; nothing
    may be said in the browser's console, the content security policy's complaints included.
    """
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    console.create_admin()
    with console.running() as url, window() as opened:
        page = opened.page
        page.goto(f"{url}/audit/")
        opened.look("login")
        log_in(page, "ada", PASSWORD)
        expect(page.get_by_role("heading", name="Set up a second factor")).to_be_visible()
        opened.look("second-factor")
        secret = set_second_factor_up(page)
        opened.look("recovery-codes")
        add_what_an_organisation_has(page, url)
        for name, path in PAGES.items():
            page.goto(f"{url}{path}")
            opened.look(name)
        make_a_token(opened, url)
        verify_the_audit_log(opened, url)
        the_session_ends(opened, url)
        leave_and_come_back(page, url, secret)
        opened.look("code")
        page.goto(f"{url}/nothing-here/")
        expect(page.get_by_role("heading", name="Nothing here")).to_be_visible()
        opened.look("missing")
        refused = "console: Failed to load resource: the server responded with a status of"
        expected = (f"{refused} 404", f"{refused} 401")
        left = [said for said in opened.complaints if not said.startswith(expected)]
        assert not left, "\n".join(left)


def make_a_token(opened: Window, url: str) -> None:
    page = opened.page
    fill(page, f"{url}/settings/tokens/new/", {"What it is for": "backup"})
    expect(page.get_by_text("It is shown only now")).to_be_visible()
    assert re.fullmatch(r"fw_[a-z2-7]{8}_[a-z2-7]{32}", page.locator("#token").inner_text())
    opened.look("token-made")
    page.goto(f"{url}/settings/tokens/")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("is revoked")).to_be_visible()


def verify_the_audit_log(opened: Window, url: str) -> None:
    page = opened.page
    page.goto(f"{url}/audit/")
    page.keyboard.press("/")
    expect(page.get_by_label("Subject")).to_be_focused()
    page.keyboard.type("token:")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"\?subject=token%3A$"))
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.locator("#verdict")).to_contain_text("entries hold")
    page.get_by_text("Before and after").first.click()
    opened.look("audit-verified")


def the_session_ends(opened: Window, url: str) -> None:
    """A page that refreshes itself is led to the login, which says why; then she is let in again."""
    page = opened.page
    page.goto(f"{url}/alerts/?severity=3")
    cookies = page.context.cookies()
    page.context.clear_cookies()
    expect(page.get_by_text("Your session has ended")).to_be_visible(timeout=30_000)
    assert page.locator("input[name=next]").input_value() == "/alerts/?severity=3"
    opened.look("session-ended")
    page.context.add_cookies(cast("list[SetCookieParam]", cookies))
    page.goto(f"{url}/audit/")


def leave_and_come_back(page: Page, url: str, secret: str) -> None:
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{url}/settings/users/")
    expect(page).to_have_url(re.compile("/login/"))
    log_in(page, "ada", PASSWORD)
    # The code of the next half minute: the present one may be spent.
    page.get_by_label("Code").fill(code_of(secret, drift=1))
    page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(f"{url}/settings/users/")
    page.get_by_role("button", name="Log out").click()
    log_in(page, "ada", PASSWORD)
    expect(page.get_by_role("heading", name="Second factor")).to_be_visible()


def test_the_menu_and_the_theme_by_keyboard_on_a_small_screen(tmp_path: Path) -> None:
    console = Console(tmp_path, f"sqlite:///{tmp_path}/console.db")
    console.create_admin()
    (tmp_path / "c.toml").write_text("[sign_in]\ntotp_for_administrators = false\n")
    with console.running("--config", "c.toml") as url, window() as opened:
        page = opened.page
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(url)
        log_in(page, "ada", PASSWORD)
        expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_text("Skip to the content")).to_be_focused()
        menu = page.get_by_role("button", name="Menu")
        expect(page.get_by_role("link", name="Audit")).to_be_hidden()
        menu.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Audit")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("link", name="Audit")).to_be_hidden()
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Dark theme").press("Enter")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert not opened.complaints
