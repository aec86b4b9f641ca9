"""docs/relay-limits.md: its settings are settings, and its tests exist."""

import re
from pathlib import Path

import pytest

from fleetward.config.relay import (
    BandwidthSettings,
    ClientSettings,
    RelayFileSettings,
    StorageSettings,
)
from fleetward.config.strict import parse_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "relay-limits.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_is_read(text: str) -> None:
    assert parse_settings(text, RelayFileSettings).bandwidth.schedule


def test_the_first_example_tells_the_defaults() -> None:
    told = parse_settings(EXAMPLES[0], RelayFileSettings)
    assert told.storage == StorageSettings()
    assert told.clients == ClientSettings()
    assert told.bandwidth.rate == BandwidthSettings().rate
    assert told.bandwidth.max_downloads == BandwidthSettings().max_downloads


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests/relay" / file).read_text(), test
