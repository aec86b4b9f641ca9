"""Django, set up once per process: on SQLite in memory, or on what FLEETWARD_TEST_DB names."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

from fleetward.config.console import ConsoleFileSettings, OidcSettings, SignInSettings
from fleetward.console.database import parse_database, sqlite_database
from fleetward.console.settings import django_settings
from fleetward.console.starting import collect_static_files
from fleetward.console.wiring import Wiring, rewired, wire

DATABASE = os.environ.get("FLEETWARD_TEST_DB", "")
"""A PostgreSQL URL; its database only lends its server, tests make their own."""


def _console_settings(state: Path) -> ConsoleFileSettings:
    secret = state / "client.secret"
    secret.write_text("the client's secret\n")
    provider = "http://127.0.0.1:1"  # test_oidc.py puts a real one there
    return ConsoleFileSettings(
        name="Meridian Bank",
        state=state,
        # Most tests speak as an administrator; test_login.py asks for the second factor.
        sign_in=SignInSettings(totp_for_administrators=False),
        oidc=OidcSettings(
            issuer="https://provider.example",
            client_id="console",
            client_secret_file=secret,
            authorization_endpoint=f"{provider}/authorize",
            token_endpoint=f"{provider}/token",
            user_endpoint=f"{provider}/user",
            jwks_endpoint=f"{provider}/keys",
        ),
    )


def _django_settings() -> dict[str, Any]:
    database = parse_database(DATABASE) if DATABASE else sqlite_database(Path(":memory:"))
    state = Path(tempfile.mkdtemp(prefix="fleetward-tests-"))
    chosen = _console_settings(state)
    wire(Wiring(settings=chosen))
    keywords = django_settings(chosen, database, "k" * 64, state)
    # A pool would keep connections to the test database open when it is dropped.
    keywords["DATABASES"]["default"]["OPTIONS"].pop("pool", None)
    keywords["STORAGES"]["staticfiles"] = {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
    }
    # test_running.py looks for argon2; every other test logs in often.
    keywords["PASSWORD_HASHERS"] = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return keywords


if not settings.configured:
    settings.configure(**_django_settings())
    django.setup()
    collect_static_files()


@pytest.fixture(autouse=True)
def _own_wiring() -> Iterator[None]:
    """Undo whatever a test wires."""
    with rewired():
        yield
