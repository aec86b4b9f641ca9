"""The people that the console's tests are about, and how they sign in."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.test import Client

from fleetward.adapters.entropy import SystemEntropy
from fleetward.console.organisation.models import Group, Site, User
from fleetward.console.organisation.tokens import make_token
from fleetward.console.permissions import Role, Scope
from fleetward.console.wiring import wired

PASSWORD = "correct horse battery staple"


@dataclass
class SetClock:
    """A clock that stands where it is put."""

    moment: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> timedelta:
        return self.moment - datetime(2026, 1, 1, tzinfo=UTC)

    def sleep(self, pause: timedelta) -> None:
        self.moment += pause


def add_site(name: str) -> Site:
    return Site.objects.create(name=name, created=wired().clock.now())


def add_person(
    name: str, *roles: Role, sites: tuple[Site, ...] | None = None, password: str = PASSWORD
) -> User:
    """Add somebody with the roles at every site, or limited to some."""
    user = User(username=name, created=wired().clock.now(), every_site=sites is None)
    user.set_password(password)
    user.save()
    user.sites.set(sites or ())
    user.groups.set(Group.objects.get(role=role, name=f"{role}s") for role in roles)
    return user


def signed_in(user: User, *, enforce_csrf_checks: bool = False) -> Client:
    """Return a browser in which somebody has signed in by the login page."""
    client = Client(enforce_csrf_checks=False)
    answer = client.post("/login/", {"username": user.username, "password": PASSWORD})
    assert answer.status_code == 302, answer.content
    client.handler.enforce_csrf_checks = enforce_csrf_checks
    return client


def token_of(user: User, *scopes: Scope, life: timedelta = timedelta(days=1)) -> str:
    """Return a token of somebody's."""
    now = wired().clock.now()
    made = make_token(
        SystemEntropy(), now, user, name="test", scopes=frozenset(scopes), expires=now + life
    )
    return made.text


def bearing(token: str) -> Client:
    """Return a program that sends a token."""
    return Client(headers={"Authorization": f"Bearer {token}"})
