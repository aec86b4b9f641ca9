"""What listens, after check-ins with events of the port watch came, in whatever order."""

from datetime import timedelta

import pytest
from django.utils import timezone

from console.hosts import MINUTE, add_host, bring, check_in
from fleetward.console.fleet.models import Directive, Event, Host, HostKey
from fleetward.console.fleet.standings import DirectiveState, KeyStanding
from fleetward.console.ports.counting import count, current
from fleetward.console.ports.deciding import NOTHING_LISTENS
from fleetward.console.ports.models import Group, Listener
from fleetward.console.wiring import wired
from fleetward.core.status import Epoch, EventKind, HostEvent
from support.fakes import START
from support.status import host_key

pytestmark = pytest.mark.django_db

DIGEST = "ab" * 16
OTHER = "cd" * 16


def told(
    e: int,
    what: str = "opened",
    *,
    subject: str = "tcp/2967 nc",
    detail: str = f"unknown every-address sha256={DIGEST} reasons=nothing-expects-it path=/bin/nc",
) -> HostEvent:
    return HostEvent(
        e=e,
        at=START + timedelta(seconds=e),
        kind=EventKind(f"listener-{what}"),
        subject=subject,
        detail=detail,
    )


def bring_events(*events: HostEvent, n: int, number: int = 0, **more: object) -> None:
    bring(check_in(number, n, events=events, **more), at=START + n * MINUTE)


def open_ports() -> list[tuple[str, int, str, str]]:
    rows = Listener.objects.filter(is_open=True).order_by("port", "sha256", "unit")
    return [(row.protocol, row.port, row.sha256, row.verdict) for row in rows]


def test_an_opened_listener_is_there_with_all_that_was_told() -> None:
    host = add_host()
    bring_events(told(1), n=1)
    row = Listener.objects.get()
    assert (row.host, row.key) == (host, host.key)
    assert (row.protocol, row.port, row.reach) == ("tcp", 2967, "every-address")
    assert (row.name, row.path, row.sha256) == ("nc", "/bin/nc", DIGEST)
    assert (row.verdict, row.reason_ids) == ("unknown", ["nothing-expects-it"])
    assert (row.is_open, row.first_seen, row.e) == (True, START + timedelta(seconds=1), 1)
    assert row.stored == START + MINUTE


def test_a_check_in_without_such_an_event_touches_nothing() -> None:
    add_host()
    bring_events(told(1), n=1)
    before = Listener.objects.values().get()
    bring(check_in(n=2), at=START + 2 * MINUTE)
    assert Listener.objects.values().get() == before


def test_a_closed_listener_is_gone_and_its_first_time_stays() -> None:
    add_host()
    bring_events(told(1), n=1)
    bring_events(told(2, "closed"), n=2)
    assert open_ports() == []
    bring_events(told(3), n=3)
    assert open_ports() == [("tcp", 2967, DIGEST, "unknown")]
    assert Listener.objects.get().first_seen == START + timedelta(seconds=1)


def test_an_opening_that_comes_after_its_closing_opens_nothing() -> None:
    add_host()
    bring_events(told(2, "closed"), n=2)
    bring_events(told(1), n=1)
    assert open_ports() == []
    assert Listener.objects.get().first_seen == START + timedelta(seconds=1)


def test_the_same_event_again_changes_nothing() -> None:
    add_host()
    bring_events(told(1), n=1)
    bring_events(told(2, "closed"), n=2)
    bring_events(told(1), told(2, "closed"), n=3)
    assert open_ports() == []
    assert Event.objects.count() == 2


def test_another_file_at_the_same_place_takes_the_place_of_the_first() -> None:
    add_host()
    bring_events(told(1), n=1)
    changed = f"suspicious every-address sha256={OTHER} was={DIGEST} reasons=package-altered"
    bring_events(told(2, "changed", detail=changed), n=2)
    assert open_ports() == [("tcp", 2967, OTHER, "suspicious")]


def test_the_first_file_told_of_after_its_successor_stays_gone() -> None:
    add_host()
    changed = f"suspicious every-address sha256={OTHER} was={DIGEST} reasons=package-altered"
    bring_events(told(2, "changed", detail=changed), n=2)
    bring_events(told(1), n=1)
    assert open_ports() == [("tcp", 2967, OTHER, "suspicious")]


def test_another_verdict_on_the_same_file_keeps_the_listener() -> None:
    add_host()
    bring_events(told(1), n=1)
    changed = f"expected every-address sha256={DIGEST} was=unknown reasons=operator-rule"
    bring_events(told(2, "changed", detail=changed), n=2)
    assert open_ports() == [("tcp", 2967, DIGEST, "expected")]
    assert Listener.objects.count() == 1


def test_what_cannot_be_read_is_in_the_events_alone() -> None:
    add_host()
    muted = told(1, "changed", subject="", detail="17 more changes were not told one by one")
    odd = told(2, subject="tcp/0 x", detail="unknown loopback")
    starred = told(3, detail="unknown loopback unit=*listed")
    bring_events(muted, odd, starred, n=1)
    assert Event.objects.count() == 3
    assert Listener.objects.count() == 0


def ask_for_ports(host: Host, kind: str = "list-ports") -> Directive:
    return Directive.objects.create(
        directive="d" * 16,
        host=host,
        kind=kind,
        state=DirectiveState.CARRIED,
        created=START,
        created_by="ada",
        expires=START + timedelta(days=1),
    )


def answered(e: int, answer: str, directive: str = "d" * 16) -> HostEvent:
    return HostEvent(
        e=e,
        at=START + timedelta(seconds=e),
        kind=EventKind.DIRECTIVE_DONE,
        subject=directive,
        detail=answer,
    )


SECOND = told(2, subject="udp/68 dhcp", detail="expected loopback")


def test_an_answer_to_list_ports_closes_what_it_does_not_name() -> None:
    ask_for_ports(add_host())
    bring_events(told(1), SECOND, n=1)
    bring_events(answered(3, "udp/68 dhcp expected"), n=2)
    assert open_ports() == [("udp", 68, "", "expected")]
    assert Directive.objects.get().state == DirectiveState.DONE


def test_an_answer_that_names_nothing_closes_all() -> None:
    ask_for_ports(add_host())
    bring_events(told(1), SECOND, n=1)
    bring_events(answered(3, NOTHING_LISTENS), n=2)
    assert open_ports() == []


def test_what_was_told_before_an_answer_and_comes_after_it_stays_closed() -> None:
    ask_for_ports(add_host())
    bring_events(answered(3, NOTHING_LISTENS), n=3)
    bring_events(told(1), n=1)
    assert open_ports() == []
    bring_events(told(4), n=4)
    assert open_ports() == [("tcp", 2967, DIGEST, "unknown")]


@pytest.mark.parametrize("answer", ["udp/68 dhcp expected; tcp/80 a…", "the port watch is off"])
def test_an_answer_that_is_not_whole_closes_nothing(answer: str) -> None:
    ask_for_ports(add_host())
    bring_events(told(1), SECOND, n=1)
    bring_events(answered(3, answer), n=2)
    assert len(open_ports()) == 2


def test_an_answer_to_another_directive_closes_nothing() -> None:
    ask_for_ports(add_host(), kind="verify-tree")
    bring_events(told(1), n=1)
    bring_events(answered(3, NOTHING_LISTENS), n=2)
    assert len(open_ports()) == 1


def test_an_answer_with_the_directive_of_another_host_closes_nothing() -> None:
    ask_for_ports(add_host(1))
    add_host(0)
    bring_events(told(1), n=1)
    bring_events(answered(3, NOTHING_LISTENS), n=2)
    assert len(open_ports()) == 1


def test_a_replaced_key_says_nothing_of_what_listens_now() -> None:
    host = add_host()
    bring_events(told(1), n=1)
    HostKey.objects.filter(host=host).update(standing=KeyStanding.REPLACED)
    bring_events(told(2, subject="tcp/80 x", detail="unknown loopback"), n=2)
    assert Event.objects.count() == 2
    assert [port for _, port, _, _ in open_ports()] == [2967]


def test_a_reinstalled_host_is_shown_by_its_new_key_alone() -> None:
    host = add_host()
    bring_events(told(1), n=1)
    new = host_key(7)
    host.key = HostKey.objects.create(
        key=new.id, public=new.public, host=host, standing=KeyStanding.ACTIVE, enrolled=START
    )
    host.save()
    assert not current().exists()
    bring_events(told(1, subject="tcp/80 x", detail="unknown loopback"), n=1, number=7)
    assert [row.port for row in current()] == [80]
    count(timezone.now(), wired().clock)
    assert [row.port for row in Listener.objects.all()] == [80]
    assert [(group.port, group.hosts) for group in Group.objects.all()] == [(80, 1)]


def test_a_decommissioned_host_is_not_counted_and_comes_back_by_itself() -> None:
    host = add_host()
    bring_events(told(1), n=1)
    Host.objects.filter(pk=host.pk).update(standing="retired")
    assert not current().exists()
    bring(check_in(n=2), at=START + 2 * MINUTE)
    assert current().count() == 1


def test_a_new_epoch_goes_on_where_the_old_one_ended() -> None:
    add_host()
    bring_events(told(9), n=9)
    closed = HostEvent(
        e=1,
        at=START + timedelta(hours=1),
        kind=EventKind.LISTENER_CLOSED,
        subject="tcp/2967 nc",
        detail=f"unknown every-address sha256={DIGEST}",
    )
    bring_events(closed, n=70, epoch=Epoch("ffeeddccbbaa9988"))
    assert open_ports() == []


def test_a_host_that_makes_listeners_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fleetward.console.ingest.listeners.MAX_LISTENERS", 30)
    add_host()
    for n in range(1, 4):
        flood = [
            told(e, subject=f"tcp/{1000 + e} x", detail="unknown loopback")
            for e in range(20 * n - 19, 20 * n + 1)
        ]
        bring_events(*flood, n=n)
    assert Listener.objects.count() == 30
    assert Event.objects.count() == 60


def test_two_hosts_in_one_batch_are_told_apart() -> None:
    add_host(0)
    add_host(1)
    bring(
        check_in(0, 1, events=(told(1),)),
        check_in(1, 1, events=(told(1), told(2, "closed"))),
        at=START + MINUTE,
    )
    assert [row.host.record for row in Listener.objects.filter(is_open=True)] == [f"{0:016x}"]
