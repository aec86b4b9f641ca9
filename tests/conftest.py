"""What every suite shares: where the corpora are, and profiles of hypothesis."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parent.parent
CORPORA = REPOSITORY.parent / "shared" / "corpora"

settings.register_profile("default", deadline=None, print_blob=True, max_examples=60)
settings.register_profile(
    "slow",
    deadline=None,
    print_blob=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("FLEETWARD_HYPOTHESIS", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = pytest.mark.skip(reason=f"no corpora: put the archives of rules at {CORPORA}")
    for item in items:
        if item.get_closest_marker("corpora") and not CORPORA.is_dir():
            item.add_marker(missing)
