"""The threads that follow and compare, inside a running server."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from console.catalogue.repositories import Origin, following, repository_settings
from fleetward.adapters.disk import SystemDisk
from fleetward.adapters.http import HttpSession
from fleetward.config.console import ConsoleFileSettings, RepositorySettings
from fleetward.config.strict import parse_settings
from fleetward.console.catalogue.comparing import ask
from fleetward.console.catalogue.following import kind_of
from fleetward.console.catalogue.models import Comparison, Kind, Release, Repository, Stage
from fleetward.console.catalogue.working import (
    _compare,
    _follow,
    _leave,
    _repeat,
    _session,
    open_trust,
    work_for_ever,
)
from fleetward.console.wiring import wired
from fleetward.errors import (
    BusyError,
    ConfigurationError,
    DigestError,
    DiskError,
    FleetwardError,
    MetadataError,
    NetworkError,
)


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    with Origin(tmp_path / "origin") as made:
        yield made


def test_without_a_repository_nothing_runs() -> None:
    asyncio.run(asyncio.wait_for(work_for_ever(), timeout=5))


def test_a_turn_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    stop, turns = threading.Event(), [0]

    def act() -> None:
        turns[0] += 1
        if turns[0] == 3:
            stop.set()
        raise ZeroDivisionError

    thread = threading.Thread(target=_repeat, args=(act, timedelta(milliseconds=1), stop))
    thread.start()
    thread.join(timeout=20)
    assert turns == [3]
    assert "the next one tries again" in caplog.text


@pytest.mark.django_db
def test_who_ends_gives_the_lease_up(origin: Origin, tmp_path: Path) -> None:
    origin.publish()
    with following(origin, tmp_path / "console") as console:
        assert console.follower.round()
        _leave(console.follower)
        assert Repository.objects.get().leader == ""


@pytest.mark.django_db
def test_who_leads_also_compares(origin: Origin, tmp_path: Path) -> None:
    origin.publish(files={"a.yar": b"rule a { condition: true }"})
    origin.publish(files={"a.yar": b"rule b { condition: true }"})
    with following(origin, tmp_path / "console") as console:
        leads = threading.Event()
        _compare(console.place, leads)
        _follow(console.follower, leads)
        assert leads.is_set()
        old, new = Release.objects.order_by("seq")
        ask(old, new, origin.clock.now())
        ask(new, old, origin.clock.now())
        _compare(console.place, leads)
        assert set(Comparison.objects.values_list("stage", flat=True)) == {Stage.DONE}
        Repository.objects.update(leader="another", lease=origin.clock.now() + timedelta(hours=1))
        _follow(console.follower, leads)
        assert not leads.is_set()


def test_the_anchor_is_read_once(origin: Origin, tmp_path: Path) -> None:
    """The file of the anchor may go after the first start; what was trusted is kept."""
    settings = repository_settings(origin)
    session = HttpSession(origin.clock)
    folder = tmp_path / "trust"
    open_trust(SystemDisk(), folder, settings, session, wired())
    settings.root.unlink()
    open_trust(SystemDisk(), folder, settings, session, wired())


def test_an_anchor_that_is_none(origin: Origin, tmp_path: Path) -> None:
    wrong = tmp_path / "root.json"
    wrong.write_text("{}")
    settings = RepositorySettings(url=origin.url, root=wrong)
    with pytest.raises(MetadataError):
        open_trust(SystemDisk(), tmp_path / "t", settings, HttpSession(origin.clock), wired())


def test_a_proxy_and_a_bundle_are_settings(origin: Origin, tmp_path: Path) -> None:
    settings = RepositorySettings(
        url="http://origin.example", root=tmp_path / "r", proxy="http://127.0.0.1:1"
    )
    session = _session(wired(), settings)
    with pytest.raises(NetworkError), session.get("http://origin.example/x", max_bytes=1):
        pass


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DigestError("x"), Kind.TRUST),
        (NetworkError("x"), Kind.NETWORK),
        (BusyError("x"), Kind.NETWORK),
        (DiskError("x"), Kind.DISK),
        (ConfigurationError("x"), Kind.CONFIGURATION),
    ],
)
def test_by_whom_an_error_is_solved(error: FleetwardError, kind: Kind) -> None:
    assert kind_of(error) is kind


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('url = "ftp://x"', "repository.url"),
        ('url = "http://x/"', "write 'http://x'"),
        ('url = "http://x"\npoll = 0', "poll is under a second"),
        ('url = "http://x"\nrot = 1', "unknown key"),
    ],
)
def test_settings_that_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_settings(f'[repository]\nroot = "r.json"\n{text}', ConsoleFileSettings)


def test_settings() -> None:
    text = '[repository]\nurl = "https://origin.example/repo"\nroot = "1.root.json"\npoll = 30\n'
    found = parse_settings(text, ConsoleFileSettings).repository
    assert found is not None
    assert (found.poll, found.root) == (timedelta(seconds=30), Path("1.root.json"))
    assert parse_settings("", ConsoleFileSettings).repository is None
