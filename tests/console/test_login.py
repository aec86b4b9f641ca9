"""Signing in and out: passwords, throttling, sessions, second factor, fresh confirmation."""

from dataclasses import replace
from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.sessions.models import Session
from django.test import Client
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from console.cast import PASSWORD, SetClock, add_person, signed_in
from fleetward.console.accounts.care import sweep
from fleetward.console.audit.chain import SYSTEM
from fleetward.console.audit.models import Entry
from fleetward.console.organisation.models import User
from fleetward.console.organisation.people import set_password
from fleetward.console.permissions import Role
from fleetward.console.wiring import rewired, wired

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return add_person("ada", Role.ADMINISTRATOR)


def attempt(client: Client, name: str, password: str, **more: str) -> int:
    answer = client.post("/login/", {"username": name, "password": password, **more})
    return answer.status_code


def actions() -> list[str]:
    return list(Entry.objects.order_by("seq").values_list("action", flat=True))


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


# -- password ------------------------------------------------------------------------------------------


def test_the_right_password_signs_in_whatever_the_case_of_the_name(ada: User) -> None:
    client = Client()
    assert attempt(client, "Ada", PASSWORD) == 302
    assert is_in(client)
    assert actions() == ["session.begin"]


def test_a_wrong_password_or_name_gives_the_same_answer(ada: User) -> None:
    wrong = Client().post("/login/", {"username": "ada", "password": "wrong"})
    unknown = Client().post("/login/", {"username": "adb", "password": "wrong"})
    assert wrong.status_code == unknown.status_code == 400
    for answer in (wrong, unknown):
        assert b"Name or password is wrong." in answer.content


def test_a_refused_name_that_is_nobodys_is_not_kept(ada: User) -> None:
    """Somebody types the password into the name's field; the log must not keep it."""
    attempt(Client(), "my secret passphrase", "x")
    attempt(Client(), "ada", "x")
    refused = Entry.objects.filter(action="session.refused")
    assert list(refused.values_list("actor", flat=True)) == ["ada"]


def test_an_inactive_person_cannot_sign_in_and_ends_at_once(ada: User) -> None:
    client = signed_in(ada)
    ada.is_active = False
    ada.save()
    assert not is_in(client)
    assert attempt(Client(), "ada", PASSWORD) == 400


def test_the_session_key_changes_at_login(ada: User) -> None:
    """The attacker plants a session in the victim's browser, and waits for the login."""
    client = Client()
    session = client.session
    session["planted"] = True
    session.save()
    planted = session.session_key
    client.cookies["fleetward-session"] = planted or ""
    attempt(client, "ada", PASSWORD)
    assert client.session.session_key != planted
    attacker = Client()
    attacker.cookies["fleetward-session"] = planted or ""
    assert not is_in(attacker)


def test_logout_ends_the_session_for_whoever_kept_its_cookie(ada: User) -> None:
    client = signed_in(ada)
    kept = client.cookies["fleetward-session"].value
    assert client.post("/logout/").status_code == 302
    thief = Client()
    thief.cookies["fleetward-session"] = kept
    assert not is_in(thief)
    assert actions()[-1] == "session.end"


def test_logout_by_a_link_is_not_answered(ada: User) -> None:
    client = signed_in(ada)
    assert client.get("/logout/").status_code == 405
    assert is_in(client)


@pytest.mark.parametrize("path", ["/login/", "/logout/", "/theme/", "/settings/sites/new/"])
def test_a_form_without_the_token_is_refused(ada: User, path: str) -> None:
    """Another site's page sends the victim's browser to a form of the console."""
    client = signed_in(ada, enforce_csrf_checks=True)
    answer = client.post(path, {"username": "ada", "password": PASSWORD, "name": "evil"})
    assert answer.status_code == 403
    assert b"out of date" in answer.content


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example/",
        "javascript:alert(1)",
        "https:evil.example",
        "\\\\evil",
    ],
)
def test_what_leads_back_stays_on_this_console(ada: User, wanted: str) -> None:
    answer = Client().post("/login/", {"username": "ada", "password": PASSWORD, "next": wanted})
    assert answer["Location"] == "/"


def test_after_login_one_comes_to_the_page_that_one_wanted(ada: User) -> None:
    client = Client()
    sent = client.get("/audit/?actor=ada")
    assert sent["Location"] == "/login/?next=%2Faudit%2F%3Factor%3Dada"
    answer = client.post(
        sent["Location"], {"username": "ada", "password": PASSWORD, "next": "/audit/?actor=ada"}
    )
    assert answer["Location"] == "/audit/?actor=ada"


# -- throttling ----------------------------------------------------------------------------------------


def test_after_five_wrong_passwords_even_the_right_one_waits(ada: User) -> None:
    client = Client()
    answers = [attempt(client, "ada", f"guess {number}") for number in range(5)]
    assert answers == [400, 400, 400, 400, 429]
    locked = client.post("/login/", {"username": "ada", "password": PASSWORD})
    assert locked.status_code == 429
    assert locked["Retry-After"] == "900"
    assert b"Wait 15 minutes" in locked.content
    assert not is_in(client)


def test_the_lock_is_for_the_name_from_that_address_alone(ada: User) -> None:
    """The attacker cannot lock the victim out from elsewhere."""
    for number in range(6):
        attempt(Client(REMOTE_ADDR="192.0.2.66"), "ada", f"guess {number}")
    assert attempt(Client(REMOTE_ADDR="192.0.2.66"), "ada", PASSWORD) == 429
    assert attempt(Client(REMOTE_ADDR="192.0.2.7"), "ada", PASSWORD) == 302


def test_a_forged_forwarding_header_does_not_pass_the_lock(ada: User) -> None:
    for number in range(5):
        attempt(Client(), "ada", f"guess {number}")
    forged = Client(headers={"X-Forwarded-For": "203.0.113.9"})
    assert attempt(forged, "ada", PASSWORD) == 429


def test_confirming_is_throttled_too(ada: User) -> None:
    client = signed_in(ada)
    answers = [
        client.post("/account/confirm/", {"password": f"guess {n}"}).status_code for n in range(5)
    ]
    assert answers[-1] == 429


# -- sessions ------------------------------------------------------------------------------------------


def test_an_idle_session_ends(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        client = signed_in(ada)
        wiring.clock.sleep(timedelta(minutes=29))
        assert is_in(client)
        wiring.clock.sleep(timedelta(minutes=29))
        assert is_in(client)
        wiring.clock.sleep(timedelta(minutes=31))
        assert not is_in(client)


def test_a_page_that_refreshes_itself_keeps_nobody_awake(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        client = signed_in(ada)
        for _ in range(4):
            wiring.clock.sleep(timedelta(minutes=9))
            client.get("/account/", headers={"Fleetward-Poll": "1", "HX-Request": "true"})
        assert not is_in(client)


def test_no_session_lasts_for_ever(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        client = signed_in(ada)
        for _ in range(12 * 3):
            assert is_in(client)
            wiring.clock.sleep(timedelta(minutes=20))
        wiring.clock.sleep(timedelta(minutes=1))
        assert not is_in(client)


def test_a_part_of_a_page_sends_the_whole_window_to_the_login(ada: User) -> None:
    client = Client()
    answer = client.get(
        "/audit/verdict/",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/audit/"},
    )
    assert answer.status_code == 401
    assert answer["HX-Redirect"] == "/login/?next=http%3A%2F%2Ftestserver%2Faudit%2F&ended=1"
    page = client.get(answer["HX-Redirect"]).content.decode()
    assert "Your session has ended" in page
    assert 'name="next" value="/audit/"' in page


def test_who_comes_back_to_a_session_that_has_ended_is_told(ada: User) -> None:
    """And nobody else is: who comes for the first time is simply asked who it is."""
    with rewired(clock=SetClock()) as wiring:
        client = signed_in(ada)
        wiring.clock.sleep(timedelta(minutes=31))
        sent = client.get("/audit/?actor=ada")
        assert sent["Location"] == "/login/?next=%2Faudit%2F%3Factor%3Dada&ended=1"
        assert "Your session has ended" in client.get(sent["Location"]).content.decode()
        again = client.get("/audit/")
        assert again["Location"] == "/login/?next=%2Faudit%2F"
    assert "has ended" not in client.get(again["Location"]).content.decode()


def test_a_new_password_ends_all_other_sessions(ada: User) -> None:
    here, elsewhere = signed_in(ada), signed_in(ada)
    new = "a different long sentence"
    fields = {"old": PASSWORD, "new": new, "again": new}
    assert here.post("/account/password/", fields).status_code == 302
    assert is_in(here)
    assert not is_in(elsewhere)
    assert attempt(Client(), "ada", PASSWORD) == 400
    assert attempt(Client(), "ada", new) == 302


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"old": "wrong"}, b"This password is wrong."),
        ({"again": "something else"}, b"not the same"),
        ({"new": "short", "again": "short"}, b"too short"),
        ({"new": PASSWORD, "again": PASSWORD}, b"the present password"),
        ({"new": "password1234", "again": "password1234"}, b"too common"),
    ],
)
def test_a_new_password_must_do(ada: User, fields: dict[str, str], complaint: bytes) -> None:
    new = "a different long sentence"
    asked = {"old": PASSWORD, "new": new, "again": new} | fields
    answer = signed_in(ada).post("/account/password/", asked)
    assert answer.status_code == 400
    assert complaint in answer.content


def test_a_password_of_somebody_elses_choice_is_changed_first(ada: User) -> None:
    set_password(SYSTEM, ada, PASSWORD, must_change=True)
    client = signed_in(ada)
    assert client.get("/settings/users/")["Location"].startswith("/account/password/")
    new = "a different long sentence"
    fields = {"old": PASSWORD, "new": new, "again": new, "next": "/settings/users/"}
    assert client.post("/account/password/", fields)["Location"] == "/settings/users/"
    assert client.get("/settings/users/").status_code == 200


# -- fresh confirmation ----------------------------------------------------------------------------------


def test_a_dangerous_act_asks_for_the_password_again(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        client = signed_in(ada)
        assert client.get("/settings/sites/new/").status_code == 200
        wiring.clock.sleep(timedelta(minutes=11))
        sent = client.get("/settings/sites/new/")
        assert sent["Location"] == "/account/confirm/?next=%2Fsettings%2Fsites%2Fnew%2F"
        wrong = client.post(sent["Location"], {"password": "wrong", "next": "/settings/sites/new/"})
        assert wrong.status_code == 400
        fields = {"password": PASSWORD, "next": "/settings/sites/new/"}
        answer = client.post("/account/confirm/", fields)
        assert answer["Location"] == "/settings/sites/new/"
        assert client.get("/settings/sites/new/").status_code == 200


def test_a_form_that_came_too_late_changes_nothing(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        client = signed_in(ada)
        wiring.clock.sleep(timedelta(minutes=11))
        answer = client.post("/settings/sites/new/", {"name": "berlin"})
        assert answer["Location"].startswith("/account/confirm/")
        assert "sites.manage" not in actions()


def test_somebody_cannot_confirm_with_another_persons_password(ada: User) -> None:
    add_person("bob", password="the password of bob alone")
    answer = signed_in(ada).post(
        "/account/confirm/", {"password": "the password of bob alone", "username": "bob"}
    )
    assert answer.status_code == 400


# -- second factor -----------------------------------------------------------------------------------------


def totp(device: TOTPDevice, drift: int = 0) -> str:
    made = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift + drift)
    made.time = wired().clock.now().timestamp()
    return f"{made.token():06d}"


def enrolled(user: User) -> tuple[Client, list[str]]:
    """Set somebody's second factor up by the page; return the browser and the recovery codes."""
    client = signed_in(user)
    page = client.get("/account/second-factor/")
    assert b"<svg" in page.content
    device = TOTPDevice.objects.get(user=user, confirmed=False)
    answer = client.post("/account/second-factor/", {"code": totp(device)})
    assert answer.status_code == 200
    codes = answer.context["codes"]
    return client, codes


def after_password(user: User) -> Client:
    client = Client()
    answer = client.post("/login/", {"username": user.username, "password": PASSWORD})
    assert answer["Location"] == "/login/code/"
    return client


def test_with_a_second_factor_the_password_alone_opens_nothing(ada: User) -> None:
    enrolled(ada)
    client = after_password(ada)
    assert not is_in(client)
    assert client.get("/settings/users/")["Location"].startswith("/login/")


def test_a_code_of_the_authenticator_signs_in_once(ada: User) -> None:
    enrolled(ada)
    device = TOTPDevice.objects.get(user=ada)
    code = totp(device, drift=1)
    client = after_password(ada)
    assert client.post("/login/code/", {"code": f"{code[:3]} {code[3:]}"}).status_code == 302
    assert is_in(client)
    thief = after_password(ada)
    assert thief.post("/login/code/", {"code": code}).status_code == 400, "seen over a shoulder"


def test_wrong_codes_make_the_right_one_wait(ada: User) -> None:
    enrolled(ada)
    client = after_password(ada)
    for guess in ("000000", "000001", "000002"):
        assert client.post("/login/code/", {"code": guess}).status_code == 400
    right = totp(TOTPDevice.objects.get(user=ada), drift=1)
    assert client.post("/login/code/", {"code": right}).status_code == 400
    assert "session.refused" in actions()


def test_a_recovery_code_signs_in_once(ada: User) -> None:
    _, codes = enrolled(ada)
    assert len(set(codes)) == 10
    client = after_password(ada)
    assert client.post("/login/code/", {"code": codes[0].upper()}).status_code == 302
    assert is_in(client)
    again = after_password(ada)
    assert again.post("/login/code/", {"code": codes[0]}).status_code == 400
    assert again.post("/login/code/", {"code": codes[1].replace("-", " ")}).status_code == 302


def test_recovery_codes_are_kept_as_digests(ada: User) -> None:
    _, codes = enrolled(ada)
    kept = " ".join(ada.recovery_codes.values_list("digest", flat=True))
    assert not any(code in kept or code.replace("-", "") in kept for code in codes)


def test_new_recovery_codes_end_the_old_ones(ada: User) -> None:
    client, old = enrolled(ada)
    new = client.post("/account/recovery-codes/").context["codes"]
    assert not set(old) & set(new)
    assert after_password(ada).post("/login/code/", {"code": old[0]}).status_code == 400


def test_the_password_counts_for_five_minutes_while_the_code_is_awaited(ada: User) -> None:
    enrolled(ada)
    with rewired(clock=SetClock()) as wiring:
        client = after_password(ada)
        wiring.clock.sleep(timedelta(minutes=6))
        assert client.get("/login/code/")["Location"] == "/login/"


def test_the_page_for_the_code_is_nobodys_without_the_password(ada: User) -> None:
    enrolled(ada)
    assert Client().get("/login/code/")["Location"] == "/login/"
    assert Client().post("/login/code/", {"code": "000000"})["Location"] == "/login/"


def test_an_administrator_sets_a_second_factor_up_before_anything_else(ada: User) -> None:
    chosen = wired().settings
    strict = replace(chosen.sign_in, totp_for_administrators=True)
    with rewired(settings=replace(chosen, sign_in=strict)):
        client = signed_in(ada)
        for path in ("/", "/settings/users/", "/account/"):
            assert client.get(path)["Location"].startswith("/account/second-factor/")
        viewer = signed_in(add_person("vera", Role.VIEWER))
        assert viewer.get("/").status_code == 200
        done, _ = enrolled(ada)
        assert done.get("/settings/users/").status_code == 200


def test_removing_the_second_factor_wants_a_fresh_password(ada: User) -> None:
    with rewired(clock=SetClock()) as wiring:
        client, _ = enrolled(ada)
        wiring.clock.sleep(timedelta(minutes=11))
        client.post("/account/second-factor/remove/")
        client.post("/account/recovery-codes/")
        assert TOTPDevice.objects.filter(user=ada, confirmed=True).exists()
        client.post("/account/confirm/", {"password": PASSWORD})
        client.post("/account/second-factor/remove/")
        assert not TOTPDevice.objects.filter(user=ada).exists()
        assert not ada.recovery_codes.exists()


# -- theme ---------------------------------------------------------------------------------------------


def test_the_theme_is_kept_with_the_person_and_in_the_browser(ada: User) -> None:
    client = signed_in(ada)
    assert b'data-theme="auto"' in client.get("/").content
    answer = client.post("/theme/", {"theme": "dark", "next": "/account/"})
    assert answer["Location"] == "/account/"
    assert b'data-theme="dark"' in client.get("/").content
    client.post("/logout/")
    assert b'data-theme="dark"' in client.get("/login/").content
    assert b'data-theme="dark"' in signed_in(ada).get("/").content


def test_a_theme_that_is_none_is_not_taken() -> None:
    client = Client()
    client.post("/theme/", {"theme": '"><script>'})
    client.cookies["fleetward-theme"] = '"><script>'
    assert b'data-theme="auto"' in client.get("/login/").content


# -- what logins leave behind ------------------------------------------------------------------------------


def test_ended_sessions_and_old_attempts_are_swept(ada: User) -> None:
    signed_in(ada)
    attempt(Client(), "ada", "wrong")
    TOTPDevice.objects.create(user=ada, name="authenticator", confirmed=False)
    sweep()
    assert (
        Session.objects.count() == AccessAttempt.objects.count() == TOTPDevice.objects.count() == 1
    )
    with rewired(clock=SetClock()) as wiring:
        wiring.clock.sleep(timedelta(days=2))
        sweep()
    assert not Session.objects.exists()
    assert not AccessAttempt.objects.exists()
    assert not TOTPDevice.objects.exists()


def test_a_person_of_the_provider_gets_no_password_here(ada: User) -> None:
    grace = add_person("grace")
    User.objects.filter(pk=grace.pk).update(subject="https://provider.example#42")
    answer = signed_in(ada).post(
        f"/settings/users/{grace.pk}/password/", {"password": "a different long sentence"}
    )
    assert answer.status_code == 404
