"""One report of an agent's folder, with the agent's own records, trust and directives."""

import platform
from collections.abc import Generator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetward.adapters.clock import SystemClock
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.entropy import SystemEntropy
from fleetward.agent import acting
from fleetward.agent.acting import AgentActs, host_facts, report, seen_of
from fleetward.agent.checkins import Way
from fleetward.agent.home import Home
from fleetward.agent.inbox import Tree
from fleetward.agent.verifying import Difference
from fleetward.agent.wiring import create_agent
from fleetward.cli.agent import app
from fleetward.config.agent import AgentSettings, parse_subscription
from fleetward.core.enrolment import Standing
from fleetward.core.names import ProductName
from fleetward.core.status import SeenVersions
from fleetward.errors import ConfigurationError, NetworkError
from fleetward.wire.tokenfile import encode_token_file
from support.standinconsole import RECORD, StandInConsole, stand_in_console
from support.tufsim import SimFleet

YARA = ProductName("yara")


@pytest.fixture
def console() -> Generator[StandInConsole]:
    with stand_in_console(SystemClock()) as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(SystemDisk(), tmp_path / "home")
    subscription = parse_subscription(f"yara={tmp_path}/yara")
    settings = AgentSettings(sources=("http://127.0.0.1:1",), subscriptions=(subscription,))
    create_agent(made, settings, root_of_a_repository(), SystemEntropy())
    return made


def root_of_a_repository() -> bytes:
    return SimFleet(SystemClock()).anchor


def enroll(home: Home, console: StandInConsole, tmp_path: Path) -> tuple[int, str]:
    file = tmp_path / "token.json"
    file.write_bytes(encode_token_file(console.token_file))
    result = CliRunner().invoke(app, ["enroll", str(home.path), "--token-file", str(file)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_host_is_enrolled_by_command_and_reports(
    home: Home, console: StandInConsole, tmp_path: Path
) -> None:
    clock, entropy = SystemClock(), SystemEntropy()
    assert report(home, clock, entropy).way is Way.NOT_ENROLLED
    code, words = enroll(home, console, tmp_path)
    assert code == 0
    assert RECORD in words.replace("\n", "")
    assert report(home, clock, entropy).way is Way.STORED
    said = console.check_ins[0]
    assert [product.product for product in said.products] == ["yara"]
    assert said.tuf == SeenVersions(), "it has not checked yet"


def test_a_host_that_waits_is_told_so(home: Home, console: StandInConsole, tmp_path: Path) -> None:
    console.standing = Standing.PENDING
    code, words = enroll(home, console, tmp_path)
    assert (code, "approve" in words) == (0, True)


def test_a_refusal_is_an_error(home: Home, console: StandInConsole, tmp_path: Path) -> None:
    console.standing = Standing.REFUSED
    with pytest.raises(ConfigurationError, match="so it was decided"):
        enroll(home, console, tmp_path)


def test_a_token_file_that_is_not_there(home: Home, tmp_path: Path) -> None:
    arguments = ["enroll", str(home.path), "--token-file", str(tmp_path / "none")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigurationError)


def test_directives_act_on_the_agent(home: Home) -> None:
    acts = AgentActs(home)
    with pytest.raises(NetworkError):
        acts.update_now(None)
    assert acts.verify_tree(YARA) == (Tree(product=YARA),)
    with pytest.raises(ConfigurationError):
        acts.verify_tree(ProductName("clamav"))
    with pytest.raises(ConfigurationError):
        acts.roll_back(YARA)
    with pytest.raises(ConfigurationError):
        acts.list_ports()
    assert AgentActs(home, lambda: "3 listeners").list_ports() == "3 listeners"


def test_what_it_saw_before_it_ever_checked(home: Home) -> None:
    seen = seen_of(home, SystemClock())
    assert (seen.check, seen.clock, seen.ports) == (None, None, None)
    assert [record.product for record in seen.records] == [YARA]


def test_a_machine_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert host_facts("north").site == "north"
    assert host_facts().name

    def none() -> dict[str, str]:
        raise OSError("no such file")

    monkeypatch.setattr(platform, "freedesktop_os_release", none)
    assert host_facts().os


def test_drift_is_said_in_words() -> None:
    changed, removed = Difference("a.yar", "changed"), Difference("b.yar", "removed")
    assert acting._drift(()) == "has drifted"
    assert acting._drift((changed,)) == "has drifted: a.yar was changed"
    assert acting._drift((removed, changed)) == "has drifted: b.yar was removed and 1 more"
    assert acting._drift((removed, *[changed] * 1_000)).endswith("and 1,000 more")
