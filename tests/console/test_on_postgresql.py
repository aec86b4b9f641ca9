"""The same suite on PostgreSQL: every test of the console's that touches its database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.conftest import DATABASE
from console.postgresqls import ADVICE, binaries, server

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


NO_DIFFERENCE = (
    "test_routes.py",
    "test_openapi.py",
    "catalogue/test_rules.py",
    "catalogue/test_real_rules.py",
    "test_running.py",
    "test_backups.py",
    "rollouts/test_rollout_command.py",
)
"""What asks the same few queries a thousand times, or none, or runs the program on a database that it
names by itself: left to `make slow`."""


@pytest.mark.postgresql
@pytest.mark.skipif(bool(DATABASE), reason="this is that run")
@pytest.mark.parametrize(
    "passed_over",
    [NO_DIFFERENCE, pytest.param((), marks=pytest.mark.slow)],
    ids=["what-differs", "all"],
)
def test_the_suite_on_postgresql(passed_over: tuple[str, ...]) -> None:
    with server() as url:
        if url is None:
            pytest.skip(ADVICE)
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"),
                *("-m", "not postgresql and not chromium and not slow", str(HERE)),
                *(f"--ignore={HERE / name}" for name in passed_over),
            ],
            cwd=REPOSITORY,
            env=os.environ | {"FLEETWARD_TEST_DB": url},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    print(done.stdout.splitlines()[-1])


@pytest.mark.postgresql
@pytest.mark.skipif(binaries() is None, reason=ADVICE)
def test_a_server_of_our_own_from_the_binaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no PostgreSQL listens, the suite starts one; here, even though one may."""
    monkeypatch.setattr("console.postgresqls._USUAL", "")
    monkeypatch.delenv("FLEETWARD_POSTGRESQL", raising=False)
    with server() as url:
        assert url is not None
        assert "host=/" in url
