"""In which wave a host is: arithmetic that hosts, origin and console do alike."""

from hypothesis import given
from hypothesis import strategies as st

from fleetward.core.documents import Channel, ReleaseRef, Wave
from fleetward.core.names import ChannelName, ProductName, ReleaseName
from fleetward.core.rollout import HostPlace, first_wave, is_open_to, wave_of

REF = ReleaseRef(release=ReleaseName("r2"), seq=2, manifest="a" * 64)  # type: ignore[arg-type]
PLAN = (Wave(rings=("canary",)), Wave(percent=10), Wave(rings=("late",), percent=40))

RINGS = st.lists(st.sampled_from(["canary", "late", "desk"]), max_size=3)
WAVES = st.lists(
    st.builds(
        Wave,
        rings=RINGS.map(tuple),
        percent=st.floats(min_value=0, max_value=100),
    ),
    max_size=6,
).map(tuple)


def channel(waves: tuple[Wave, ...] = PLAN, *, plan: str = "waves", opened: int = 0) -> Channel:
    return Channel(
        product=ProductName("yara"),
        channel=ChannelName("stable"),
        release=REF,
        salt="s1",
        plan=plan,  # type: ignore[arg-type]
        waves=waves,
        open=opened,
        state="running",
    )


def placed(low: float, high: float, salt: str = "s1") -> HostPlace:
    """Return a host whose place in percent lies in [low, high)."""
    return next(
        host
        for host in (HostPlace(f"{number:016x}") for number in range(10_000))
        if low <= host.fraction(salt) * 100 < high
    )


def test_a_ring_comes_before_a_share_and_a_share_before_nothing() -> None:
    early, middle, late = placed(0, 10), placed(10, 40), placed(40, 100)
    assert [first_wave(PLAN, "s1", host) for host in (early, middle, late)] == [1, 2, None]
    assert first_wave(PLAN, "s1", HostPlace(late.record, ("canary",))) == 0
    assert first_wave(PLAN, "s1", HostPlace(late.record, ("late", "desk"))) == 2
    assert first_wave(PLAN, "s1", HostPlace(early.record, ("late",))) == 1


def test_without_a_plan_no_host_has_a_wave_and_the_channel_is_open_to_all() -> None:
    now = channel(plan="now")
    host = placed(0, 10)
    assert wave_of(now, host) is None
    assert is_open_to(now, host)
    assert wave_of(channel(waves=()), host) is None
    assert not is_open_to(channel(waves=()), host)


@given(waves=WAVES, record=st.text(max_size=20), rings=RINGS, data=st.data())
def test_a_channel_is_open_to_a_host_exactly_from_its_first_wave_on(
    waves: tuple[Wave, ...], record: str, rings: list[str], data: st.DataObject
) -> None:
    host = HostPlace(record, rings)
    opened = data.draw(st.integers(min_value=0, max_value=len(waves)))
    wave = wave_of(channel(waves), host)
    assert is_open_to(channel(waves, opened=opened), host) == (wave is not None and wave < opened)
    by_hand = any(
        host.is_within(each.percent, "s1") or set(each.rings) & set(rings)
        for each in waves[:opened]
    )
    assert is_open_to(channel(waves, opened=opened), host) == by_hand


@given(waves=WAVES, record=st.text(max_size=20), rings=RINGS)
def test_opening_one_more_wave_never_closes_the_channel_to_a_host(
    waves: tuple[Wave, ...], record: str, rings: list[str]
) -> None:
    host = HostPlace(record, rings)
    steps = [is_open_to(channel(waves, opened=count), host) for count in range(len(waves) + 1)]
    assert steps == sorted(steps)


def test_another_salt_moves_hosts_and_leaves_the_shares() -> None:
    hosts = [HostPlace(f"{number:016x}") for number in range(4_000)]
    before = [first_wave(PLAN, "s1", host) for host in hosts]
    after = [first_wave(PLAN, "s2", host) for host in hosts]
    assert sum(a != b for a, b in zip(before, after, strict=True)) > 1_000
    for found in (before, after):
        assert 0.08 < found.count(1) / len(hosts) < 0.12
        assert 0.27 < found.count(2) / len(hosts) < 0.33
