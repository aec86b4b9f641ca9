"""Django, set up once per process: on SQLite in memory, or on what FLEETWARD_TEST_DB names."""

import os
import tempfile
from pathlib import Path
from typing import Any

import django
from django.conf import settings

from fleetward.config.console import ConsoleFileSettings
from fleetward.console.database import parse_database, sqlite_database
from fleetward.console.settings import django_settings

DATABASE = os.environ.get("FLEETWARD_TEST_DB", "")
"""A PostgreSQL URL; its database only lends its server, tests make their own."""


def _settings() -> dict[str, Any]:
    database = parse_database(DATABASE) if DATABASE else sqlite_database(Path(":memory:"))
    state = Path(tempfile.mkdtemp(prefix="fleetward-tests-"))
    keywords = django_settings(ConsoleFileSettings(), database, "k" * 64, state)
    # A pool would keep connections to the test database open when it is dropped.
    keywords["DATABASES"]["default"]["OPTIONS"].pop("pool", None)
    keywords["STORAGES"]["staticfiles"] = {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
    }
    # Whoever looks for a slow hash finds it in test_passwords.py; every other test logs in often.
    keywords["PASSWORD_HASHERS"] = [
        "django.contrib.auth.hashers.MD5PasswordHasher",
        *keywords["PASSWORD_HASHERS"],
    ]
    return keywords


if not settings.configured:
    settings.configure(**_settings())
    django.setup()
