"""Who may do what: the one table of actions, with the roles and the token scope that each needs.

Every page and every API operation names an action of this table (or says that it is open, or for
everybody who has signed in); `parts` refuses others, and a test walks all routes with all roles.

Deliberately not here: sites. A role may be limited to some sites; `access` knows.
"""

from dataclasses import dataclass
from enum import StrEnum, auto


class Role(StrEnum):
    """What a group lets its members do. Roles do not contain each other; the table lists them."""

    VIEWER = auto()
    OPERATOR = auto()
    APPROVER = auto()
    ADMINISTRATOR = auto()


class Scope(StrEnum):
    """What an API token is good for, at most; its owner's roles limit it further."""

    READ = auto()
    OPERATE = auto()
    APPROVE = auto()
    AUDIT = auto()
    ADMINISTER = auto()


class Gate(StrEnum):
    """Routes that need no role."""

    OPEN = auto()
    """Anybody: the login page, static files, what hosts sign themselves."""
    TOKEN = auto()
    """The view itself asks for a bearer token."""
    SIGNED_IN = auto()
    """Every active user: his own account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What an action needs.

    Attributes:
        roles: one of these.
        scope: what a token must have.
        whole: the role must hold for every site: the act concerns the whole organisation.
        fresh: the person must have given the password within the last minutes.
    """

    roles: frozenset[Role]
    scope: Scope
    whole: bool = False
    fresh: bool = False


EVERYBODY = frozenset(Role)
_OPERATORS = frozenset({Role.OPERATOR, Role.ADMINISTRATOR})
_ADMINISTRATORS = frozenset({Role.ADMINISTRATOR})
# An administrator is no approver by himself: the second person is the point of an approval.
_APPROVERS = frozenset({Role.APPROVER})
_SEES = Rule(roles=EVERYBODY, scope=Scope.READ)
_OPERATES = Rule(roles=_OPERATORS, scope=Scope.OPERATE)
_GOVERNS = Rule(roles=_ADMINISTRATORS, scope=Scope.ADMINISTER, whole=True, fresh=True)
_KNOWS_PEOPLE = Rule(roles=_ADMINISTRATORS, scope=Scope.ADMINISTER, whole=True)

ACTIONS: dict[str, Rule] = {
    "overview.view": _SEES,
    "hosts.view": _SEES,
    "hosts.direct": _OPERATES,
    "hosts.enrol": _OPERATES,
    "hosts.revoke": _OPERATES,
    "sites.view": _SEES,
    "sites.manage": _GOVERNS,
    "products.view": _SEES,
    "rollouts.view": _SEES,
    "rollouts.operate": _OPERATES,
    "rollouts.approve": Rule(roles=_APPROVERS, scope=Scope.APPROVE, fresh=True),
    "ports.view": _SEES,
    "ports.judge": _OPERATES,
    "alerts.view": _SEES,
    "alerts.work": _OPERATES,
    "audit.view": Rule(
        roles=frozenset({Role.ADMINISTRATOR, Role.APPROVER}), scope=Scope.AUDIT, whole=True
    ),
    "users.view": _KNOWS_PEOPLE,
    "users.manage": _GOVERNS,
    "groups.view": _KNOWS_PEOPLE,
    "groups.manage": _GOVERNS,
    "tokens.view": _KNOWS_PEOPLE,
    "tokens.manage": _GOVERNS,
    "settings.view": _KNOWS_PEOPLE,
    "settings.manage": _GOVERNS,
    "metrics.view": Rule(roles=EVERYBODY, scope=Scope.READ, whole=True),
}
"""Action -> what it needs."""
