"""What the store holds after check-ins came, in whatever order, from whomever."""

from datetime import timedelta

import pytest

from console.hosts import MINUTE, acknowledged, add_host, bring, check_in, stored_events
from fleetward.console.fleet.inboxes import inbox_for
from fleetward.console.fleet.models import (
    CheckIn,
    Directive,
    Event,
    Host,
    HostKey,
    Presence,
    ProductState,
    RetiredEpoch,
    Transition,
)
from fleetward.console.ingest.rows import Verdict
from fleetward.core.install import State
from fleetward.core.status import Epoch, EventKind, HostEvent, PortsSummary, SeenVersions
from fleetward.identity.checkins import seal_check_in
from fleetward.wire.checkins import CHECKIN_TYPE, encode_check_in
from support.fakes import START
from support.status import (
    CONSOLE,
    EPOCH,
    OTHER_CONSOLE,
    event,
    host_key,
    product,
    usual,
)

pytestmark = pytest.mark.django_db

OTHER_EPOCH = Epoch("ffeeddccbbaa9988")
STORED = [Verdict.STORED]


def presence(number: int = 0) -> Presence:
    return Presence.objects.get(key__key=host_key(number).id)


def test_a_check_in_says_what_the_host_runs() -> None:
    host = add_host()
    assert bring(check_in(n=7), at=START + 8 * MINUTE) == STORED
    row = presence()
    assert (row.epoch, row.greatest_n, row.peer) == (EPOCH, 7, "10.0.0.7")
    assert (row.seen, row.offset_ms) == (START + 8 * MINUTE, 60_000)
    assert (row.relay, row.clock) == ("relay-17.site.example:2967", -12)
    assert (row.tuf_root, row.tuf_timestamp, row.tuf_snapshot) == (3, 123456, 12345)
    assert (row.listeners, row.unexpected) == (23, 1)
    states = ProductState.objects.filter(host=host)
    assert [s.product for s in states] == ["clamav", "suricata", "yara"]
    assert {(s.release, s.seq, s.state, s.wave) for s in states} == {
        ("2026.11.24-1", 1234, "confirmed", 2)
    }
    assert Transition.objects.count() == 3


def test_nothing_new_writes_the_presence_alone() -> None:
    add_host()
    bring(check_in(n=1), at=START + MINUTE)
    bring(check_in(n=2), at=START + 2 * MINUTE)
    assert presence().greatest_n == 2
    assert CheckIn.objects.count() == 1
    assert Transition.objects.count() == 3


def test_now_and_then_a_check_in_is_kept_whole() -> None:
    add_host()
    for n in range(1, 26):
        bring(check_in(n=n), at=START + n * MINUTE)
    assert list(CheckIn.objects.order_by("n").values_list("n", flat=True)) == [1, 11, 21]
    kept = CheckIn.objects.first()
    assert kept is not None
    assert b'"release":"2026.11.24-1"' in bytes(kept.content)


def test_a_new_release_is_a_transition_and_is_kept_with_what_was_signed() -> None:
    host = add_host()
    bring(check_in(n=1), at=START)
    envelope = check_in(n=2, products=(product("yara", "2026.11.25-1"),))
    bring(envelope, at=START + MINUTE)
    gone = Transition.objects.filter(host=host, state="left")
    assert {t.product for t in gone} == {"clamav", "suricata"}
    moved = Transition.objects.get(host=host, release="2026.11.25-1")
    assert (moved.release_before, moved.at) == ("2026.11.24-1", START + MINUTE)
    assert ProductState.objects.get(host=host).since == START + MINUTE
    assert bytes(CheckIn.objects.get(n=2).envelope or b"") == envelope


def test_a_state_that_did_not_change_keeps_its_beginning() -> None:
    host = add_host()
    bring(check_in(n=1), at=START)
    bring(
        check_in(n=2, ports=PortsSummary(listeners=9, unexpected=0, digest="cd" * 8)),
        at=START + MINUTE,
    )
    assert {s.since for s in ProductState.objects.filter(host=host)} == {START}
    assert Transition.objects.count() == 3
    assert presence().listeners == 9


def test_a_host_without_port_watch_has_no_number_of_listeners() -> None:
    add_host()
    bring(check_in(ports=None, clock=None, tuf=SeenVersions()))
    assert (presence().listeners, presence().clock) == (None, None)
    bring(check_in(n=2))
    assert presence().listeners == 23


def test_one_batch_may_have_many_of_one_host() -> None:
    add_host()
    add_host(1)
    envelopes = [
        check_in(0, 1),
        check_in(1, 1),
        check_in(0, 3, products=(product("yara", "r3"),), events=(event(2),)),
        check_in(0, 2, products=(product("yara", "r2"),), events=(event(1),)),
        check_in(1, 2),
    ]
    assert bring(*envelopes) == STORED * 5
    assert presence(0).greatest_n == 3
    assert ProductState.objects.get(host__record="0" * 16).release == "r3"
    assert stored_events() == [(EPOCH, 1), (EPOCH, 2)]
    assert presence(0).contiguous_e == 2


# -- who is not taken ------------------------------------------------------------------------------


def test_another_hosts_check_in_cannot_be_signed_as_ones_own() -> None:
    """Host 1 takes what host 0 sealed, and signs it himself: the words name host 0."""
    add_host(0)
    add_host(1)
    thief = host_key(1)
    theirs = usual(host_key(0), 5)
    stolen = thief.sign(CHECKIN_TYPE, CONSOLE.public.seal(encode_check_in(theirs)))
    assert bring(stolen) == [Verdict.MALFORMED]
    assert not Presence.objects.exists()


def test_one_altered_by_a_relay_is_malformed() -> None:
    add_host()
    envelope = check_in()
    for place in range(40, len(envelope) - 40, 97):
        other = b"B" if envelope[place : place + 1] == b"A" else b"A"
        altered = envelope[:place] + other + envelope[place + 1 :]
        if altered != envelope:
            assert bring(altered) == [Verdict.MALFORMED]
    assert not Presence.objects.exists()


def test_one_sealed_to_another_console_is_malformed() -> None:
    add_host()
    key = host_key()
    assert bring(seal_check_in(usual(key), key, OTHER_CONSOLE.public)) == [Verdict.MALFORMED]


def test_a_replayed_one_changes_nothing() -> None:
    """A relay keeps a check-in of yesterday and sends it again and again."""
    add_host()
    old = check_in(n=1, products=(product("yara", "old"),), events=(event(1),))
    bring(old, at=START)
    bring(check_in(n=2, products=(product("yara", "new"),)), at=START + MINUTE)
    for minute in range(2, 40):
        assert bring(old, at=START + minute * MINUTE) == STORED
    assert ProductState.objects.get().release == "new"
    assert stored_events() == [(EPOCH, 1)]
    assert Transition.objects.count() == 2
    assert CheckIn.objects.count() == 2
    assert presence().received == START + MINUTE
    assert presence().seen == START + MINUTE, "a replay is no sign of life"
    assert not Host.objects.get().clone_sign


def test_one_that_a_relay_dropped_is_asked_for_again() -> None:
    """The relay drops the check-in with event 1: the acknowledgement stands at nothing."""
    add_host()
    bring(check_in(n=2, events=(event(2),)))
    assert acknowledged(inbox_for(host_key().id, 0, CONSOLE, START)) == {}
    bring(check_in(n=3, events=(event(1), event(2))))
    assert acknowledged(inbox_for(host_key().id, 0, CONSOLE, START)) == {EPOCH: 2}


def test_an_unknown_a_pending_and_a_revoked_host() -> None:
    assert bring(check_in(9)) == [Verdict.UNKNOWN]
    host = add_host()
    HostKey.objects.update(standing="pending")
    assert bring(check_in()) == [Verdict.PENDING]
    HostKey.objects.update(standing="revoked")
    assert bring(check_in()) == [Verdict.REVOKED]
    HostKey.objects.update(standing="active")
    host.standing = "revoked"
    host.save()
    assert bring(check_in(events=(event(1),))) == [Verdict.REVOKED]
    assert not Presence.objects.exists()
    assert not Event.objects.exists()


def test_rubbish_among_good_ones() -> None:
    add_host()
    verdicts = bring(b"", b"{}", b"\xff" * 3000, check_in())
    assert verdicts == [Verdict.MALFORMED] * 3 + STORED


def test_a_replaced_key_finishes_its_events_and_says_no_more() -> None:
    """The host was reinstalled; the old key's last words lay in a relay's spool."""
    host = add_host()
    bring(check_in(n=1))
    HostKey.objects.update(standing="replaced")
    late = check_in(n=2, products=(product("yara", "late"),), events=(event(1),))
    assert bring(late) == STORED
    assert stored_events() == [(EPOCH, 1)]
    assert not ProductState.objects.filter(host=host, release="late").exists()


# -- epochs and clones -------------------------------------------------------------------------------


def test_a_new_state_directory_and_the_old_ones_late_words() -> None:
    add_host()
    bring(check_in(n=50, events=(event(1),)))
    bring(
        check_in(n=1, epoch=OTHER_EPOCH, sent=START + 60 * MINUTE, events=(event(1),)),
        at=START + 60 * MINUTE,
    )
    assert presence().epoch == OTHER_EPOCH
    assert RetiredEpoch.objects.get().epoch == EPOCH
    bring(check_in(n=51, events=(event(2),)), at=START + 70 * MINUTE)
    assert stored_events() == [(EPOCH, 1), (EPOCH, 2), (OTHER_EPOCH, 1)]
    assert RetiredEpoch.objects.get().contiguous_e == 2
    now = START + 70 * MINUTE
    found = inbox_for(host_key().id, 0, CONSOLE, now)
    assert acknowledged(found) == {EPOCH: 2, OTHER_EPOCH: 1}
    assert not Host.objects.get().clone_sign


def test_a_cloned_host_is_shown_and_loses_no_event() -> None:
    add_host()
    bring(check_in(n=1, events=(event(1),)))
    twin = (event(1, EventKind.REJECTED),)
    bring(check_in(n=1, sent=START + 2 * MINUTE, events=twin))
    host = Host.objects.get()
    assert "one check-in number with two contents" in host.clone_sign
    assert "one event number with two contents" in host.clone_sign
    assert host.cloned == START
    assert Event.objects.filter(e=1).count() == 2


def test_the_sign_of_a_clone_is_not_written_with_every_check_in() -> None:
    add_host()
    for minute in range(30):
        bring(
            check_in(n=5, sent=START + minute * MINUTE, relay=f"relay-{minute}"),
            at=START + minute * MINUTE,
        )
    assert Host.objects.get().cloned == START + 21 * MINUTE


def test_a_host_that_draws_epochs_without_end_is_bounded() -> None:
    add_host()
    for number in range(30):
        bring(check_in(n=1, epoch=Epoch(f"{number:016x}"), sent=START + number * MINUTE))
    assert presence().epoch == f"{29:016x}"
    assert sorted(RetiredEpoch.objects.values_list("epoch", flat=True)) == [
        f"{number:016x}" for number in range(21, 29)
    ]


def test_a_decommissioned_host_that_reports_is_back() -> None:
    host = add_host()
    host.standing = "retired"
    host.save()
    bring(check_in())
    host.refresh_from_db()
    assert host.standing == "active"


# -- events and answers ------------------------------------------------------------------------------


def test_an_event_is_stored_once_with_all_its_words() -> None:
    host = add_host()
    told = HostEvent(
        e=1,
        at=START,
        kind=EventKind.LISTENER_OPENED,
        product="yara",
        release="r1",
        subject="tcp/2967 smc.exe",
        detail="not in the baseline",
    )
    bring(check_in(n=1, events=(told,)), now=START + MINUTE)
    bring(check_in(n=2, events=(told,)))
    row = Event.objects.get()
    assert (row.host, row.kind, row.subject) == (host, "listener-opened", "tcp/2967 smc.exe")
    assert (row.product, row.release, row.detail) == ("yara", "r1", "not in the baseline")
    assert (row.at, row.received) == (START, START + MINUTE)


@pytest.mark.parametrize(
    ("kind", "state"),
    [(EventKind.DIRECTIVE_DONE, "done"), (EventKind.DIRECTIVE_REFUSED, "refused")],
)
def test_an_answer_settles_its_directive(kind: EventKind, state: str) -> None:
    host = add_host()
    other = add_host(1)
    for number, owner in enumerate((host, other)):
        Directive.objects.create(
            directive=f"{number:016x}",
            host=owner,
            kind="update-now",
            state="carried",
            created=START,
            created_by="ada",
            expires=START + timedelta(days=1),
        )
    answers = tuple(
        HostEvent(e=e, at=START, kind=kind, subject=subject, detail="it was so")
        for e, subject in enumerate((f"{0:016x}", f"{1:016x}", "no id"), 1)
    )
    bring(check_in(events=answers))
    assert Directive.objects.get(host=host).state == state
    assert Directive.objects.get(host=host).answer == "it was so"
    assert Directive.objects.get(host=other).state == "carried", "another host's is not his"


def test_a_host_that_failed_its_trial_is_told() -> None:
    host = add_host()
    failed = usual(host_key(), 1).products[2]
    bring(
        check_in(
            products=(
                type(failed)(
                    product="yara", channel="stable", release="r2", seq=2, state=State.ROLLED_BACK
                ),
            )
        )
    )
    assert ProductState.objects.get(host=host).state == "rolled-back"
