"""`[sensor]` of an agent's settings: off unless asked, and refused where it cannot be meant."""

from typing import Any

import pytest

from fleetward.config.agent import AgentSettings, PushSettings
from fleetward.config.sensor import SensorSettings
from fleetward.config.strict import parse_settings, toml_text
from fleetward.core.listeners import Transport
from fleetward.errors import ConfigurationError

AGENT = 'sources = ["http://relay.example:2967"]\n'


def test_without_a_word_it_is_off() -> None:
    settings = parse_settings(AGENT, AgentSettings)
    assert not settings.sensor.on
    assert parse_settings(toml_text(settings), AgentSettings) == settings


def test_all_of_it() -> None:
    text = (
        AGENT + '[sensor]\non = true\naddresses = ["10.0.0.9"]\nports = [2967, 38293]\n'
        'udp = false\nclose = "rst"\nconnections = 8\nper_second = 100\n'
    )
    sensor = parse_settings(text, AgentSettings).sensor
    assert sensor == SensorSettings(
        on=True,
        addresses=("10.0.0.9",),
        ports=(2967, 38293),
        udp=False,
        close="rst",
        connections=8,
        per_second=100,
    )
    assert sensor.places == {(Transport.TCP, 2967), (Transport.TCP, 38293)}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ports": (0,)}, "1 to 65535"),
        ({"ports": (65_536,)}, "1 to 65535"),
        ({"ports": ()}, "1 to 64 places"),
        ({"addresses": ()}, "1 to 64 places"),
        ({"ports": tuple(range(1, 66)), "addresses": ("10.0.0.1",)}, "1 to 64 places"),
        ({"addresses": ("relay.example",)}, "relay.example"),
        ({"close": "answer"}, "fin or rst"),
        ({"connections": 0}, "1 to 1024"),
        ({"connections": 1_025}, "1 to 1024"),
        ({"per_second": 0}, "1 to 20000"),
        ({"per_second": 20_001}, "1 to 20000"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        SensorSettings(**wrong)


def test_announcements_and_the_sensor_cannot_share_a_port() -> None:
    push = PushSettings(announcements=True)
    sources = ("http://relay.example:2967",)
    with pytest.raises(ConfigurationError, match=r"sensor\.udp = false"):
        AgentSettings(sources=sources, push=push, sensor=SensorSettings(on=True))
    for sensor in (
        SensorSettings(on=True, udp=False),
        SensorSettings(on=True, ports=(2968,)),
        SensorSettings(),
    ):
        assert AgentSettings(sources=sources, push=push, sensor=sensor).sensor == sensor


def test_a_slip_of_the_pen_names_the_nearest_key() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'ports'"):
        parse_settings(AGENT + "[sensor]\nport = 2967\n", AgentSettings)
