"""Acts on people, groups, sites and tokens: each changes rows and the audit log as one."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from fleetward.console.audit.chain import Actor, record
from fleetward.console.organisation.models import Group, Site, User
from fleetward.console.permissions import Role
from fleetward.console.wiring import wired
from fleetward.errors import UsageError


class Refused(Exception):  # noqa: N818 (an answer, not a fault)
    """An act that would leave the organisation in a state that nobody wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What an administrator sets of a person."""

    full_name: str = ""
    email: str = ""
    is_active: bool = True
    every_site: bool = True
    groups: tuple[Group, ...] = ()
    sites: tuple[Site, ...] = ()


def standing_of(user: User) -> Standing:
    """Return how a person stands now."""
    return Standing(
        full_name=user.full_name,
        email=user.email,
        is_active=user.is_active,
        every_site=user.every_site,
        groups=tuple(user.groups.all()),
        sites=tuple(user.sites.all()),
    )


def described(standing: Standing) -> dict[str, object]:
    """Return a standing as the audit log shows it."""
    return {
        "full_name": standing.full_name,
        "email": standing.email,
        "active": standing.is_active,
        "groups": sorted(group.name for group in standing.groups),
        "sites": "every" if standing.every_site else sorted(site.name for site in standing.sites),
    }


def add_user(
    actor: Actor, username: str, standing: Standing, *, password: str | None, must_change: bool
) -> User:
    """Add a person.

    Raises:
        ValidationError: the name or password will not do, or the name is taken.
    """
    user = User(username=username.lower(), created=wired().clock.now())
    user.must_change_password = must_change
    if password is None:
        user.set_unusable_password()
    else:
        validate_password(password, user)
        user.set_password(password)
    with transaction.atomic():
        _write(user, standing)
        record(actor, "users.manage", f"user:{user.username}", after=described(standing))
    return user


@contextmanager
def keeping_an_administrator() -> Generator[None]:
    """Undo a change after which nobody could put everything right, where somebody could before.

    Raises:
        Refused: it would have been so.
    """
    with transaction.atomic():
        had_one = active_administrators().exists()
        yield
        if had_one and not active_administrators().exists():
            raise Refused("this would leave no active administrator of every site")


def change_user(actor: Actor, user: User, standing: Standing) -> None:
    """Change how a person stands; an inactive one's sessions and tokens end at once.

    Raises:
        Refused: nobody would be left who administers.
    """
    before = standing_of(user)
    with keeping_an_administrator():
        _write(user, standing)
        record(
            actor,
            "users.manage",
            f"user:{user.username}",
            before=described(before),
            after=described(standing),
        )


def active_administrators() -> "QuerySet[User]":
    """Return who can put everything right: administrators of every site."""
    return User.objects.filter(
        is_active=True,
        every_site=True,
        groups__role=Role.ADMINISTRATOR,
        groups__every_site=True,
    )


def _write(user: User, standing: Standing) -> None:
    user.full_name = standing.full_name
    user.email = standing.email
    user.is_active = standing.is_active
    user.every_site = standing.every_site
    user.full_clean(exclude=["password"])
    user.save()
    user.groups.set(standing.groups)
    user.sites.set(standing.sites)


def set_password(actor: Actor, user: User, password: str, *, must_change: bool = False) -> None:
    """Give a person another password; every other session of his ends.

    Raises:
        ValidationError: the password will not do.
    """
    validate_password(password, user)
    user.set_password(password)
    user.must_change_password = must_change
    with transaction.atomic():
        user.save(update_fields=["password", "must_change_password"])
        record(actor, "users.password", f"user:{user.username}")


def add_administrator(actor: Actor, username: str, password: str) -> User:
    """Add a person who administers, or give the password anew to one who exists.

    Raises:
        UsageError: the name or the password will not do.
    """
    try:
        known = User.objects.filter(username=username.lower()).first()
        if known is None:
            group = Group.objects.filter(role=Role.ADMINISTRATOR, every_site=True).first()
            standing = Standing(groups=(group,) if group else ())
            return add_user(actor, username, standing, password=password, must_change=False)
        set_password(actor, known, password)
        return known
    except ValidationError as error:
        raise UsageError(" ".join(error.messages)) from error
