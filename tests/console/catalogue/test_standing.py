"""What the pages say of roles, shares of hosts, ramps and sizes."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.catalogue.charts import _powers, in_bytes, size_chart
from fleetward.console.catalogue.models import Channel, Product, Release, Repository, Role
from fleetward.console.catalogue.standing import (
    Tone,
    badges,
    fault_of,
    margin_of,
    problems,
    role_line,
    share_at,
    shares,
    tone_of_expiry,
)

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("role", "left", "tone"),
    [
        *(("root", 31 * DAY, "good"), ("root", 30 * DAY, "warn"), ("root", 7 * DAY, "bad")),
        *(("targets", 29 * DAY, "warn"), ("fleet", 6 * DAY, "bad")),
        *(("timestamp", 4 * DAY, "good"), ("snapshot", 3 * DAY, "warn"), ("channels", DAY, "bad")),
        *(("releases-yara", 8 * DAY, "good"), ("releases-yara", 7 * DAY, "warn")),
        *(("releases-yara", 2 * DAY, "bad"), ("releases-yara", -DAY, "bad")),
    ],
)
def test_when_a_countdown_turns(role: str, left: timedelta, tone: Tone) -> None:
    assert tone_of_expiry(role, NOW + left, NOW) == tone


@given(
    st.sampled_from(["root", "channels", "releases-x"]),
    st.timedeltas(timedelta(days=-400), timedelta(days=400)),
    st.timedeltas(timedelta(), timedelta(days=400)),
)
def test_a_countdown_only_gets_worse(role: str, left: timedelta, later: timedelta) -> None:
    order = ["good", "warn", "bad"]
    before = tone_of_expiry(role, NOW + left, NOW)
    after = tone_of_expiry(role, NOW + left, NOW + later)
    assert order.index(after) >= order.index(before)
    assert margin_of(role).bad < margin_of(role).warn


def test_an_expiry_in_words() -> None:
    def line(expires: datetime | None) -> str:
        return role_line(Role(role="root", version=1, expires=expires, threshold=2), NOW).left

    assert line(NOW + 40 * DAY) == "expires in 40 d"
    assert line(NOW + timedelta(hours=5)) == "expires in 5 h"
    assert line(NOW - 2 * DAY) == "expired 2 d ago"
    assert line(None) == "not read yet"
    assert tone_of_expiry("root", None, NOW) == "warn"


@given(st.dictionaries(st.sampled_from(["r1", "r2", "r3", "r4", ""]), st.integers(1, 10**6)))
def test_pieces_of_a_bar_fill_it(counts: dict[str, int]) -> None:
    channel = Channel(name="stable", points_at="r2", previous=Release(name="r1"))
    pieces = shares(channel, counts)
    assert sum(piece.hosts for piece in pieces) == sum(counts.values())
    assert not counts or 99.8 < sum(piece.width for piece in pieces) < 100.2
    at = 0.0
    for piece in pieces:
        assert abs(piece.start - at) < 0.1
        at += piece.width
    tones = {piece.tone: piece.hosts for piece in pieces}
    assert tones.get("current", 0) == counts.get("r2", 0)
    assert tones.get("previous", 0) == counts.get("r1", 0)
    assert tones.get("none", 0) == counts.get("", 0)


def test_a_ramp() -> None:
    ramp: list[dict[str, float]] = [{"age": 0, "percent": 5}, {"age": 3_600, "percent": 50.0}]
    assert share_at(ramp, timedelta()) == 5
    assert share_at(ramp, timedelta(hours=2)) == 50
    assert share_at(ramp[1:], timedelta()) == 0
    assert share_at([], timedelta()) == 100


def test_what_people_should_know_at_a_glance() -> None:
    plain = Release(name="r", seq=5)
    assert badges(plain, 5) == []
    wild = Release(name="r", seq=4, revoked=True, urgent=True, listed=False)
    words = [words for _, words in badges(wild, 5)]
    assert words == ["revoked", "under the floor", "urgent", "no longer listed"]


def test_why_hosts_refuse_what_a_channel_points_at() -> None:
    product = Product(name="yara", floor=5)

    def fault(release: Release | None) -> str:
        return fault_of(Channel(product=product, name="stable", release=release))

    assert fault(Release(seq=5)) == ""
    assert "floor" in fault(Release(seq=4))
    assert "revoked" in fault(Release(seq=4, revoked=True))
    assert "vouch" in fault(None)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        *((0, "0 B"), (999, "999 B"), (1_000, "1 kB"), (12_345, "12.3 kB")),
        *((6_210_000, "6.21 MB"), (3_000_000_000, "3 GB")),
    ],
)
def test_sizes_for_people(length: int, words: str) -> None:
    assert in_bytes(length) == words


def test_a_chart_has_neither_style_nor_script() -> None:
    """The content security policy would forbid them, and say so in the browser's console."""
    drawn = size_chart(["r<1>", 'r"2'], [6_000_000, 6_100_000], [None, 4_119])
    assert drawn.startswith("<svg")
    assert not re.search(r"<(style|script|defs|foreignObject)|\son\w+=|style=|href", drawn)
    assert "r<1>" not in drawn
    assert drawn.count('class="dot') >= 3
    assert re.findall(r">([^<>]+)</text>", drawn)[:4] == ["1 kB", "10 kB", "100 kB", "1 MB"]


@given(st.lists(st.integers(1, 2**53), min_size=1, max_size=24))
def test_the_scale_of_a_chart_holds_every_size_and_no_power_too_many(sizes: list[int]) -> None:
    powers = _powers(sizes)
    assert powers[0] <= min(sizes) < 10 * powers[0]
    assert max(sizes) <= powers[-1]
    assert len(powers) >= 2
    assert powers[-2] < max(*sizes, 2)
    assert all(b == 10 * a for a, b in pairwise(powers))


@given(
    st.lists(
        st.tuples(st.integers(0, 2**53), st.none() | st.integers(0, 2**53)), min_size=2, max_size=24
    )
)
def test_a_chart_of_any_sizes(sizes: list[tuple[int, int | None]]) -> None:
    labels = [f"r{number}" for number in range(len(sizes))]
    assert size_chart(labels, [a for a, _ in sizes], [b for _, b in sizes]).endswith("</svg>")


@pytest.mark.django_db
def test_problems_come_worst_first_and_keep_their_keys() -> None:
    """Alerts are damped by the key: it must not change while the problem is the same."""
    assert problems(NOW) == []
    Repository.objects.create(pk=1, url="http://x", issued=NOW - DAY, frozen=True, clock_ahead=9**6)
    for place, (role, left) in enumerate(
        (("root", 20 * DAY), ("channels", DAY), ("fleet", 90 * DAY))
    ):
        Role.objects.create(
            role=role, version=1, expires=NOW + left, threshold=1, place=place, changed=NOW
        )
    first, later = problems(NOW), problems(NOW + timedelta(hours=1))
    assert [problem.tone for problem in first] == ["bad", "bad", "warn", "warn"]
    assert {problem.key for problem in first} == {
        *("repository:frozen", "repository:clock", "role:root", "role:channels")
    }
    assert [problem.key for problem in first] == [problem.key for problem in later]
    assert all(problem.step and problem.url for problem in first)


@pytest.mark.django_db
def test_a_repository_that_is_away_is_worse_after_an_hour() -> None:
    Repository.objects.create(
        pk=1, url="http://x", problem_kind="network", problem="no route", problem_since=NOW
    )
    assert [problem.tone for problem in problems(NOW)] == ["warn"]
    assert [problem.tone for problem in problems(NOW + timedelta(hours=2))] == ["bad"]
