"""Small things that every page uses: times, pages of rows, cursors, sites."""

from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.http import Http404
from hypothesis import given
from hypothesis import strategies as st

from console.cast import SetClock, add_site
from fleetward.console.access import EVERY_SITE, NO_SITE, Reach
from fleetward.console.organisation.models import Site
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import one_within, within
from fleetward.console.web.tags import coded, distance, duration, icon, instant, live, pretty
from fleetward.console.wiring import rewired

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("gap", "words"),
    [
        (timedelta(), "now"),
        (timedelta(milliseconds=900), "now"),
        (timedelta(seconds=1), "1 s ago"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=1), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=23), "23 h ago"),
        (timedelta(days=400), "400 d ago"),
        (-timedelta(days=3), "in 3 d"),
        (-timedelta(hours=2), "in 2 h"),
    ],
)
def test_how_far_an_instant_lies(gap: timedelta, words: str) -> None:
    assert distance(NOON - gap, NOON) == words


def test_an_instant_says_exactly_when_on_demand() -> None:
    with rewired(clock=SetClock(NOON)):
        shown = instant(NOON - timedelta(hours=1))
    assert 'datetime="2026-11-24T11:00:00+00:00"' in shown
    assert 'title="2026-11-24 11:00:00 UTC"' in shown
    assert "1 h ago" in shown
    assert "never" in instant(None)


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(minutes=30), "30 minutes"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(days=2), "2 days"),
        (timedelta(seconds=90), "90 seconds"),
        (timedelta(), "0 seconds"),
    ],
)
def test_a_duration_in_whole_units(span: timedelta, words: str) -> None:
    assert duration(span) == words


def test_json_is_shown_indented_and_other_text_as_it_is() -> None:
    assert pretty('{"a":1}') == '{\n  "a": 1\n}'
    assert pretty("no json") == "no json"


@given(st.text(alphabet="`<&ab ", max_size=40))
def test_commands_in_a_sentence_become_code_and_nothing_else_becomes_a_tag(text: str) -> None:
    shown = coded(text)
    assert shown.count("<code>") == shown.count("</code>") == (text.count("`") + 1) // 2
    rest = shown.replace("<code>", "").replace("</code>", "")
    assert unescape(rest) == text.replace("`", "")
    assert "<" not in rest


def test_a_command_in_a_sentence() -> None:
    assert coded("run `a <b>` now") == "run <code>a &lt;b&gt;</code> now"


def test_tags_escape_what_they_are_given() -> None:
    assert "<script>" not in icon("<script>")
    assert '"><' not in live('/x"><script>', 5)
    assert "every 5s" in live("/x", 5)


@given(st.text())
def test_a_cursor_out_of_a_url_is_a_key_or_none(text: str) -> None:
    cursor = cursor_in(text)
    assert cursor is None or 0 <= cursor < 1 << 63


@pytest.mark.django_db
@pytest.mark.parametrize("limit", [1, 3, 7, 8, 100])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_hold_every_row_once_in_order(limit: int, *, descending: bool) -> None:
    keys = [add_site(f"s{number}").pk for number in range(7)]
    seen: list[int] = []
    cursor, pages = None, 0
    while True:
        found = slice_after(Site.objects.all(), cursor, limit, descending=descending)
        assert len(found.rows) <= limit
        seen += [site.pk for site in found.rows]
        pages += 1
        if found.after is None:
            break
        cursor = found.after
    assert seen == (keys[::-1] if descending else keys)
    assert pages == -(-7 // limit)


@pytest.mark.django_db
def test_rows_are_narrowed_to_the_sites_of_a_reach() -> None:
    berlin, porto = add_site("berlin"), add_site("porto")
    rows = Site.objects.all()
    only = Reach(every=False, sites=frozenset({berlin.pk}))
    assert list(within(rows, only, "pk")) == [berlin]
    assert list(within(rows, NO_SITE, "pk")) == []
    assert list(within(rows, EVERY_SITE, "pk")) == [berlin, porto]
    assert one_within(rows, only, "pk", name="berlin") == berlin
    with pytest.raises(Http404):
        one_within(rows, only, "pk", name="porto")
    with pytest.raises(Http404):
        one_within(rows, EVERY_SITE, "pk", name="nowhere")
