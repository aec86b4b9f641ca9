"""What the console signs for hosts: acknowledgements, directives, and their numbers."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from console.hosts import MINUTE, acknowledged, add_host, bring, check_in
from fleetward.console.audit.chain import Actor
from fleetward.console.audit.models import Entry
from fleetward.console.fleet import directives
from fleetward.console.fleet.directives import Wish, direct, expire, withdraw
from fleetward.console.fleet.inboxes import inbox_for, inbox_numbers
from fleetward.console.fleet.models import Directive, HostKey, Presence
from fleetward.console.wiring import rewired
from fleetward.core.inbox import DirectiveKind, Inbox
from fleetward.core.status import EventKind, HostEvent
from fleetward.errors import UsageError
from fleetward.identity.checkins import verify_inbox
from support.fakes import START, FakeClock
from support.status import CONSOLE, EPOCH, event, host_key

pytestmark = pytest.mark.django_db

ADA = Actor("user", "ada")
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    made = FakeClock()
    with rewired(clock=made):
        yield made


def inbox(number: int = 0, after: int = 0, now: datetime = START) -> Inbox | None:
    content = inbox_for(host_key(number).id, after, CONSOLE, now)
    if content is None:
        return None
    return verify_inbox(content, host_key(number).id, [CONSOLE.public.signing], seen=after, now=now)


def required(found: Inbox | None) -> Inbox:
    assert found is not None
    return found


def test_events_are_acknowledged_up_to_the_first_gap() -> None:
    add_host()
    bring(check_in(n=1, events=(event(1), event(2), event(4))))
    assert acknowledged(inbox_for(host_key().id, 0, CONSOLE, START)) == {EPOCH: 2}


def test_nothing_new_has_no_inbox() -> None:
    add_host()
    assert inbox() is None
    bring(check_in(n=1))
    assert inbox() is None
    bring(check_in(n=2, events=(event(1),)))
    first = required(inbox())
    assert inbox(after=first.seq) is None
    assert first.expires - first.issued == DAY


def test_an_event_that_comes_again_is_acknowledged_again() -> None:
    """The host accepted the inbox and stopped before it let the event go: it must hear it again."""
    add_host()
    bring(check_in(n=1, events=(event(1),)))
    first = required(inbox())
    bring(check_in(n=2, events=(event(1),)), at=START + MINUTE)
    again = required(inbox(after=first.seq, now=START + MINUTE))
    assert again.acks == first.acks


def test_an_unknown_and_a_revoked_key_have_none() -> None:
    with pytest.raises(LookupError):
        inbox()
    add_host()
    HostKey.objects.update(standing="revoked")
    with pytest.raises(LookupError):
        inbox()


def test_a_console_that_was_set_back_is_noticed_by_the_hosts_number() -> None:
    """Restored from last night's backup, it learns from the host's number that it forgot."""
    add_host()
    bring(check_in(n=1, events=(event(1),)))
    backup = Presence.objects.get()
    bring(check_in(n=2, events=(event(2),)), at=START + 60 * MINUTE)
    seen = required(inbox(now=START + 60 * MINUTE)).seq
    backup.save()
    now = START + 120 * MINUTE
    asked = required(inbox(after=seen, now=now))
    assert asked.seq > seen
    assert {ack.e for ack in asked.acks} == {1}, "event 2 is asked for again"


def test_numbers_from_the_future_make_no_work() -> None:
    add_host()
    bring(check_in(n=1, events=(event(1),)))
    before = Presence.objects.get().inbox_seq
    assert inbox(after=2**53 - 1, now=START + 60 * MINUTE) is None
    assert inbox(after=before + 1, now=START + timedelta(seconds=30)) is None
    assert Presence.objects.get().inbox_seq == before


# -- directives ----------------------------------------------------------------------------------------


def test_a_directive_is_queued_carried_and_done() -> None:
    host = add_host()
    bring(check_in(n=1))
    row = direct(ADA, [host], Wish(kind=DirectiveKind.UPDATE_NOW, product="yara"))[0]
    assert row.state == "queued"
    found = required(inbox())
    assert [(d.id, d.kind, d.product) for d in found.directives] == [
        (row.directive, DirectiveKind.UPDATE_NOW, "yara")
    ]
    assert Directive.objects.get().state == "carried"
    done = HostEvent(e=1, at=START, kind=EventKind.DIRECTIVE_DONE, subject=row.directive)
    bring(check_in(n=2, events=(done,)), at=START + MINUTE)
    assert Directive.objects.get().state == "done"
    assert required(inbox(after=found.seq, now=START + MINUTE)).directives == ()
    assert Entry.objects.get(action="hosts.direct").subject == f"host:{host.record}"


def test_a_directive_gives_the_inbox_a_new_number() -> None:
    host = add_host()
    bring(check_in(n=1, events=(event(1),)))
    first = required(inbox())
    direct(ADA, [host], Wish(kind=DirectiveKind.LIST_PORTS))
    assert required(inbox(after=first.seq)).seq == first.seq + 1


def test_a_pause_has_an_end_within_a_day() -> None:
    host = add_host()
    bring(check_in(n=1))
    wish = Wish(kind=DirectiveKind.PAUSE, pause=timedelta(hours=2))
    row = direct(ADA, [host], wish)[0]
    assert row.expires == row.until == START + timedelta(hours=2)
    assert required(inbox()).directives[0].until == START + timedelta(hours=2)
    for wrong in (timedelta(), timedelta(hours=25)):
        with pytest.raises(UsageError):
            direct(ADA, [host], Wish(kind=DirectiveKind.PAUSE, pause=wrong))


@pytest.mark.parametrize(
    "wish",
    [
        Wish(kind=DirectiveKind.PAUSE),
        Wish(kind=DirectiveKind.UPDATE_NOW, pause=timedelta(hours=1)),
        Wish(kind=DirectiveKind.ROLL_BACK),
        Wish(kind=DirectiveKind.VERIFY_TREE, product="Not A Name"),
    ],
)
def test_what_is_not_in_the_closed_list_is_refused(wish: Wish) -> None:
    with pytest.raises(UsageError):
        direct(ADA, [add_host()], wish)
    assert not Directive.objects.exists()


def test_a_directive_for_many_is_one_entry_in_the_audit_log() -> None:
    hosts = [add_host(number) for number in range(3)]
    hosts[2].standing = "revoked"
    made = direct(ADA, hosts, Wish(kind=DirectiveKind.VERIFY_TREE))
    assert len(made) == 2, "a revoked host is asked nothing"
    assert Entry.objects.get(action="hosts.direct").subject == "hosts:2"


def test_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directives, "MAX_HOSTS", 1)
    with pytest.raises(UsageError):
        direct(ADA, [add_host(0), add_host(1)], Wish(kind=DirectiveKind.UPDATE_NOW))


def test_a_withdrawn_directive_leaves_the_inbox() -> None:
    host = add_host()
    bring(check_in(n=1))
    row = direct(ADA, [host], Wish(kind=DirectiveKind.UPDATE_NOW))[0]
    first = required(inbox())
    assert withdraw(ADA, row)
    assert required(inbox(after=first.seq)).directives == ()
    assert not withdraw(ADA, row), "it is withdrawn already"


def test_a_directive_expires() -> None:
    host = add_host()
    bring(check_in(n=1))
    direct(ADA, [host], Wish(kind=DirectiveKind.UPDATE_NOW))
    assert required(inbox(now=START + DAY)).directives == ()
    assert expire(START + DAY) == 1
    assert Directive.objects.get().state == "expired"


def test_an_answer_that_comes_after_the_expiry_still_counts() -> None:
    host = add_host()
    bring(check_in(n=1))
    row = direct(ADA, [host], Wish(kind=DirectiveKind.UPDATE_NOW))[0]
    expire(START + DAY)
    done = HostEvent(e=1, at=START, kind=EventKind.DIRECTIVE_DONE, subject=row.directive)
    bring(check_in(n=2, events=(done,)), at=START + DAY)
    assert Directive.objects.get().state == "done"


def test_a_pause_that_is_over_is_not_sent() -> None:
    host = add_host()
    bring(check_in(n=1))
    row = direct(ADA, [host], Wish(kind=DirectiveKind.PAUSE, pause=MINUTE))[0]
    Directive.objects.filter(pk=row.pk).update(expires=START + DAY)
    assert required(inbox(now=START + 2 * MINUTE)).directives == ()


def test_a_replaced_key_hears_acknowledgements_alone() -> None:
    host = add_host()
    bring(check_in(n=1, events=(event(1),)))
    direct(ADA, [host], Wish(kind=DirectiveKind.UPDATE_NOW))
    HostKey.objects.update(standing="replaced")
    found = required(inbox())
    assert (len(found.acks), found.directives) == (1, ())


def test_numbers_are_those_of_the_inboxes() -> None:
    """What one query says of many hosts is what each one's inbox has; others are not named."""
    for number in range(4):
        add_host(number)
    bring(check_in(0, 1, events=(event(1),)), check_in(1))
    HostKey.objects.filter(key=host_key(3).id).update(standing="revoked")
    HostKey.objects.filter(key=host_key(0).id).update(standing="replaced")
    keys = [host_key(number).id for number in range(5)]
    numbers = inbox_numbers([*keys, keys[0]])
    assert numbers == {
        keys[0]: Presence.objects.get(key__key=keys[0]).inbox_seq,
        keys[1]: 0,
        keys[2]: None,
    }
    assert required(inbox(0)).seq == numbers[keys[0]]
    assert inbox_numbers([]) == {}
