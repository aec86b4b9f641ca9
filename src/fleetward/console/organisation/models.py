"""Sites, people, groups and tokens, as rows.

Invariants: a group has one role; a person is in any number of groups; both may be limited to some
sites. A token's secret is kept as its digest alone. People are never deleted, only made inactive:
the audit log names them.
"""

from datetime import datetime
from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.validators import RegexValidator
from django.db import models

from fleetward.console.access import EVERY_SITE, Access, Grant, Reach
from fleetward.console.permissions import Role, Scope

MAX_NAME = 64
"""Characters of a name, at most."""

_NAME = RegexValidator(
    r"\A[a-z0-9][a-z0-9._@+-]*\Z",
    "Use small letters, digits and . _ @ + -, beginning with a letter or digit.",
)


class Site(models.Model):
    """A place with its own network.

    Attributes:
        name: how hosts, relays and people name it; short, unique, without spaces.
        title: how the pages show it.
    """

    name = models.CharField(max_length=MAX_NAME, unique=True, validators=[_NAME])
    title = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.title or self.name


class Group(models.Model):
    """People with one role, at every site or at some."""

    name = models.CharField(max_length=MAX_NAME, unique=True, validators=[_NAME])
    role = models.CharField(max_length=20, choices=[(role.value, role.value) for role in Role])
    every_site = models.BooleanField(default=False)
    sites = models.ManyToManyField(Site, blank=True, related_name="groups")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def grant(self) -> Grant:
        """Return what membership gives."""
        return Grant(Role(self.role), reach_of(self))


class PeopleManager(BaseUserManager["User"]):
    """How Django finds people by what they type."""

    def get_by_natural_key(self, username: str | None) -> "User":
        """Return the person of that name, whatever the case of its letters."""
        return self.get(username=(username or "").lower())


class User(AbstractBaseUser):
    """A person.

    Attributes:
        username: what is typed at login; small letters.
        full_name: what the pages show.
        email: for notifications; may be empty.
        is_active: whether login is possible.
        must_change_password: the next login asks for a new password first.
        subject: the provider's own name of this person, where OIDC made the row.
        groups: what roles come from.
        every_site: whether the groups' roles hold wherever the groups reach; else only at `sites`.
        theme: light, dark, or the browser's choice.
        created: when the row was made.
    """

    username = models.CharField(max_length=MAX_NAME, unique=True, validators=[_NAME])
    full_name = models.CharField(max_length=200, blank=True)
    email = models.EmailField(blank=True)
    is_active = models.BooleanField(default=True)
    must_change_password = models.BooleanField(default=False)
    subject = models.CharField(max_length=255, unique=True, null=True, blank=True)
    groups = models.ManyToManyField(Group, blank=True, related_name="members")
    every_site = models.BooleanField(default=True)
    sites = models.ManyToManyField(Site, blank=True, related_name="people")
    theme = models.CharField(
        max_length=6,
        default="auto",
        choices=[("auto", "as the system"), ("light", "light"), ("dark", "dark")],
    )
    created = models.DateTimeField()

    objects: ClassVar[PeopleManager] = PeopleManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"

    class Meta:
        ordering = ["username"]

    def __str__(self) -> str:
        return self.full_name or self.username

    def access(self) -> Access:
        """Return what this person may do; nothing where inactive."""
        if not self.is_active:
            return Access()
        own = reach_of(self)
        grants = (group.grant() for group in self.groups.prefetch_related("sites"))
        return Access(tuple(Grant(grant.role, grant.reach.meet(own)) for grant in grants))

    def is_administrator(self) -> bool:
        """Return whether one of the groups administers."""
        return self.groups.filter(role=Role.ADMINISTRATOR).exists()


def reach_of(holder: Group | User) -> Reach:
    """Return the sites that a group or person is limited to."""
    if holder.every_site:
        return EVERY_SITE
    return Reach(every=False, sites=frozenset(site.pk for site in holder.sites.all()))


class Token(models.Model):
    """A bearer token of the API.

    Attributes:
        name: what it is for.
        owner: whose roles it has, narrowed by `scopes`.
        prefix: its first characters, for people to tell tokens apart.
        digest: sha256 of the whole token, in hex.
        scopes: names of `permissions.Scope`.
        expires: when it stops working.
        last_used: to the minute.
        revoked: when somebody ended it.
    """

    name = models.CharField(max_length=100)
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="tokens")
    prefix = models.CharField(max_length=16)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created = models.DateTimeField()
    expires = models.DateTimeField()
    last_used = models.DateTimeField(null=True)
    revoked = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def scope_set(self) -> frozenset[Scope]:
        """Return the scopes; an unknown one, of a later version, gives nothing."""
        return frozenset(Scope(scope) for scope in self.scopes if scope in set(Scope))

    def is_live(self, now: datetime) -> bool:
        """Return whether it works at `now`."""
        return self.revoked is None and now < self.expires and self.owner.is_active


class RecoveryCode(models.Model):
    """A code that stands in once for a lost second factor; 100 bits, kept as its digest."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.CharField(max_length=64)
    used = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "digest"], name="one_code_once")]

    def __str__(self) -> str:
        return f"recovery code {self.pk} of {self.owner_id}"
