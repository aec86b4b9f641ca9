"""Addresses in settings, and what the errors say."""

import pytest

from fleetward.config.addresses import (
    require_address,
    require_group,
    require_host_and_port,
    split_host_and_port,
)
from fleetward.config.relay import PushSettings
from fleetward.config.strict import parse_settings
from fleetward.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1:2967", "192.0.2.1", 2967),
        ("[::1]:1", "::1", 1),
        ("relay.example:65535", "relay.example", 65535),
    ],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    assert split_host_and_port(text) == (host, port)
    require_host_and_port(text)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:1x", "a:\u0663"]
)
def test_no_host_and_port(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        split_host_and_port(text)
    with pytest.raises(ConfigurationError, match="is no HOST:PORT"):
        require_host_and_port(text)


def test_groups() -> None:
    for group in ("239.255.29.67", "ff08::2967", "224.0.0.1"):
        require_group(group)
    for text in ("192.0.2.1", "fe80::1", "", "group"):
        with pytest.raises(ConfigurationError, match="is no multicast group"):
            require_group(text)


def test_addresses() -> None:
    for address in ("192.0.2.1", "::"):
        require_address(address)
    with pytest.raises(ConfigurationError, match="is no address"):
        require_address("localhost")


WRONG: dict[str, str] = {
    'group = ["192.0.2.1"]': "is no multicast group",
    'unicast = ["relay"]': "is no HOST:PORT",
    "ttl = 0": "push.ttl",
    "ttl = 256": "push.ttl",
    "poll = -1": "push.poll",
    "max_watchers = -1": "max_watchers",
    "watcher = 1": "did you mean",
}


@pytest.mark.parametrize(("text", "says"), WRONG.items())
def test_a_relays_wrong_push_settings_say_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        parse_settings(text, PushSettings)
