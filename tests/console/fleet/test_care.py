"""What time does to rows."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.config.console import HistorySettings
from fleetward.console import pruning
from fleetward.console.audit.models import Entry
from fleetward.console.fleet import care as module
from fleetward.console.fleet.care import care, care_for_ever
from fleetward.console.fleet.models import CheckIn, Event, Host, Transition
from fleetward.console.wiring import rewired, wired
from support.fakes import START
from support.status import event, product

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def test_whole_check_ins_go_after_days_and_transitions_after_years() -> None:
    add_host()
    bring(check_in(n=1, events=(event(1),)))
    bring(check_in(n=2, products=(product("yara", "r2"),)), at=START + 2 * DAY)
    assert care(START + 3 * DAY + MINUTE).pruned == 1
    assert list(CheckIn.objects.order_by("n").values_list("n", flat=True)) == [2]
    assert Event.objects.count() == 1
    care(START + 401 * DAY)
    assert not Event.objects.exists()
    assert Transition.objects.count() == 6
    care(START + 5 * 366 * DAY)
    assert not Transition.objects.exists()


def test_pruning_takes_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "PIECE", 2)
    add_host()
    for n in range(5):
        bring(check_in(n=n + 1), at=START + n * timedelta(hours=1))
    later = START + 10 * DAY
    rounds = [care(later) for _ in range(4)]
    assert [done.pruned for done in rounds] == [2, 2, 1, 0]
    assert [done.is_more for done in rounds] == [True, True, False, False]


def test_a_host_that_is_silent_for_long_is_retired() -> None:
    add_host(0)
    add_host(1)
    bring(check_in(0), at=START + 60 * DAY)
    done = care(START + 91 * DAY)
    assert done.retired == 1
    assert {h.record[-1]: h.standing for h in Host.objects.all()} == {"0": "active", "1": "retired"}
    assert Entry.objects.get(action="hosts.revoke").actor == "console"
    care(START + 151 * DAY)
    assert set(Host.objects.values_list("standing", flat=True)) == {"retired"}


def test_the_settings_say_how_long_rows_stay() -> None:
    add_host()
    bring(check_in(n=1, events=(event(1),)))
    wanted = HistorySettings(check_ins=20, events=9, transitions=40, silent_hosts=12)
    with rewired(settings=replace(wired().settings, history=wanted)):
        care(START + 8 * DAY)
        assert (CheckIn.objects.count(), Event.objects.count()) == (1, 1)
        care(START + 10 * DAY)
        assert (CheckIn.objects.count(), Event.objects.count()) == (1, 0)
        assert care(START + 13 * DAY).retired == 1
        care(START + 21 * DAY)
        assert (CheckIn.objects.count(), Transition.objects.count()) == (0, 3)
        care(START + 41 * DAY)
        assert not Transition.objects.exists()


def test_a_replay_brings_no_event_back_that_time_took() -> None:
    add_host()
    old = check_in(n=1, events=(event(1),))
    bring(old)
    care(START + 401 * DAY)
    assert not Event.objects.exists()
    bring(old, at=START + 402 * DAY)
    assert not Event.objects.exists()
    bring(check_in(n=2, events=(event(2),)), at=START + 402 * DAY)
    assert list(Event.objects.values_list("e", flat=True)) == [2]


def test_hosts_are_retired_by_pieces_each_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HOSTS", 2)
    for number in range(3):
        add_host(number)
    rounds = [care(START + 91 * DAY) for _ in range(3)]
    assert [(done.retired, done.is_more) for done in rounds] == [(2, True), (1, False), (0, False)]
    assert Entry.objects.filter(action="hosts.revoke").count() == 2


def test_rounds_follow_each_other_while_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """More comes in a minute than one piece holds, where the fleet is large."""
    left, slept = [3], []

    def one_round() -> bool:
        left[0] -= 1
        return left[0] > 0

    async def asleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(module, "_round", one_round)
    monkeypatch.setattr("asyncio.sleep", asleep)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(care_for_ever())
    assert slept == [0.25, 0.25, 60.0, 60.0]


def test_nothing_to_do_writes_nothing() -> None:
    done = care(START)
    assert (done.pruned, done.expired, done.retired) == (0, 0, 0)
    assert not Entry.objects.exists()
