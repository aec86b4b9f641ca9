"""What one person or token may do, and at which sites: values only, no database.

A grant is a role at some sites. A person has the grants of his groups; his own limit to some sites
narrows each. A token has its owner's grants, narrowed to its scopes.
"""

from dataclasses import dataclass

from fleetward.console.permissions import ACTIONS, Role, Scope


@dataclass(frozen=True, slots=True)
class Reach:
    """Some sites, by their row ids, or every site (also those that do not exist yet)."""

    every: bool
    sites: frozenset[int] = frozenset()

    def includes(self, site: int | None) -> bool:
        """Return whether a site lies within; what belongs to no site is for those with all."""
        return self.every or (site is not None and site in self.sites)

    def join(self, other: "Reach") -> "Reach":
        """Return the sites of either."""
        return (
            EVERY_SITE
            if self.every or other.every
            else Reach(every=False, sites=self.sites | other.sites)
        )

    def meet(self, other: "Reach") -> "Reach":
        """Return the sites of both."""
        if self.every:
            return other
        return self if other.every else Reach(every=False, sites=self.sites & other.sites)

    def is_empty(self) -> bool:
        """Return whether no site at all lies within."""
        return not self.every and not self.sites


EVERY_SITE = Reach(every=True)
NO_SITE = Reach(every=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, at some sites."""

    role: Role
    reach: Reach


@dataclass(frozen=True, slots=True)
class Access:
    """All grants of one person or token.

    Attributes:
        grants: roles and their sites.
        scopes: what a token is limited to; a session has all.
    """

    grants: tuple[Grant, ...] = ()
    scopes: frozenset[Scope] = frozenset(Scope)

    def reach(self, action: str) -> Reach:
        """Return where `action` of `permissions.ACTIONS` may be done; `NO_SITE` where nowhere."""
        rule = ACTIONS[action]
        reach = NO_SITE
        if rule.scope not in self.scopes:
            return reach
        for grant in self.grants:
            if grant.role in rule.roles:
                reach = reach.join(grant.reach)
        return NO_SITE if rule.whole and not reach.every else reach

    def may(self, action: str) -> bool:
        """Return whether `action` may be done anywhere; a view then narrows to `reach`."""
        return not self.reach(action).is_empty()

    def narrowed(self, scopes: frozenset[Scope]) -> "Access":
        """Return the same access limited to some scopes."""
        return Access(self.grants, self.scopes & scopes)


NO_ACCESS = Access()
