"""Settings: an unknown key names the nearest, a wrong value names the key, and files come back."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.adapters.disk import SystemDisk
from fleetward.config.agent import (
    AgentSettings,
    EngineSettings,
    NetworkSettings,
    Subscription,
    load_agent_settings,
    parse_subscription,
    save_agent_settings,
)
from fleetward.config.strict import load_settings, parse_settings, toml_text
from fleetward.core.names import ChannelName, ProductName
from fleetward.errors import ConfigurationError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    size: int = 1
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    name: str
    pause: timedelta = timedelta()
    on: bool = False
    inner: Inner = field(default_factory=Inner)
    rows: tuple[Inner, ...] = ()
    words: tuple[str, ...] = ()


WHOLE = Outer(
    name='a "quoted" näme\n',
    pause=timedelta(seconds=1.5),
    on=True,
    inner=Inner(size=2, path=Path("/x y")),
    rows=(Inner(size=3), Inner(path=Path("/z"))),
    words=("a", "b\\"),
)


def test_what_is_written_is_read_back() -> None:
    assert parse_settings(toml_text(WHOLE), Outer) == WHOLE


@given(st.builds(Outer, name=st.text(), words=st.lists(st.text()).map(tuple)))
def test_any_text_is_read_back(settings: Outer) -> None:
    assert parse_settings(toml_text(settings), Outer) == settings


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("nmae = 'x'", "unknown key 'nmae'; did you mean 'name'"),
        ("name='x'\nzzzzzz=1", "unknown key 'zzzzzz'; known are: name, pause"),
        ("name='x'\n[inner]\nsise=1", r"unknown key 'inner\.sise'; did you mean 'size'"),
        ("name='x'\n[[rows]]\nsise=1", r"unknown key 'rows\.sise'"),
        ("name=1", "name"),
        ("", "name"),
        ("name='x'\non=1", "on"),
        ("name='x'\npause='soon'", "pause"),
        ("name='x'\npause=true", "pause"),
        ("name='x'\npause=1e300", "no duration"),
        ("name='x'\npause=nan", "no duration"),
        ("name='x'\ninner=3", "inner"),
        ("name='x'\nrows=[3]", "rows"),
        ("name=", "not TOML"),
    ],
)
def test_what_is_wrong_is_said(text: str, because: str) -> None:
    with pytest.raises(ConfigurationError, match=because):
        parse_settings(text, Outer)


def test_durations_are_seconds() -> None:
    assert parse_settings("name='x'\npause=90", Outer).pause == timedelta(seconds=90)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    disk = SystemDisk()
    with pytest.raises(ConfigurationError, match="there is no"):
        load_settings(disk, tmp_path / "no.toml", Outer)
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(disk, tmp_path / "bin.toml", Outer)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_settings(disk, tmp_path / "folder.toml", Outer)
    (tmp_path / "bad.toml").write_text("x=1")
    with pytest.raises(ConfigurationError, match=r"bad\.toml: unknown key"):
        load_settings(disk, tmp_path / "bad.toml", Outer)


AGENT = AgentSettings(
    sources=("http://127.0.0.1:2967", "https://origin.test"),
    subscriptions=(
        Subscription(product=ProductName("yara"), folder=Path("/srv/yara")),
        Subscription(
            product=ProductName("av"), channel=ChannelName("canary"), folder=Path("/srv/av")
        ),
    ),
    rings=("early",),
    network=NetworkSettings(proxy="http://proxy.test:3128", ca_bundle=Path("/etc/ca.pem")),
    engines=(EngineSettings(name="yara", canaries=(Path("/c"),), bake=timedelta(hours=1)),),
)


def test_an_agents_settings_come_back(tmp_path: Path) -> None:
    save_agent_settings(SystemDisk(), tmp_path, AGENT)
    assert load_agent_settings(SystemDisk(), tmp_path) == AGENT


def test_what_an_agent_asks_of_its_settings() -> None:
    assert AGENT.engine("yara").bake == timedelta(hours=1)
    assert AGENT.engine("clamav") == EngineSettings(name="clamav")
    assert AGENT.subscription(ProductName("av")).channel == "canary"
    with pytest.raises(ConfigurationError, match="does not subscribe"):
        AGENT.subscription(ProductName("x"))
    with pytest.raises(ConfigurationError, match="it has: none"):
        AGENT.having(subscriptions=()).subscription(ProductName("x"))


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("sources=[]", "no source"),
        ("sources=['ftp://x']", "not an http or https URL"),
        ("sources=['http://x']\n[[subscriptions]]\nproduct='A'\nfolder='/x'", "no product name"),
        ("sources=['http://x']\n[[subscriptions]]\nproduct='a'\nfolder='x'", "absolute"),
        (
            "sources=['http://x']\nsubscriptions=[{product='a',folder='/x'},{product='b',folder='/x'}]",
            "one product or one folder",
        ),
    ],
)
def test_settings_that_no_agent_can_have(text: str, because: str) -> None:
    with pytest.raises(ConfigurationError, match=because):
        parse_settings(text, AgentSettings)


def test_subscriptions_on_the_command_line() -> None:
    plain = parse_subscription("yara=/srv/yara")
    assert (plain.product, plain.channel, plain.folder) == ("yara", "stable", Path("/srv/yara"))
    assert parse_subscription("yara@canary=/srv/y").channel == "canary"
    assert parse_subscription("yara=rel/y").folder.is_absolute()
    for text in ("yara", "yara=", "yara@=/x", "=/x", "Yara=/x"):
        with pytest.raises(UsageError):
            parse_subscription(text)
