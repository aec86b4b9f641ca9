"""The port watch's settings."""

from datetime import timedelta
from pathlib import Path

import pytest

from fleetward.adapters.disk import SystemDisk
from fleetward.config.ports import PortsSettings, agent_ports_settings, load_ports_settings
from fleetward.core.listeners import Transport
from fleetward.core.portrules import PortRule, Verdict
from fleetward.core.ports import RelayRole
from fleetward.errors import ConfigurationError

WHOLE = """
ports = [2967, 3142]
exclude = [68]
relay = "none"
interval = 5
refresh = 600
settle = 0

[[rules]]
name = "the cache of apt"
port = 3142
protocol = "tcp"
package = "apt-cacher-ng"
despite = ["executable-deleted"]

[[rules]]
name = "not here"
verdict = "suspicious"
path = "/opt/*"
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "ports.toml"
    path.write_text(text)
    return path


def test_a_whole_file(tmp_path: Path) -> None:
    settings = load_ports_settings(SystemDisk(), written(tmp_path, WHOLE))
    assert settings.ports == (2967, 3142)
    assert settings.relay is RelayRole.NONE
    assert settings.interval == timedelta(seconds=5)
    first = PortRule(
        name="the cache of apt",
        port=3142,
        protocol=Transport.TCP,
        package="apt-cacher-ng",
        despite=("executable-deleted",),
    )
    assert settings.rules[0] == first
    assert settings.rules[1].verdict is Verdict.SUSPICIOUS
    assert settings.expectations().role is RelayRole.NONE


def test_an_agent_without_the_file_watches_2967(tmp_path: Path) -> None:
    settings = agent_ports_settings(SystemDisk(), tmp_path)
    assert settings == PortsSettings()
    assert (settings.watch, settings.ports) == (True, (2967,))
    written(tmp_path, "watch = false")
    assert not agent_ports_settings(SystemDisk(), tmp_path).watch


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("port = [1]", "did you mean 'ports'"),
        ("ports = [0]", "no port 0"),
        ("exclude = [70000]", "no port 70000"),
        ('relay = "maybe"', "relay"),
        ("interval = 0", "1 or more seconds"),
        ("settle = -1", "settle 0 or more"),
        ('[[rules]]\nname = "x"', "names nothing"),
        ('[[rules]]\nname = "x"\nport = 1\ndespite = ["deleted"]', "executable-deleted"),
        ('[[rules]]\nname = "x"\nport = 1\nverdict = "fine"', "verdict"),
        ('[[rules]]\nname = "x"\nsha256 = "12"', "digest"),
        ('[[rules]]\nname="x"\nport=1\n' * 1001, "1000 are allowed"),
    ],
)
def test_mistakes_say_what_to_write(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        load_ports_settings(SystemDisk(), written(tmp_path, text))


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no"):
        load_ports_settings(SystemDisk(), tmp_path / "none.toml")
