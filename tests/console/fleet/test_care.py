"""What time does to rows."""

from datetime import timedelta

import pytest

from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.console.audit.models import Entry
from fleetward.console.fleet import care as module
from fleetward.console.fleet.care import Retention, care
from fleetward.console.fleet.models import CheckIn, Event, Host, Transition
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
    monkeypatch.setattr(module, "PIECE", 2)
    add_host()
    for n in range(5):
        bring(check_in(n=n + 1), at=START + n * timedelta(hours=1))
    later = START + 10 * DAY
    assert [care(later).pruned for _ in range(4)] == [2, 2, 1, 0]


def test_a_host_that_is_silent_for_long_is_retired() -> None:
    add_host(0)
    add_host(1)
    bring(check_in(0), at=START + 60 * DAY)
    done = care(START + 91 * DAY, Retention())
    assert done.retired == 1
    assert {h.record[-1]: h.standing for h in Host.objects.all()} == {"0": "active", "1": "retired"}
    assert Entry.objects.get(action="hosts.revoke").actor == "console"
    care(START + 151 * DAY)
    assert set(Host.objects.values_list("standing", flat=True)) == {"retired"}


def test_nothing_to_do_writes_nothing() -> None:
    done = care(START)
    assert (done.pruned, done.expired, done.retired) == (0, 0, 0)
    assert not Entry.objects.exists()
