"""Settings for tools that look at the console without running it.

The type checker's plugin, and `python -m django makemigrations --settings fleetward.console.tooling`.
The database is in memory; no console runs with these.
"""

import tempfile
from pathlib import Path

from fleetward.config.console import ConsoleFileSettings
from fleetward.console.database import sqlite_database
from fleetward.console.settings import django_settings

globals().update(
    django_settings(
        ConsoleFileSettings(),
        sqlite_database(Path(":memory:")),
        "no console runs with this key, which is as long as Django wants it",
        Path(tempfile.gettempdir()),
    )
)
