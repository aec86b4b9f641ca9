"""What becomes of alerts, as stories about a clock and a list of facts."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.alerts.deciding import (
    Decision,
    Fact,
    Known,
    Rules,
    Telling,
    Verb,
    decide,
)
from fleetward.console.alerts.kinds import SEVERITY, STEP, TITLE, Kind
from support.fakes import START

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
RULES = Rules()


def fact(kind: Kind = Kind.SILENT, subject: str = "site:berlin", hosts: int = 3) -> Fact:
    return Fact(kind=kind, subject=subject, title="hosts are silent", hosts=hosts)


@dataclass
class Story:
    """Alerts as a keeper would keep them, without a database."""

    now: datetime = START
    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    told: list[Telling] = field(default_factory=list)
    opened: int = 0

    def after(self, pause: timedelta, *facts: Fact) -> list[Decision]:
        """Let time pass, then look at facts."""
        self.now += pause
        decisions = decide(facts, self.known, self.now, RULES)
        for decision in decisions:
            self._keep(decision)
        return decisions

    def _keep(self, decision: Decision) -> None:
        before = self.known.get(decision.key) or Known(is_open=False)
        hosts = decision.fact.hosts if decision.fact else before.told_hosts
        told, told_hosts = before.told, before.told_hosts
        if decision.telling is not Telling.NOT:
            self.told.append(decision.telling)
            told, told_hosts = self.now, hosts
        self.opened += decision.verb is Verb.OPEN
        is_back = decision.verb is Verb.REOPEN
        self.known[decision.key] = Known(
            is_open=decision.verb is not Verb.RESOLVE,
            away=None if decision.fact else before.away or self.now,
            resolved=self.now if decision.verb is Verb.RESOLVE else before.resolved,
            returns=0 if decision.verb is Verb.OPEN else before.returns + is_back,
            is_acknowledged=before.is_acknowledged and not is_back,
            told=told,
            told_hosts=told_hosts,
        )

    def resolve(self) -> None:
        """Let the facts be away for long enough."""
        self.after(MINUTE)
        self.after(RULES.settle)


def test_every_kind_has_a_severity_a_step_and_a_title() -> None:
    assert set(SEVERITY) == set(STEP) == set(TITLE) == set(Kind)
    assert all(step.endswith(".") for step in STEP.values())


def test_a_fact_opens_an_alert_once_and_people_are_told_once() -> None:
    story = Story()
    for _ in range(60):
        story.after(MINUTE, fact())
    assert story.opened == 1
    assert story.told == [Telling.NEW]


def test_a_thousand_facts_about_one_thing_are_one_alert() -> None:
    """A relay that says the same a thousand times opens one alert; the greatest count holds."""
    decisions = Story().after(MINUTE, *(fact(hosts=n) for n in range(1, 1_001)))
    assert len(decisions) == 1
    assert decisions[0].fact is not None
    assert decisions[0].fact.hosts == 1_000


def test_an_alert_resolves_only_once_its_fact_has_been_away_for_a_while() -> None:
    story = Story()
    story.after(MINUTE, fact())
    assert [each.verb for each in story.after(MINUTE)] == [Verb.AWAY]
    assert [each.verb for each in story.after(RULES.settle - MINUTE)] == [Verb.AWAY]
    assert [each.verb for each in story.after(MINUTE)] == [Verb.RESOLVE]
    assert story.told == [Telling.NEW, Telling.OVER]
    assert story.after(MINUTE) == []


def test_a_check_in_that_came_late_resolves_nothing() -> None:
    story = Story()
    story.after(MINUTE, fact())
    story.after(RULES.settle - MINUTE)
    assert [each.verb for each in story.after(MINUTE, fact())] == [Verb.SEEN]
    assert story.told == [Telling.NEW]


def test_what_comes_back_within_a_day_is_the_same_alert() -> None:
    story = Story()
    story.after(MINUTE, fact())
    story.resolve()
    assert [each.verb for each in story.after(HOUR, fact())] == [Verb.REOPEN]
    assert story.opened == 1
    assert story.told[-1] is Telling.BACK


def test_what_comes_back_after_a_day_is_a_new_alert() -> None:
    story = Story()
    story.after(MINUTE, fact())
    story.resolve()
    assert [each.verb for each in story.after(RULES.window + MINUTE, fact())] == [Verb.OPEN]


def test_a_host_that_flaps_all_night_does_not_wake_people_all_night() -> None:
    """A flaky link drops a site every half hour for ten hours: three people-wakings, not twenty."""
    story = Story()
    for _ in range(20):
        story.after(MINUTE, fact())
        story.after(MINUTE)
        story.after(RULES.settle)
        story.after(18 * MINUTE)
    assert story.opened == 1
    assert story.told.count(Telling.NEW) + story.told.count(Telling.BACK) == RULES.flaps
    assert [each.verb for each in story.after(MINUTE)] == [Verb.AWAY]
    assert [each.verb for each in story.after(RULES.calm)] == [Verb.RESOLVE]


def test_people_are_told_again_when_it_doubles_and_not_for_each_host() -> None:
    story = Story()
    for hosts in range(1, 101):
        story.after(MINUTE, fact(hosts=hosts))
    assert story.told == [Telling.NEW, *[Telling.GREW] * 6]


def test_what_nobody_takes_on_is_told_again_after_hours() -> None:
    story = Story()
    story.after(MINUTE, fact())
    for _ in range(25):
        story.after(HOUR, fact())
    assert story.told == [Telling.NEW, Telling.AGAIN, Telling.AGAIN]


def test_while_somebody_works_on_it_nobody_is_told_again() -> None:
    known = {fact().key: Known(is_open=True, is_acknowledged=True, told=START, told_hosts=1)}
    (decision,) = decide([fact(hosts=50)], known, START + 100 * HOUR, RULES)
    assert (decision.verb, decision.telling) == (Verb.SEEN, Telling.NOT)


def test_what_is_only_for_the_record_is_told_once() -> None:
    story = Story()
    for _ in range(40):
        story.after(HOUR, fact(Kind.RELAY_BEHIND, "relay:a"))
    assert story.told == [Telling.NEW]


@pytest.mark.parametrize("hosts", [0, 1])
def test_what_concerns_no_host_never_grows(hosts: int) -> None:
    story = Story()
    story.after(MINUTE, fact(hosts=0))
    (decision,) = story.after(MINUTE, fact(hosts=hosts))
    assert decision.telling is Telling.NOT


@given(st.lists(st.tuples(st.integers(0, 120), st.sets(st.sampled_from("abc"))), max_size=60))
def test_whatever_happens_at_most_one_alert_of_a_thing_is_open_and_tellings_are_few(
    rounds: list[tuple[int, set[str]]],
) -> None:
    story = Story()
    for minutes, subjects in rounds:
        facts = [fact(subject=subject) for subject in sorted(subjects)]
        decisions = story.after(minutes * MINUTE, *facts)
        keys = [decision.key for decision in decisions]
        assert len(keys) == len(set(keys))
        for each in facts:
            assert story.known[each.key].is_open
    # Three things; each is told of when it opens and ends, and twice a day while it stays.
    days = (story.now - START) / timedelta(days=1) + 1
    assert len(story.told) <= 3 * (days * 2 + 2 * (len(rounds) / 2 + 1))
