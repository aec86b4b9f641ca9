"""What administration adds to the console."""

from fleetward.console.administration import people, settings, trail
from fleetward.console.administration.api import audit_router, organisation_router
from fleetward.console.parts import Page, Part, Place
from fleetward.console.permissions import Gate

_SETTINGS = "Settings"


def _manages(noun: str) -> dict[str, str]:
    return {"GET": f"{noun}.manage", "POST": f"{noun}.manage"}


def _act(noun: str) -> dict[str, str]:
    return {"POST": f"{noun}.manage"}


PART = Part(
    name="administration",
    pages=(
        Page("settings/", "about", settings.about, {"GET": Gate.SIGNED_IN}),
        Page("settings/users/", "people", people.people, {"GET": "users.view"}),
        Page("settings/users/new/", "new-person", people.new_person, _manages("users")),
        Page(
            "settings/users/<int:pk>/",
            "person",
            people.person,
            {"GET": "users.view", "POST": "users.manage"},
        ),
        Page(
            "settings/users/<int:pk>/password/",
            "reset-password",
            people.reset_password,
            _act("users"),
        ),
        Page("settings/users/<int:pk>/factor/", "reset-factor", people.reset_factor, _act("users")),
        Page("settings/groups/", "groups", settings.groups, {"GET": "groups.view"}),
        Page("settings/groups/new/", "new-group", settings.new_group, _manages("groups")),
        Page("settings/groups/<int:pk>/", "group", settings.group, _manages("groups")),
        Page(
            "settings/groups/<int:pk>/remove/", "remove-group", settings.drop_group, _act("groups")
        ),
        Page("settings/sites/", "sites", settings.sites, {"GET": "sites.view"}),
        Page("settings/sites/new/", "new-site", settings.new_site, _manages("sites")),
        Page("settings/sites/<int:pk>/", "site", settings.site, _manages("sites")),
        Page("settings/sites/<int:pk>/remove/", "remove-site", settings.drop_site, _act("sites")),
        Page("settings/tokens/", "tokens", settings.tokens, {"GET": "tokens.view"}),
        Page("settings/tokens/new/", "new-token", settings.new_token, _manages("tokens")),
        Page(
            "settings/tokens/<int:pk>/revoke/",
            "revoke-token",
            settings.drop_token,
            _act("tokens"),
        ),
        Page("audit/", "trail", trail.trail, {"GET": "audit.view"}),
        Page("audit/verdict/", "verdict", trail.verdict, {"GET": "audit.view"}),
    ),
    places=(
        Place(
            title="Audit",
            route="administration:trail",
            action="audit.view",
            icon="audit",
            order=80,
        ),
        Place(
            title=_SETTINGS,
            route="administration:about",
            action=Gate.SIGNED_IN,
            icon="settings",
            order=90,
        ),
        Place(
            title="About",
            route="administration:about",
            action=Gate.SIGNED_IN,
            order=10,
            below=_SETTINGS,
        ),
        Place(
            title="Users",
            route="administration:people",
            action="users.view",
            order=20,
            below=_SETTINGS,
        ),
        Place(
            title="Groups",
            route="administration:groups",
            action="groups.view",
            order=30,
            below=_SETTINGS,
        ),
        Place(
            title="Sites",
            route="administration:sites",
            action="sites.view",
            order=40,
            below=_SETTINGS,
        ),
        Place(
            title="API tokens",
            route="administration:tokens",
            action="tokens.view",
            order=50,
            below=_SETTINGS,
        ),
    ),
    routers={"": organisation_router, "/audit": audit_router},
)
