"""The API of the organisation: users, groups, sites, tokens, audit."""

from datetime import datetime, timedelta
from typing import Annotated

from django.core.exceptions import ValidationError
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema
from ninja.errors import HttpError
from pydantic import Field

from fleetward.console.administration.trail import filtered
from fleetward.console.api.paging import Listing, Rows, listing
from fleetward.console.api.problems import answers
from fleetward.console.api.security import needs
from fleetward.console.audit.chain import verify_log
from fleetward.console.organisation.groups import remove_site, save_site
from fleetward.console.organisation.models import Group, Site, Token, User
from fleetward.console.organisation.people import (
    Refused,
    Standing,
    add_user,
    change_user,
    standing_of,
)
from fleetward.console.organisation.tokens import issue_token, parse_scopes, revoke_token
from fleetward.console.permissions import Role, Scope
from fleetward.console.web.asking import Asked, AskedByPerson
from fleetward.console.web.reaching import one_within, within
from fleetward.errors import UsageError

organisation_router = Router(tags=["organisation"])
audit_router = Router(tags=["audit"])

# The columns are what the databases hold; a longer name or a NUL could be in neither.
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._@+-]*$")]
Words = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Part = Annotated[str, Field(max_length=300, pattern=r"^[^\x00]*$")]


class SiteOut(Schema):
    """A site."""

    name: str
    title: str
    created: datetime


class SiteIn(Schema):
    """A site to add."""

    name: Name
    title: Words = ""


class SiteChange(Schema):
    """What to change of a site."""

    title: Words


class GroupOut(Schema):
    """A group; `sites` is null where its role holds at every site."""

    name: str
    role: Role
    sites: list[str] | None


class UserOut(Schema):
    """A person; `sites` is null where only the groups limit."""

    username: str
    full_name: str
    email: str
    active: bool
    groups: list[str]
    sites: list[str] | None
    created: datetime
    last_login: datetime | None


class UserChange(Schema):
    """What to change of a person; what is absent stays."""

    full_name: Words | None = None
    email: Words | None = None
    active: bool | None = None
    groups: list[Name] | None = None


class UserIn(Schema):
    """A person to add; the password must be changed at the first login."""

    username: Name
    password: Annotated[str, Field(min_length=12, max_length=1024)]
    full_name: Words = ""
    email: Words = ""
    groups: list[Name] = []


class TokenOut(Schema):
    """A token; its secret is never shown again."""

    id: int
    name: str
    owner: str
    prefix: str
    scopes: list[str]
    created: datetime
    expires: datetime
    last_used: datetime | None
    revoked: datetime | None


class TokenIn(Schema):
    """A token to make, for whoever asks."""

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    days: Annotated[int, Field(ge=1, le=366)] = 90


class TokenMade(TokenOut):
    """A token that was just made, with its secret."""

    token: str


class EntryOut(Schema):
    """An entry of the audit log; before and after are canonical JSON, or empty."""

    seq: int
    at: datetime
    actor_kind: str
    actor: str
    address: str
    action: str
    subject: str
    before: str
    after: str
    previous: str
    digest: str


class EntryFilter(Schema):
    """Which entries."""

    actor: Part = ""
    action: Part = ""
    subject: Part = ""
    since: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""
    until: Annotated[str, Field(pattern=r"^(\d{4}-\d{2}-\d{2})?$")] = ""


class VerdictOut(Schema):
    """Whether the audit log's chain holds."""

    ok: bool
    entries: int
    head: str
    broken: str


# -- sites --------------------------------------------------------------------------------------


@organisation_router.get("/sites", auth=needs("sites.view"), response=answers(Listing[SiteOut]))
def list_sites(request: Asked, paging: Rows) -> Listing[SiteOut]:
    """List the sites that the token's owner sees."""
    seen = within(Site.objects.all(), request.access.reach("sites.view"), "pk")
    return listing(seen, paging, SiteOut.from_orm)


@organisation_router.get("/sites/{name}", auth=needs("sites.view"), response=answers(SiteOut, 404))
def show_site(request: Asked, name: Part) -> SiteOut:
    """Show a site."""
    return SiteOut.from_orm(_site(request, "sites.view", name))


@organisation_router.post("/sites", auth=needs("sites.manage"), response=answers(SiteOut, 409))
def create_site(request: Asked, site: SiteIn) -> SiteOut:
    """Add a site."""
    if Site.objects.filter(name=site.name).exists():
        raise HttpError(409, "there is a site of this name")
    made = save_site(request.actor, Site(), name=site.name, title=site.title)
    return SiteOut.from_orm(made)


@organisation_router.patch(
    "/sites/{name}", auth=needs("sites.manage"), response=answers(SiteOut, 404)
)
def change_site(request: Asked, name: Part, change: SiteChange) -> SiteOut:
    """Change a site's title."""
    site = _site(request, "sites.manage", name)
    return SiteOut.from_orm(save_site(request.actor, site, name=site.name, title=change.title))


@organisation_router.delete(
    "/sites/{name}", auth=needs("sites.manage"), response=answers(SiteOut, 404, 409)
)
def delete_site(request: Asked, name: Part) -> SiteOut:
    """Remove a site that nothing lies at; the answer is what it was."""
    site = _site(request, "sites.manage", name)
    was = SiteOut.from_orm(site)
    try:
        remove_site(request.actor, site)
    except Refused as error:
        raise HttpError(409, str(error)) from error
    return was


def _site(request: Asked, action: str, name: str) -> Site:
    return one_within(Site.objects.all(), request.access.reach(action), "pk", name=name)


# -- groups and people -----------------------------------------------------------------------------


@organisation_router.get("/groups", auth=needs("groups.view"), response=answers(Listing[GroupOut]))
def list_groups(request: Asked, paging: Rows) -> Listing[GroupOut]:
    """List groups."""
    return listing(Group.objects.prefetch_related("sites"), paging, _group_out)


@organisation_router.get("/users", auth=needs("users.view"), response=answers(Listing[UserOut]))
def list_users(request: Asked, paging: Rows) -> Listing[UserOut]:
    """List people."""
    rows = User.objects.prefetch_related("groups", "sites")
    return listing(rows, paging, _user_out)


@organisation_router.get(
    "/users/{username}", auth=needs("users.view"), response=answers(UserOut, 404)
)
def show_user(request: Asked, username: Part) -> UserOut:
    """Show a person."""
    return _user_out(get_object_or_404(User, username=username))


@organisation_router.post("/users", auth=needs("users.manage"), response=answers(UserOut, 409))
def create_user(request: Asked, user: UserIn) -> UserOut:
    """Add a person."""
    if User.objects.filter(username=user.username).exists():
        raise HttpError(409, "there is a user of this name")
    standing = Standing(
        full_name=user.full_name, email=user.email, groups=_groups_named(user.groups)
    )
    actor = request.actor
    try:
        made = add_user(actor, user.username, standing, password=user.password, must_change=True)
    except ValidationError as error:
        raise HttpError(422, " ".join(error.messages)) from error
    return _user_out(made)


@organisation_router.patch(
    "/users/{username}", auth=needs("users.manage"), response=answers(UserOut, 404, 409)
)
def patch_user(request: Asked, username: Part, change: UserChange) -> UserOut:
    """Change a person."""
    user = get_object_or_404(User, username=username)
    old = standing_of(user)
    standing = Standing(
        full_name=old.full_name if change.full_name is None else change.full_name,
        email=old.email if change.email is None else change.email,
        is_active=old.is_active if change.active is None else change.active,
        every_site=old.every_site,
        groups=old.groups if change.groups is None else _groups_named(change.groups),
        sites=old.sites,
    )
    try:
        change_user(request.actor, user, standing)
    except Refused as error:
        raise HttpError(409, str(error)) from error
    except ValidationError as error:
        raise HttpError(422, " ".join(error.messages)) from error
    return _user_out(user)


def _groups_named(names: list[str]) -> tuple[Group, ...]:
    found = tuple(Group.objects.filter(name__in=names))
    unknown = set(names) - {group.name for group in found}
    if unknown:
        raise HttpError(422, f"there is no group {', '.join(sorted(unknown))}")
    return found


def _group_out(group: Group) -> GroupOut:
    sites = None if group.every_site else [site.name for site in group.sites.all()]
    return GroupOut(name=group.name, role=Role(group.role), sites=sites)


def _user_out(user: User) -> UserOut:
    return UserOut(
        username=user.username,
        full_name=user.full_name,
        email=user.email,
        active=user.is_active,
        groups=[group.name for group in user.groups.all()],
        sites=None if user.every_site else [site.name for site in user.sites.all()],
        created=user.created,
        last_login=user.last_login,
    )


# -- tokens -----------------------------------------------------------------------------------------


@organisation_router.get("/tokens", auth=needs("tokens.view"), response=answers(Listing[TokenOut]))
def list_tokens(request: Asked, paging: Rows) -> Listing[TokenOut]:
    """List tokens, the newest first."""
    rows = Token.objects.select_related("owner")
    return listing(rows, paging, _token_out, descending=True)


@organisation_router.post("/tokens", auth=needs("tokens.manage"), response=answers(TokenMade))
def create_token(request: AskedByPerson, token: TokenIn) -> TokenMade:
    """Make a token for the owner of the one that asks, with no more scopes than that has."""
    granted = request.access.scopes
    try:
        scopes = parse_scopes(token.scopes)
    except UsageError as error:
        raise HttpError(422, str(error)) from error
    if not scopes <= granted:
        raise HttpError(403, "a token cannot make one with scopes that it lacks")
    life = timedelta(days=token.days)
    made = issue_token(request.actor, request.user, token.name, scopes, life)
    return TokenMade(**_token_out(made.row).dict(), token=made.text)


@organisation_router.delete(
    "/tokens/{id}", auth=needs("tokens.manage"), response=answers(TokenOut, 404)
)
def end_token(request: Asked, id: Annotated[int, Field(ge=0, lt=1 << 63)]) -> TokenOut:  # noqa: A002 (the name in the path)
    """Revoke a token."""
    row = get_object_or_404(Token, pk=id)
    revoke_token(request.actor, row)
    return _token_out(row)


def _token_out(token: Token) -> TokenOut:
    return TokenOut(
        id=token.pk,
        name=token.name,
        owner=token.owner.username,
        prefix=token.prefix,
        scopes=list(token.scopes),
        created=token.created,
        expires=token.expires,
        last_used=token.last_used,
        revoked=token.revoked,
    )


# -- audit ------------------------------------------------------------------------------------------


@audit_router.get("", auth=needs("audit.view"), response=answers(Listing[EntryOut]))
def list_entries(
    request: Asked, paging: Rows, which: Annotated[EntryFilter, Query()]
) -> Listing[EntryOut]:
    """List the audit log, the newest first."""
    return listing(filtered(which.dict()), paging, EntryOut.from_orm, descending=True)


@audit_router.get("/verify", auth=needs("audit.view"), response=answers(VerdictOut))
def verify(request: Asked) -> VerdictOut:
    """Walk the audit log's whole chain."""
    found = verify_log()
    return VerdictOut(
        ok=not found.broken, entries=found.entries, head=found.head, broken=found.broken
    )
