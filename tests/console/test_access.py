"""Who may do what, where: values only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.console.access import EVERY_SITE, NO_SITE, Access, Grant, Reach
from fleetward.console.permissions import ACTIONS, Role, Scope

BERLIN, PORTO = 1, 2

reaches = st.one_of(
    st.just(EVERY_SITE),
    st.frozensets(st.integers(1, 4)).map(lambda sites: Reach(every=False, sites=sites)),
)


def at(*sites: int) -> Reach:
    return Reach(every=False, sites=frozenset(sites))


@given(reaches, reaches, st.integers(1, 5))
def test_joining_and_meeting_are_or_and_and(one: Reach, other: Reach, site: int) -> None:
    assert one.join(other).includes(site) == (one.includes(site) or other.includes(site))
    assert one.meet(other).includes(site) == (one.includes(site) and other.includes(site))


def test_what_belongs_to_no_site_is_for_those_with_every_site() -> None:
    assert EVERY_SITE.includes(None)
    assert not at(BERLIN).includes(None)


def test_nobody_may_do_anything_without_a_grant() -> None:
    assert not any(Access().may(action) for action in ACTIONS)


def test_a_role_at_one_site_reaches_that_site_alone() -> None:
    access = Access((Grant(Role.OPERATOR, at(BERLIN)), Grant(Role.VIEWER, at(BERLIN, PORTO))))
    assert access.reach("hosts.direct") == at(BERLIN)
    assert access.reach("hosts.view") == at(BERLIN, PORTO)


def test_what_concerns_the_whole_organisation_needs_a_role_at_every_site() -> None:
    access = Access((Grant(Role.ADMINISTRATOR, at(BERLIN)),))
    assert access.reach("users.manage") == NO_SITE
    assert access.reach("hosts.direct") == at(BERLIN)
    assert not access.may("users.manage")
    assert Access((Grant(Role.ADMINISTRATOR, EVERY_SITE),)).may("users.manage")


def test_an_administrator_does_not_approve_by_himself() -> None:
    assert not Access((Grant(Role.ADMINISTRATOR, EVERY_SITE),)).may("rollouts.approve")
    assert Access((Grant(Role.APPROVER, EVERY_SITE),)).may("rollouts.approve")


@pytest.mark.parametrize("action", ACTIONS)
def test_a_token_has_no_more_than_its_scopes(action: str) -> None:
    everything = Access(tuple(Grant(role, EVERY_SITE) for role in Role))
    rule = ACTIONS[action]
    assert everything.may(action)
    assert everything.narrowed(frozenset({rule.scope})).may(action)
    assert not everything.narrowed(frozenset(Scope) - {rule.scope}).may(action)


def test_narrowing_twice_never_widens() -> None:
    access = Access((Grant(Role.VIEWER, EVERY_SITE),)).narrowed(frozenset({Scope.AUDIT}))
    assert access.narrowed(frozenset(Scope)).scopes == frozenset({Scope.AUDIT})
