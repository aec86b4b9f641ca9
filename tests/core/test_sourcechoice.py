"""The order of sources: tiers, spread, hysteresis, pauses, the origin, the direct share."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.sourcechoice import (
    LIMITS,
    Candidate,
    Fault,
    Heard,
    Memory,
    Plan,
    Polled,
    Rules,
    Tier,
    Track,
    is_aside,
    is_better,
    learn,
    plan,
    worst_of,
)
from support.fakes import START

NOW = START
POLL = timedelta(minutes=10)
NO_DIRECT = Rules(direct_share=0)
SITE = [Candidate(f"http://s{n}", Tier.SITE) for n in range(4)]
CONFIGURED = [Candidate(f"http://c{n}", Tier.CONFIGURED, n) for n in range(2)]
ORIGIN = Candidate("http://origin", Tier.ORIGIN, is_origin=True)


def urls(candidates: Sequence[Candidate]) -> list[str]:
    return [one.url for one in candidates]


def planned(candidates: list[Candidate], memory: Memory | None = None, host: str = "h") -> Plan:
    return plan(candidates, memory or Memory(), host, NOW, NO_DIRECT)


def served(url: str, first_byte: float | None = None, rate: float | None = None) -> Polled:
    return Polled((Heard(url, None, first_byte, rate),), url)


def failed(*urls: str, fault: Fault = Fault.FAILED) -> Polled:
    return Polled(tuple(Heard(url, fault) for url in urls), None)


def test_the_better_tier_is_asked_first() -> None:
    found = [
        ORIGIN,
        Candidate("http://m", Tier.MDNS),
        Candidate("http://v2", Tier.SRV, 20),
        Candidate("http://v1", Tier.SRV, 10),
        Candidate("http://d", Tier.DEFAULT),
        *CONFIGURED,
        SITE[0],
    ]
    done = planned(found)
    hosts = ["s0", "c0", "c1", "d", "v1", "v2", "m"]
    assert urls(done.metadata) == urls(done.blobs) == [f"http://{host}" for host in hosts]
    assert (done.direct, done.explored) == (None, None)
    assert done.tier_of("http://v1") is Tier.SRV
    assert done.tier_of("http://nobody") is None
    assert [tier.word for tier in Tier][:2] == ["site", "configured"]


def test_a_url_found_twice_counts_as_the_better_find() -> None:
    done = planned(
        [Candidate("http://s0", Tier.MDNS), SITE[0], replace(ORIGIN, url="http://c0"), *CONFIGURED]
    )
    assert urls(done.blobs) == ["http://s0", "http://c0", "http://c1"]
    assert [one.is_origin for one in done.blobs] == [False, True, False]


def test_a_flood_of_mdns_answers_is_cut_and_pushes_nobody_out() -> None:
    """An attacker on the LAN answers with ten thousand relays; the configured ones stay first."""
    flood = [Candidate(f"http://192.0.2.1:{n}", Tier.MDNS) for n in range(10_000)]
    srv = [Candidate(f"http://v{n}", Tier.SRV) for n in range(20)]
    done = planned([*flood, *srv, *CONFIGURED])
    assert urls(done.blobs)[:2] == ["http://c0", "http://c1"]
    tiers = Counter(one.tier for one in done.blobs)
    assert tiers == {Tier.CONFIGURED: 2, Tier.SRV: LIMITS.unsigned, Tier.MDNS: LIMITS.unsigned}


# -- spread --------------------------------------------------------------------------------------


def test_the_hosts_of_a_site_spread_over_its_relays() -> None:
    first = Counter(planned(SITE, host=f"host {n}").blobs[0].url for n in range(4_000))
    assert all(850 < count < 1_150 for count in first.values()), first


def test_a_relay_that_goes_moves_its_own_hosts_alone() -> None:
    for n in range(300):
        before = planned(SITE, host=f"host {n}").blobs[0]
        after = planned(SITE[1:], host=f"host {n}").blobs[0]
        assert after == before or before == SITE[0]


def test_weights_are_shares() -> None:
    pair = [Candidate("http://a", Tier.SRV, weight=3), Candidate("http://b", Tier.SRV, weight=1)]
    first = Counter(planned(pair, host=f"{n}").blobs[0].url for n in range(4_000))
    assert 2_850 < first["http://a"] < 3_150
    none = [replace(pair[0], weight=0), pair[1]]
    first = Counter(planned(none, host=f"{n}").blobs[0].url for n in range(2_000))
    assert 0 < first["http://a"] < 100


# -- faster and slower ---------------------------------------------------------------------------


class Host:
    """One host that polls, and relays whose times a test sets."""

    def __init__(self, candidates: list[Candidate], times: dict[str, float]) -> None:
        self.candidates, self.times = candidates, times
        self.memory, self.now = Memory(), NOW
        self.moves: list[str] = []

    def poll(self, count: int = 1) -> None:
        for _ in range(count):
            done = plan(self.candidates, self.memory, "h", self.now, NO_DIRECT)
            if self.moves[-1:] != [done.blobs[0].url]:
                self.moves.append(done.blobs[0].url)
            asked = done.metadata[0].url
            polled = served(asked, self.times[asked])
            self.memory = learn(self.memory, done, polled, self.now, NO_DIRECT)
            self.now += POLL


def test_a_slow_relay_loses_to_a_fast_one_once() -> None:
    host = Host(SITE[:2], {"http://s0": 0.5, "http://s1": 0.5})
    host.poll()
    slow = host.moves[0]
    fast = next(url for url in host.times if url != slow)
    host.times[fast] = 0.05
    host.poll(3 * LIMITS.explore_every)
    assert host.moves == [slow, fast]
    host.poll(50)
    assert host.moves == [slow, fast]


def test_it_takes_some_measurements_in_a_row() -> None:
    host = Host(SITE[:2], {"http://s0": 0.5, "http://s1": 0.5})
    host.poll()
    slow = host.moves[0]
    fast = next(url for url in host.times if url != slow)
    host.times[fast] = 0.05
    while not host.memory.track(fast).wins:
        host.poll()
    assert host.moves == [slow]
    host.poll(LIMITS.wins - 1)
    assert host.memory.leader == fast
    assert host.memory.track(fast).wins == 0


def test_a_worse_measurement_begins_the_count_anew() -> None:
    host = Host(SITE[:2], {"http://s0": 0.5, "http://s1": 0.5})
    host.poll()
    other = next(url for url in host.times if url != host.moves[0])
    host.times[other] = 0.3
    while not host.memory.track(other).wins:
        host.poll()
    host.times[other] = 5.0
    host.poll()
    assert host.memory.track(other).wins == 0
    assert host.memory.leader == ""


@given(st.lists(st.floats(0.8, 1.2), min_size=60, max_size=60))
def test_hosts_do_not_flap_between_relays_that_are_about_equal(noise: list[float]) -> None:
    host = Host(SITE[:3], {})
    for factor in noise:
        host.times = {one.url: 0.1 * factor * (1 + n / 50) for n, one in enumerate(SITE[:3])}
        host.poll()
    assert len(host.moves) == 1


@given(st.lists(st.floats(0.0001, 0.015), min_size=30, max_size=30))
def test_on_a_lan_nothing_moves_for_milliseconds(times: list[float]) -> None:
    host = Host(SITE[:2], {})
    for time in times:
        host.times = {"http://s0": time, "http://s1": 0.015 - time}
        host.poll()
    assert len(host.moves) == 1


def test_throughput_counts_where_both_are_known() -> None:
    near = Track(url="a", first_byte=0.01, rate=100_000.0)
    far = Track(url="b", first_byte=0.2, rate=10_000_000.0)
    assert is_better(far, near)
    assert not is_better(near, far)
    assert is_better(replace(near, rate=None), far)
    assert not is_better(Track(url="c"), far)
    assert not is_better(far, Track(url="c"))


def test_an_equal_that_failed_while_it_was_measured_wins_nothing() -> None:
    done = planned(SITE[:2], Memory(explore_in=0))
    assert done.explored is not None
    memory = learn(Memory(), done, failed(done.explored), NOW, NO_DIRECT)
    assert memory.track(done.explored).wins == 0
    memory = learn(Memory(), done, Polled((), None), NOW, NO_DIRECT)
    assert memory.tracks == ()


def test_the_equal_that_was_measured_longest_ago_comes_next() -> None:
    host = Host(SITE, dict.fromkeys(urls(SITE), 0.1))
    host.poll(4 * (LIMITS.explore_every + 1))
    assert {track.url for track in host.memory.tracks} == set(urls(SITE))


def test_nothing_is_explored_where_nothing_is_ready() -> None:
    assert plan([], Memory(explore_in=0), "h", NOW, NO_DIRECT) == Plan((), ())


# -- faults --------------------------------------------------------------------------------------


def test_a_dead_relay_is_put_aside_and_forgiven() -> None:
    memory = Memory()
    done = planned(CONFIGURED)
    memory = learn(memory, done, failed("http://c0"), NOW, NO_DIRECT)
    assert urls(planned(CONFIGURED, memory).metadata) == ["http://c1", "http://c0"]
    later = NOW + LIMITS.failed.first
    assert urls(plan(CONFIGURED, memory, "h", later, NO_DIRECT).metadata) == urls(CONFIGURED)
    memory = learn(memory, done, served("http://c0"), later, NO_DIRECT)
    assert memory.track("http://c0") == Track(url="http://c0")


@pytest.mark.parametrize("fault", Fault)
def test_pauses_double_up_to_the_most(fault: Fault) -> None:
    memory, pause = Memory(), LIMITS.pause(fault)
    done = planned(CONFIGURED)
    for n in range(30):
        memory = learn(memory, done, failed("http://c0", fault=fault), NOW, NO_DIRECT)
        until = memory.track("http://c0").aside_until
        assert until is not None
        assert until - NOW == min(pause.first * 2**n, pause.most)
        assert is_aside(memory.track("http://c0"), NOW)
    assert not is_aside(memory.track("http://c0"), NOW + pause.most)
    assert not is_aside(memory.track("http://c0"), NOW - timedelta(days=400))


def test_the_worst_of_two_faults_counts() -> None:
    assert worst_of(
        {"a": Fault.STALE, "b": Fault.FAILED}, {"a": Fault.FAILED, "b": Fault.FALSE}
    ) == {
        "a": Fault.STALE,
        "b": Fault.FALSE,
    }
    assert worst_of() == {}


def test_where_all_are_aside_the_one_that_comes_back_first_is_asked() -> None:
    memory = learn(
        Memory(), planned(CONFIGURED), failed("http://c0", fault=Fault.FALSE), NOW, NO_DIRECT
    )
    memory = learn(memory, planned(CONFIGURED), failed("http://c1"), NOW, NO_DIRECT)
    assert urls(planned(CONFIGURED, memory).metadata) == ["http://c1", "http://c0"]


def test_a_leader_that_died_leads_again_when_it_is_back() -> None:
    leader = planned(SITE).blobs[3].url
    memory = learn(Memory(leader=leader), planned(SITE), served(leader), NOW, NO_DIRECT)
    assert planned(SITE, memory).blobs[0].url == leader
    memory = learn(memory, planned(SITE), failed(leader), NOW, NO_DIRECT)
    assert planned(SITE, memory).blobs[0].url != leader
    back = plan(SITE, memory, "h", NOW + timedelta(hours=2), NO_DIRECT)
    assert back.blobs[0].url == leader


# -- the origin ----------------------------------------------------------------------------------


def test_without_any_relay_the_origin_is_asked_at_once() -> None:
    done = planned([ORIGIN])
    assert urls(done.metadata) == ["http://origin"]
    memory = learn(Memory(), done, failed("http://origin"), NOW, NO_DIRECT)
    assert memory.without_relay_since is None


def test_the_origin_is_asked_once_no_relay_has_served_for_a_while() -> None:
    rules = Rules(origin_after=timedelta(minutes=10), direct_share=0)
    candidates, memory, now = [*SITE[:1], ORIGIN], Memory(), NOW
    for _ in range(2):
        done = plan(candidates, memory, "h", now, rules)
        assert urls(done.metadata) == ["http://s0"]
        memory = learn(memory, done, failed("http://s0"), now, rules)
        now += timedelta(minutes=5)
    done = plan(candidates, memory, "h", now, rules)
    assert urls(done.metadata) == ["http://s0", "http://origin"]
    both = (Heard("http://s0", Fault.FAILED), Heard("http://origin"))
    memory = learn(memory, done, Polled(both, "http://origin"), now, rules)
    assert memory.without_relay_since == NOW
    assert urls(plan(candidates, memory, "h", now, rules).metadata) == [
        "http://origin",
        "http://s0",
    ]
    memory = learn(memory, done, served("http://s0"), now, rules)
    assert urls(plan(candidates, memory, "h", now, rules).metadata) == ["http://s0"]


def test_a_clock_that_was_set_back_begins_the_wait_anew() -> None:
    memory = Memory(without_relay_since=NOW + timedelta(days=400))
    done = planned([*SITE[:1], ORIGIN], memory)
    assert urls(done.metadata) == ["http://s0"]
    assert learn(memory, done, failed("http://s0"), NOW, NO_DIRECT).without_relay_since == NOW


def test_an_origin_that_is_configured_is_never_held_back() -> None:
    done = planned([*CONFIGURED, replace(ORIGIN, url="http://c1")])
    assert urls(done.metadata) == ["http://c0", "http://c1"]


# -- the direct share ----------------------------------------------------------------------------


def direct_polls(share: float, polls: int, draws: Sequence[float]) -> list[int]:
    rules, memory, found = Rules(direct_share=share), Memory(), []
    for n in range(polls):
        done = plan([*SITE[:1], ORIGIN], memory, "h", NOW, rules)
        if done.direct:
            assert done.direct.url == "http://origin"
            assert done.tier_of("http://origin") is Tier.ORIGIN
            found.append(n)
        polled = replace(served("http://s0"), draw=draws[n % len(draws)])
        memory = learn(memory, done, polled, NOW, rules)
    return found


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=7, max_size=7))
def test_no_two_direct_polls_are_further_apart_than_twice_the_mean(draws: list[float]) -> None:
    found = direct_polls(0.1, 200, draws)
    gaps = [after - before for before, after in zip([0, *found], found, strict=False)]
    assert found
    assert max(gaps) <= 20


def test_the_share_of_direct_polls_is_what_was_set() -> None:
    draws = [(n * 0.618_034) % 1 for n in range(997)]
    assert math.isclose(len(direct_polls(0.02, 20_000, draws)) / 20_000, 0.02, rel_tol=0.15)
    assert len(direct_polls(1.0, 50, [0.99])) == 49


def test_there_is_no_direct_poll_where_it_would_tell_nothing() -> None:
    memory, rules = Memory(direct_in=0), Rules()
    for candidates in (SITE, [ORIGIN], [replace(ORIGIN, tier=Tier.CONFIGURED), *SITE[:0]]):
        assert plan(candidates, memory, "h", NOW, rules).direct is None
    off = Rules(direct_share=0)
    assert plan([*SITE, ORIGIN], memory, "h", NOW, off).direct is None
    done = plan([*SITE, ORIGIN], memory, "h", NOW, rules)
    assert done.direct is not None
    memory = learn(memory, done, failed("http://origin"), NOW, rules)
    assert plan([*SITE, ORIGIN], replace(memory, direct_in=0), "h", NOW, rules).direct is None


# -- whatever happened ---------------------------------------------------------------------------

_URLS = [f"http://{name}{n}" for name in "scdvmo" for n in range(4)]
_CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.sampled_from(_URLS),
        st.sampled_from(Tier),
        st.integers(0, 3),
        st.floats(0, 100),
        st.booleans(),
    ),
    max_size=30,
)
_INSTANTS = st.none() | st.datetimes().map(
    lambda found: found.replace(tzinfo=NOW.tzinfo, year=2026, day=min(found.day, 28))
)
_TRACKS = st.lists(
    st.builds(
        Track,
        url=st.sampled_from(_URLS),
        first_byte=st.none() | st.floats(0, 60),
        rate=st.none() | st.floats(0, 1e9),
        measured=_INSTANTS,
        wins=st.integers(0, 3),
        failures=st.integers(0, 1_000),
        fault=st.none() | st.sampled_from(Fault),
        aside_until=_INSTANTS,
    ),
    unique_by=lambda track: track.url,
    max_size=20,
)
_MEMORIES = st.builds(
    Memory,
    tracks=_TRACKS.map(tuple),
    leader=st.sampled_from(["", *_URLS]),
    without_relay_since=_INSTANTS,
    direct_in=st.none() | st.integers(0, 99),
    explore_in=st.integers(0, 10),
)


@given(_CANDIDATES, _MEMORIES)
def test_every_plan_has_what_is_configured_and_nothing_twice(
    candidates: list[Candidate], memory: Memory
) -> None:
    done = plan(candidates, memory, "h", NOW, Rules())
    assert sorted(urls(done.metadata)) == sorted(set(urls(done.blobs)))
    configured = {one.url for one in candidates if one.tier is Tier.CONFIGURED}
    assert configured <= set(urls(done.metadata))
    assert set(urls(done.metadata)) <= {one.url for one in candidates}
    assert bool(done.metadata) == bool(candidates)
    ready = [one for one in done.blobs if not is_aside(memory.track(one.url), NOW)]
    assert list(done.blobs[: len(ready)]) == ready
    tiers = [(one.tier, one.group) for one in ready]
    assert tiers == sorted(tiers)


@given(_CANDIDATES, _MEMORIES, st.sampled_from([None, *Fault]), st.floats(0, 1, exclude_max=True))
def test_what_was_learnt_is_bounded(
    candidates: list[Candidate], memory: Memory, fault: Fault | None, draw: float
) -> None:
    done = plan(candidates, memory, "h", NOW, Rules())
    heard = tuple(Heard(one.url, fault, 0.1, 1e6) for one in done.metadata)
    after = learn(memory, done, Polled(heard, None, draw), NOW, Rules())
    assert len(after.tracks) <= LIMITS.tracks
    assert len({track.url for track in after.tracks}) == len(after.tracks)
    for track in after.tracks:
        if track.url in urls(done.metadata):
            assert is_aside(track, NOW) == (fault is not None)


def test_no_more_sources_are_remembered_than_the_limit() -> None:
    memory = Memory()
    for n in range(LIMITS.tracks + 10):
        memory = memory.having(Track(url=f"http://{n}"))
    assert len(memory.tracks) == LIMITS.tracks
    assert memory.tracks[0].url == f"http://{LIMITS.tracks + 9}"
