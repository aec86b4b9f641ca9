"""Counting: which wave a host is in, what it did, what is written; on both databases."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from console.cast import SetClock, add_site
from console.hosts import bring
from console.rollouts.plans import (
    HOUR,
    MINUTE,
    SALT,
    WAVES,
    add_channel,
    add_follower,
    move,
    numbers,
    tell,
)
from fleetward.console.catalogue.models import Channel, Release
from fleetward.console.fleet.models import Host, Presence, ProductState
from fleetward.console.rollouts.counting import LONGEST, count, count_when_due
from fleetward.console.rollouts.deciding import Standing
from fleetward.console.rollouts.models import Counted, Member, Tally
from fleetward.console.rollouts.planning import plan_of
from fleetward.console.wiring import rewired
from fleetward.core.documents import Wave
from fleetward.core.install import State
from fleetward.core.rollout import HostPlace, first_wave
from fleetward.core.status import ProductStatus
from support.fakes import START
from support.status import sealed

pytestmark = pytest.mark.django_db

EARLY, LATE = numbers(0, 20), numbers(20, 100)


def counted(row: Channel) -> dict[tuple[int | None, str], int]:
    """Count, and return wave and standing -> hosts."""
    count(Channel.objects.get(pk=row.pk), START, SetClock(START))
    found: dict[tuple[int | None, str], int] = {}
    for tally in Tally.objects.filter(channel=row):
        key = (tally.wave, tally.standing)
        found[key] = found.get(key, 0) + tally.hosts
    listed: dict[tuple[int | None, str], int] = {}
    for member in Member.objects.filter(channel=row):
        listed[(member.wave, member.standing)] = listed.get((member.wave, member.standing), 0) + 1
    assert listed == found, "the list of hosts is the same as the figures"
    return found


class TestEvidence:
    def test_hosts_stand_in_the_wave_that_their_record_gives_them(self) -> None:
        row = add_channel()
        for number in EARLY[:3]:
            add_follower(number, "r2", since=START - HOUR)
        for number in LATE[:4]:
            add_follower(number)
        assert counted(row) == {(1, "confirmed"): 3, (2, "waiting"): 4}

    def test_a_ring_counts_where_the_host_says_so(self) -> None:
        """A host knows its rings; the console knows them by the wave that the host reports alone."""
        row = add_channel(open=1)
        add_follower(LATE[0], wave=0)
        add_follower(EARLY[0], wave=1)
        add_follower(EARLY[1], wave=2)
        add_follower(LATE[1], wave=1)
        add_follower(LATE[2], wave=9)
        assert counted(row) == {(0, "behind"): 1, (1, "waiting"): 2, (2, "waiting"): 2}

    def test_a_host_that_no_wave_holds(self) -> None:
        row = add_channel(waves=list(WAVES[:2]))
        add_follower(LATE[0])
        assert counted(row) == {(None, "waiting"): 1}

    def test_a_channel_without_a_plan_is_one_wave(self) -> None:
        row = add_channel(plan="now", waves=[], open=0, state="complete", salt=None)
        add_follower(EARLY[0], "r2", since=START - HOUR)
        add_follower(LATE[0])
        assert counted(row) == {(0, "confirmed"): 1, (0, "behind"): 1}

    def test_before_the_salt_is_read_nobody_is_placed(self) -> None:
        row = add_channel(salt=None)
        add_follower(EARLY[0])
        assert counted(row) == {}
        Channel.objects.filter(pk=row.pk).update(salt=SALT.encode())
        assert counted(row) == {(1, "behind"): 1}

    def test_failures_are_of_this_release(self) -> None:
        row = add_channel(since=START - HOUR)
        long_ago = START - 9 * HOUR
        tell(add_follower(EARLY[0], state="rolled-back", since=long_ago), detail="sig 12")
        tell(add_follower(EARLY[1], state="rejected", since=long_ago), "rejected", release="r1")
        add_follower(EARLY[2], state="rejected", since=START - MINUTE)
        assert counted(row) == {(1, "failed"): 2, (1, "behind"): 1}

    def test_silence_after_taking_and_after_opening(self) -> None:
        row = add_channel()
        add_follower(EARLY[0], "r2", "trial", since=START - HOUR, seen=START - HOUR)
        add_follower(EARLY[1], seen=START - HOUR + MINUTE)
        add_follower(EARLY[2], seen=START - 9 * HOUR)
        add_follower(EARLY[3], seen=None)
        assert counted(row) == {(1, "silent"): 1, (1, "vanished"): 1, (1, "away"): 2}

    def test_only_active_hosts_of_this_channel_count(self) -> None:
        row = add_channel()
        other = add_channel(name="canary")
        add_follower(EARLY[0])
        add_follower(EARLY[1], channel="canary")
        add_follower(EARLY[2], product="sigma")
        retired = add_follower(EARLY[3])
        Host.objects.filter(pk=retired.pk).update(standing="retired")
        assert counted(row) == {(1, "behind"): 1}
        assert counted(other) == {(1, "behind"): 1}

    def test_sites_are_counted_apart(self) -> None:
        row = add_channel()
        berlin = add_site("berlin")
        add_follower(EARLY[0], site=berlin)
        add_follower(EARLY[1])
        counted(row)
        rows = Tally.objects.order_by("site_id").values_list("site", "hosts")
        assert sorted(rows, key=str) == sorted([(berlin.pk, 1), (None, 1)], key=str)

    def test_what_a_host_signs_becomes_evidence(self) -> None:
        """From the check-in to the figure: it takes the release, then it goes back."""
        row = add_channel(open=1)
        add_follower(LATE[0])
        for n, (release, state) in enumerate([("r2", State.TRIAL), ("r1", State.ROLLED_BACK)], 1):
            status = ProductStatus(
                product="yara",
                channel="stable",
                release=release,
                seq=int(release[1:]),
                state=state,
                wave=0,
            )
            Presence.objects.all().delete()
            sent = START - HOUR / 2 + n * MINUTE
            bring(sealed(LATE[0], n, products=(status,), sent=sent), at=START, now=START)
            expected = Standing.TRYING if state is State.TRIAL else Standing.FAILED
            assert counted(row) == {(0, expected.value): 1}


class TestWriting:
    def test_a_quiet_fleet_writes_no_host(self) -> None:
        row = add_channel()
        for number in EARLY[:5]:
            add_follower(number)
        counted(row)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            count(Channel.objects.get(pk=row.pk), START, SetClock(START))
        written = [q["sql"] for q in asked if "rollouts_member" in q["sql"]]
        assert all(sql.startswith("SELECT") for sql in written), written

    def test_a_host_that_changes_or_goes_is_followed(self) -> None:
        row = add_channel()
        host, other = add_follower(EARLY[0]), add_follower(EARLY[1])
        assert counted(row) == {(1, "behind"): 2}
        ProductState.objects.filter(host=host).update(release="r2", since=START)
        other.products.all().delete()
        assert counted(row) == {(1, "confirmed"): 1}
        assert Member.objects.count() == 1

    def test_many_hosts_are_written_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fleetward.console.rollouts.counting.WRITTEN", 3)
        row = add_channel()
        for number in (*EARLY[:5], *LATE[:5]):
            add_follower(number)
        assert counted(row) == {(1, "behind"): 5, (2, "waiting"): 5}
        ProductState.objects.update(channel="canary")
        assert counted(row) == {}

    def test_another_salt_places_everybody_anew(self) -> None:
        row = add_channel()
        chosen = list(range(60))
        for number in chosen:
            add_follower(number)
        for salt in ("s1", "s2"):
            Channel.objects.filter(pk=row.pk).update(salt=salt.encode())
            counted(row)
            waves = (Wave(rings=("canary",)), Wave(percent=20), Wave(percent=100))
            for member in Member.objects.select_related("host"):
                place = HostPlace(member.host.record)
                assert member.wave == first_wave(waves, salt, place)


class TestWhen:
    def test_a_channel_that_moved_is_counted_at_once_and_others_wait(self) -> None:
        row = add_channel()
        with rewired(clock=SetClock(START)):
            assert count_when_due(START) == 1
            Counted.objects.update(seconds=1.0)
            assert count_when_due(START + timedelta(seconds=19)) == 0
            Channel.objects.filter(pk=row.pk).update(open=3)
            assert count_when_due(START + timedelta(seconds=19)) == 1
            assert Counted.objects.get().open == 3

    def test_the_pause_is_twenty_times_the_work_and_a_minute_at_most(self) -> None:
        add_channel()
        add_channel(name="canary")
        with rewired(clock=SetClock(START)):
            assert count_when_due(START) == 2
            Counted.objects.update(seconds=0.5)
            assert count_when_due(START + timedelta(seconds=21)) == 2
            Counted.objects.update(seconds=60.0)
            assert count_when_due(START + timedelta(seconds=21) + LONGEST) == 2

    def test_a_clock_that_was_set_back_stops_nothing(self) -> None:
        add_channel()
        with rewired(clock=SetClock(START)):
            count_when_due(START)
            Counted.objects.update(seconds=9.0)
            assert count_when_due(START - HOUR) == 1

    def test_what_the_repository_no_longer_has_is_left_alone(self) -> None:
        add_channel(listed=False)
        with rewired(clock=SetClock(START)):
            assert count_when_due(START) == 0


class TestOpened:
    def test_a_wave_is_open_since_the_move_that_opened_it(self) -> None:
        row = add_channel()
        move(row, START - HOUR, 0, kind="release")
        move(row, START - 40 * MINUTE, 1)
        move(row, START - 20 * MINUTE, 2)
        move(row, START - 10 * MINUTE, 2, kind="state", state="paused")
        opened = plan_of(row).opened
        assert opened == (START - 40 * MINUTE, START - 20 * MINUTE, None)

    def test_moves_of_another_release_do_not_count(self) -> None:
        row = add_channel(since=START - HOUR)
        move(row, START - 5 * HOUR, 3, release="r2")
        move(row, START - 3 * HOUR, 3, release="r1")
        move(row, START - HOUR, 1, kind="release")
        move(row, START - MINUTE, 2)
        assert plan_of(row).opened == (START - HOUR, START - MINUTE, None)

    def test_a_wave_that_was_closed_again_counts_from_the_last_time(self) -> None:
        row = add_channel()
        for minutes, opened in ((60, 2), (30, 1), (10, 2)):
            move(row, START - minutes * MINUTE, opened)
        assert plan_of(row).opened == (START - HOUR, START - 10 * MINUTE, None)

    def test_without_moves_it_is_open_since_the_channel_points_there(self) -> None:
        assert plan_of(add_channel()).opened == (START - HOUR, START - HOUR, None)

    @settings(max_examples=30, deadline=None)
    @given(steps=st.lists(st.integers(min_value=0, max_value=3), min_size=1, max_size=8))
    def test_exactly_the_open_waves_have_an_instant(self, steps: list[int]) -> None:
        Channel.objects.all().delete()
        Release.objects.all().delete()
        row = add_channel(open=steps[-1])
        for index, opened in enumerate(steps):
            move(row, START - HOUR + index * MINUTE, opened)
        found = plan_of(row).opened
        assert [each is not None for each in found] == [wave < steps[-1] for wave in range(3)]
        known = [each for each in found if each is not None]
        assert known == sorted(known), "a later wave was opened later"
