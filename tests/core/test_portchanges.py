"""What changed: opened, closed, changed; by identity, without noise."""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.listeners import FileState, Listener, Reach, Script, Transport
from fleetward.core.portchanges import (
    Change,
    Identity,
    Known,
    Observation,
    Watched,
    WatchLimits,
    identity_of,
    known_of,
    observe,
    relearned,
)
from fleetward.core.portrules import PortRule, Verdict
from fleetward.core.ports import Judged
from support.fakes import START
from support.portsamples import HONEST, altered, judged, listener, one, owner, running

SECOND = timedelta(seconds=1)
LIMITS = WatchLimits()
OTHER = altered(HONEST, sha256="99" * 32)
ANY = PortRule(name="any", port=2967)


class Host:
    """A host that is looked at now and then."""

    def __init__(self, limits: WatchLimits = LIMITS) -> None:
        self.watched, self.limits, self.now = Watched(), limits, START

    def look(self, *listeners: Listener, after: timedelta = 10 * SECOND) -> list[Observation]:
        return self.see(judged(*listeners), after)

    def see(self, found: tuple[Judged, ...], after: timedelta = 10 * SECOND) -> list[Observation]:
        self.now += after
        self.watched, told = observe(self.watched, found, self.now, self.limits)
        return list(told)

    def changes(self, *listeners: Listener, after: timedelta = 10 * SECOND) -> list[Change]:
        return [told.change for told in self.look(*listeners, after=after)]


def test_the_first_look_is_the_baseline_and_is_told() -> None:
    host = Host()
    assert host.changes(listener(owner())) == [Change.OPENED]
    assert host.watched.has_baseline
    assert host.watched.known[0].is_baseline
    assert host.watched.unexpected == 0
    assert host.changes(listener(owner())) == []


def test_what_opens_later_is_unexpected_until_somebody_agrees() -> None:
    host = Host()
    host.look()
    assert host.changes(listener(owner())) == [Change.OPENED]
    assert host.watched.unexpected == 1
    host.watched = relearned(host.watched)
    assert host.watched.unexpected == 0


def test_what_a_rule_expects_is_never_unexpected() -> None:
    host = Host()
    host.look()
    host.see(judged(listener(owner()), rules=(ANY,)))
    assert host.watched.unexpected == 0


def test_what_is_suspicious_is_unexpected_even_at_the_first_look() -> None:
    host = Host()
    host.look(listener(owner(name="rtvscan.exe")))
    assert host.watched.unexpected == 1
    host.watched = relearned(host.watched)
    assert host.watched.unexpected == 1


def test_a_new_pid_or_socket_is_the_same_listener() -> None:
    """The service restarts between two looks: nothing is told."""
    host = Host()
    host.look(listener(owner(), inode=5))
    assert host.changes(listener(owner(pid=4711), inode=99, uid=12)) == []


def test_a_restart_that_a_look_falls_into_is_not_told() -> None:
    host = Host()
    host.look(listener(owner()))
    assert host.changes() == []
    assert host.changes(after=40 * SECOND) == []
    assert host.changes(listener(owner())) == []
    assert host.watched.known[0].absent_since is None


def test_a_closing_is_told_once_it_has_settled() -> None:
    host = Host()
    host.look(listener(owner()))
    assert host.changes() == []
    assert host.changes(after=LIMITS.settle - SECOND) == []
    assert host.changes(after=SECOND) == [Change.CLOSED]
    assert host.watched.known == ()
    assert host.changes() == []


def test_another_program_on_the_same_port_is_a_change_with_its_past() -> None:
    host = Host()
    host.look(listener(owner()))
    (told,) = host.look(listener(owner(OTHER)))
    assert told.change is Change.CHANGED
    assert told.now is not None
    assert told.before is not None
    assert told.now.identity.executable == "99" * 32
    assert told.before.identity.executable == HONEST.sha256
    assert len(host.watched.known) == 1
    assert host.watched.unexpected == 1  # the baseline was the other program


def test_an_update_after_a_pause_is_a_change_too() -> None:
    host = Host()
    host.look(listener(owner()))
    host.look()
    assert host.changes(listener(owner(OTHER)), after=30 * SECOND) == [Change.CHANGED]


def test_two_newcomers_on_one_slot_share_no_past() -> None:
    host = Host()
    host.look(listener(owner()))
    third = altered(HONEST, sha256="77" * 32)
    changes = host.changes(listener(owner(OTHER)), listener(owner(third), inode=6))
    assert sorted(changes) == [Change.CHANGED, Change.OPENED]


def test_near_miss_the_same_program_on_another_port_or_address_is_an_opening() -> None:
    host = Host()
    host.look(listener(owner()))
    both = (listener(owner()), listener(owner(), port=2968))
    assert host.changes(*both) == [Change.OPENED]
    assert host.changes(*both, listener(owner(), address="0.0.0.0")) == [Change.OPENED]  # noqa: S104
    assert (
        host.changes(*both, listener(owner(), address="127.0.0.9")) == []
    )  # loopback is one class


def test_a_verdict_that_changes_is_told() -> None:
    """The executable is deleted while the service runs; nothing opened or closed."""
    host = Host()
    host.look(listener(owner()))
    (told,) = host.look(listener(owner(altered(HONEST, state=FileState.DELETED))))
    assert told.change is Change.CHANGED
    assert told.now is not None
    assert told.now.reasons == ("executable-deleted", "nothing-expects-it")
    assert host.look(listener(owner(altered(HONEST, state=FileState.DELETED)))) == []


def test_the_worst_of_several_sockets_of_one_identity_counts() -> None:
    host = Host()
    good, bad = listener(owner()), listener(owner(name="smc.exe"), inode=6)
    for order in ((good, bad), (bad, good)):
        host.look(*order)
        assert [known.verdict for known in host.watched.known] == [Verdict.SUSPICIOUS]


def test_a_clock_that_is_set_back_only_delays() -> None:
    host = Host()
    host.look(listener(owner()))
    host.look()
    assert host.changes(after=timedelta(days=-1)) == []
    assert host.changes(after=timedelta(days=1) + LIMITS.settle) == [Change.CLOSED]


# -- the damper --------------------------------------------------------------------------------


def many(first: int, count: int) -> list[Listener]:
    return [listener(owner(), port=port) for port in range(first, first + count)]


def test_a_storm_is_told_up_to_the_burst_and_then_in_one_line() -> None:
    host = Host(WatchLimits(burst=3))
    assert len(host.look(*many(1000, 10))) == 3
    assert host.watched.muted == 7
    assert host.look(*many(1000, 11)) == []
    (told,) = host.look(*many(1000, 11), after=LIMITS.window)
    assert (told.change, told.muted, told.now) == (Change.MUTED, 8, None)
    assert host.watched.muted == 0


def test_suspicious_listeners_pass_the_damper_first() -> None:
    host = Host(WatchLimits(burst=2))
    found = host.look(*many(1000, 5), listener(owner(name="rtvscan.exe"), port=9))
    assert found[0].now is not None
    assert found[0].now.verdict is Verdict.SUSPICIOUS


def test_a_watch_remembers_a_bounded_number() -> None:
    host = Host(WatchLimits(known=4))
    host.look(*many(1000, 9))
    assert len(host.watched.known) == 4


# -- identities --------------------------------------------------------------------------------


def test_what_makes_an_identity() -> None:
    found = listener(owner(unit="h.service"), address="::", v6only=False)
    assert identity_of(found) == Identity(
        Transport.TCP, 2967, Reach.EVERY_ADDRESS, "ab" * 32, "h.service"
    )
    by_path = identity_of(listener(owner(altered(HONEST, sha256=None))))
    assert by_path.executable == HONEST.path
    unseen = identity_of(listener(unit="u.service", container="docker 1", in_own_namespace=False))
    assert (unseen.executable, unseen.unit, unseen.elsewhere) == ("", "u.service", "docker 1")
    inside = identity_of(listener(owner(container="lxc a"), in_own_namespace=False))
    assert inside.elsewhere == "lxc a"
    assert identity_of(listener(owner(), in_own_namespace=False)).elsewhere == "namespace"
    assert identity_of(listener(owner(container="lxc a"))).elsewhere == ""


def test_what_is_remembered_for_people() -> None:
    script = known_of(one(listener(running(Script(kind="file", name="/srv/x.py")))))
    assert (script.name, script.path) == ("python3", "/srv/x.py")
    code = known_of(one(listener(running(Script(kind="code")))))
    assert code.path == "/usr/bin/python3.11"
    assert known_of(one(listener(owner()))).path == HONEST.path
    hidden = known_of(one(listener()))
    assert (hidden.name, hidden.path, hidden.reasons[0]) == ("", "", "owner-unseen")


# -- whatever happens --------------------------------------------------------------------------

PROGRAMS = [owner(), owner(OTHER), owner(name="rtvscan.exe")]
SOCKETS = st.sets(st.tuples(st.integers(1, 3), st.sampled_from([0, 1, 2])), max_size=5)


@given(st.lists(st.tuples(SOCKETS, st.integers(0, 90)), max_size=12))
def test_after_quiet_the_watch_knows_exactly_what_is_there(
    looks: list[tuple[set[tuple[int, int]], int]],
) -> None:
    """Opened minus closed, with changes, always adds up to what is known."""
    host = Host(WatchLimits(burst=10_000))
    balance: set[Identity] = set()
    last: list[Listener] = []
    for sockets, seconds in [*looks, *[(looks[-1][0] if looks else set(), 61)] * 2]:
        last = [listener(PROGRAMS[which], port=port) for port, which in sorted(sockets)]
        for told in host.look(*last, after=timedelta(seconds=seconds)):
            _tally(balance, told)
    present = {identity_of(one) for one in last}
    assert {known.identity for known in host.watched.known} == present
    assert balance == present


def _tally(balance: set[Identity], told: Observation) -> None:
    assert told.now is not None
    if told.change is Change.CLOSED:
        balance.remove(told.now.identity)
        return
    if told.before is not None:
        balance.discard(told.before.identity)
    balance.add(told.now.identity)


def test_known_is_sorted_so_that_its_digest_is_stable() -> None:
    host = Host()
    host.look(*reversed(many(1000, 5)))
    ports = [known.identity.port for known in host.watched.known]
    assert ports == sorted(ports)
    assert replace(host.watched.known[0]) == host.watched.known[0]
    assert isinstance(host.watched.known[0], Known)
    assert isinstance(host.now, datetime)
