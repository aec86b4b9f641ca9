"""Settings, database URLs, the secret key: from what the operator writes to what Django gets."""

import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from console.cast import SetClock
from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent.events import SpoolLimits
from fleetward.config.console import (
    EVENTS_KEPT,
    ConsoleFileSettings,
    HistorySettings,
    TlsSettings,
    load_console_settings,
)
from fleetward.config.strict import parse_settings, toml_text
from fleetward.console.database import parse_database, sqlite_database
from fleetward.console.keeping import LOCK_FILE, SECRET_FILE, secret_key, state_folder, turn
from fleetward.console.settings import django_settings
from fleetward.console.starting import start_django
from fleetward.console.wiring import Wiring
from fleetward.errors import BusyError, ConfigurationError, UsageError

PLAIN = ConsoleFileSettings()


def made(settings: ConsoleFileSettings) -> dict[str, Any]:
    return django_settings(settings, sqlite_database(Path("/c.db")), "k" * 64, Path("/state"))


# -- the file --------------------------------------------------------------------------------------------


def test_a_file_says_everything_that_the_console_needs(tmp_path: Path) -> None:
    (tmp_path / "console.toml").write_text(
        'db = "sqlite:///c.db"\nurl = "https://console.example"\nproxies = ["127.0.0.1"]\n'
        "[sign_in]\nidle = 600\ntotp_for_administrators = false\n"
    )
    settings = load_console_settings(SystemDisk(), tmp_path / "console.toml")
    assert settings.sign_in.idle == timedelta(minutes=10)
    assert settings.history.events == 400
    assert settings.is_https()
    assert parse_settings(toml_text(settings), ConsoleFileSettings) == settings


def test_events_outlive_what_agents_keep_of_them() -> None:
    """Else a restored console would forget at once what it asks hosts to send again."""
    assert SpoolLimits().kept == EVENTS_KEPT
    assert HistorySettings(events=EVENTS_KEPT.days + 1).events == 8


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('listn = "x"', "did you mean 'listen'"),
        ('url = "console.example"', "write https://"),
        ("[sign_in]\nattempts = 0", "nobody could log in"),
        ("[sign_in]\nidel = 3", "did you mean 'idle'"),
        ("[alerts]\nevery = 0.5", "alerts.every is under a second"),
        ("[oidc]\nissuer = 'x'", "client_id"),
        ("[history]\nevnts = 30", "did you mean 'events'"),
        ("[histroy]\nevents = 30", "did you mean 'history'"),
        ("[history]\nevents = 7", r"events is 7 days; at least 8 \(agents send them again"),
        ("[history]\nevents = 8.5", "int"),
        ("[history]\ncheck_ins = 0", "check_ins is 0 days; at least 1"),
        ("[history]\ntransitions = 29", "transitions is 29 days; at least 30"),
        ("[history]\nsilent_hosts = -1", "silent_hosts is -1 days; at least 1"),
        ("[history]\nalerts = 1", "alerts is 1 days; at least 2"),
        ("[history]\nnotices = 99999", "notices is 99999 days.*at most 36500"),
        ("[history]\nrelay_minutes = 91", "relay_hours is under history.relay_minutes"),
    ],
)
def test_a_mistake_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_settings(text, ConsoleFileSettings)


# -- databases -------------------------------------------------------------------------------------------


def test_sqlite_keeps_what_it_acknowledged_and_writers_wait() -> None:
    database = parse_database("sqlite:////var/lib/fleetward/console.db")
    assert database.file == Path("/var/lib/fleetward/console.db")
    options = database.django["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert "synchronous=FULL" in options["init_command"]
    assert "journal_mode=WAL" in options["init_command"]


def test_a_relative_sqlite_path_counts_from_here() -> None:
    assert parse_database("sqlite:///c.db").file == Path.cwd() / "c.db"
    assert parse_database("sqlite:///with%20space.db").file == Path.cwd() / "with space.db"


def test_postgresql_urls_are_read_as_libpq_reads_them() -> None:
    url = "postgresql://console:p%40ss@db.example:5433/fleet?sslmode=verify-full"
    entry = parse_database(url).django
    assert (entry["HOST"], entry["PORT"], entry["NAME"]) == ("db.example", "5433", "fleet")
    assert (entry["USER"], entry["PASSWORD"]) == ("console", "p@ss")
    assert entry["OPTIONS"]["sslmode"] == "verify-full"
    assert entry["OPTIONS"]["pool"]["max_size"] > 0
    assert entry["CONN_MAX_AGE"] == 0
    assert parse_database(url).file is None


@pytest.mark.parametrize(
    "url",
    ["", "c.db", "sqlite://c.db", "sqlite:///", "mysql://x/y", "postgresql://h/d?nonsense=1"],
)
def test_what_names_no_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_database(url)


# -- what Django gets -------------------------------------------------------------------------------------


def test_passwords_are_argon2_and_nothing_is_for_debugging() -> None:
    keywords = made(PLAIN)
    assert keywords["PASSWORD_HASHERS"] == ["django.contrib.auth.hashers.Argon2PasswordHasher"]
    assert keywords["DEBUG"] is False


def test_cookies_are_closed_to_scripts_and_other_sites() -> None:
    keywords = made(PLAIN)
    assert keywords["SESSION_COOKIE_HTTPONLY"]
    assert keywords["CSRF_COOKIE_HTTPONLY"]
    assert keywords["SESSION_COOKIE_SAMESITE"] == "Lax"
    assert not keywords["SESSION_COOKIE_SECURE"], "on loopback, without https"


@pytest.mark.parametrize(
    "https",
    [
        replace(PLAIN, url="https://console.example"),
        replace(PLAIN, tls=TlsSettings(certificate=Path("/c"), key=Path("/k"))),
    ],
)
def test_under_https_cookies_demand_it_and_are_this_hosts_alone(https: ConsoleFileSettings) -> None:
    keywords = made(https)
    for cookie in ("SESSION", "CSRF"):
        assert keywords[f"{cookie}_COOKIE_SECURE"]
        assert keywords[f"{cookie}_COOKIE_NAME"].startswith("__Host-")


def test_only_known_host_names_are_answered() -> None:
    hosts = made(replace(PLAIN, url="https://console.example", listen="0.0.0.0:8443"))
    assert "console.example" in hosts["ALLOWED_HOSTS"]
    assert "localhost" in hosts["ALLOWED_HOSTS"]
    wildcards = {"*", "", "0.0.0.0"}  # noqa: S104 (compared, not bound)
    assert not wildcards & set(hosts["ALLOWED_HOSTS"])
    assert hosts["CSRF_TRUSTED_ORIGINS"] == ["https://console.example"]


def test_a_provider_whose_secret_cannot_be_read_is_named(tmp_path: Path) -> None:
    text = (
        "issuer='i'\nclient_id='c'\nauthorization_endpoint='a'\ntoken_endpoint='t'\n"
        f"user_endpoint='u'\njwks_endpoint='j'\nclient_secret_file='{tmp_path / 'none'}'\n"
    )
    settings = parse_settings("[oidc]\n" + text, ConsoleFileSettings)
    with pytest.raises(ConfigurationError, match="client_secret_file"):
        made(settings)
    assert "mozilla_django_oidc" not in made(PLAIN)["INSTALLED_APPS"]


# -- what is kept beside the database -----------------------------------------------------------------------


def test_the_secret_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    first = secret_key(SystemDisk(), SystemEntropy(), tmp_path)
    assert secret_key(SystemDisk(), SystemEntropy(), tmp_path) == first
    assert len(first) >= 50
    assert stat.S_IMODE((tmp_path / SECRET_FILE).stat().st_mode) == 0o600


def test_a_secret_key_that_was_emptied_is_refused(tmp_path: Path) -> None:
    (tmp_path / SECRET_FILE).write_text("short\n")
    with pytest.raises(ConfigurationError, match="remove it"):
        secret_key(SystemDisk(), SystemEntropy(), tmp_path)


def test_postgresql_needs_a_folder_and_sqlite_has_one() -> None:
    sqlite, postgresql = sqlite_database(Path("/x/c.db")), parse_database("postgresql://h/d")
    assert state_folder(PLAIN, sqlite) == Path("/x")
    with pytest.raises(ConfigurationError, match="--state"):
        state_folder(PLAIN, postgresql)
    assert state_folder(replace(PLAIN, state=Path("/s")), postgresql) == Path("/s")


def test_two_starts_take_turns(tmp_path: Path) -> None:
    inside, order = threading.Event(), []

    def second() -> None:
        inside.wait()
        with turn(SystemDisk(), SystemClock(), tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with turn(SystemDisk(), SystemClock(), tmp_path):
        inside.set()
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_start_gives_up_after_a_minute(tmp_path: Path) -> None:
    with SystemDisk().lock(tmp_path / LOCK_FILE):
        clock = SetClock()
        began = clock.now()
        with pytest.raises(BusyError), turn(SystemDisk(), clock, tmp_path):
            raise AssertionError("nobody else may be here")
        assert timedelta(seconds=60) < clock.now() - began < timedelta(seconds=62)


def test_a_start_without_a_database_says_what_to_name() -> None:
    with pytest.raises(UsageError, match="--db"):
        start_django(SystemDisk(), Wiring())
