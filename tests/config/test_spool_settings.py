"""`[spool]`: what it may say, and what it is told where it may not."""

from datetime import timedelta

import pytest

from fleetward.config.relay import RelayFileSettings, SpoolSettings
from fleetward.config.strict import parse_settings
from fleetward.errors import ConfigurationError


def parsed(text: str) -> SpoolSettings:
    return parse_settings(f"[spool]\n{text}\n", RelayFileSettings).spool


def test_what_it_may_say() -> None:
    settings = parsed(
        'max_age = 3600\ndelay = 0\ndownstream = ["192.0.2.0/24", "2001:db8::/48", "192.0.2.7"]\n'
        "max_share = 1\ncheck_ins_per_second = 0"
    )
    assert settings.max_age == timedelta(hours=1)
    assert settings.delay == timedelta(0)
    assert settings.downstream[0] == "192.0.2.0/24"


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("max_share = 0", "share"),
        ("max_peer_share = 1.1", "share"),
        ("max_datagram_share = -1", "share"),
        ("max_bytes = 1000", "max_bytes"),
        ("batch = 0", "batch"),
        ("batch = 2001", "batch"),
        ("max_age = 0", "max_age"),
        ("delay = -1", "delay"),
        ("datagrams_per_second = -1", "rates"),
        ("check_ins_per_second = -1", "rates"),
        ("enrolments_per_second = -1", "rates"),
        ('downstream = ["192.0.2.7/24"]', "write a network"),
        ('downstream = ["relay.example"]', "write a network"),
        ("max_shares = 0.1", "max_share"),
    ],
)
def test_what_it_may_not_say(text: str, because: str) -> None:
    with pytest.raises(ConfigurationError, match=because):
        parsed(text)
