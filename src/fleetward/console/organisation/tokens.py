"""The API's bearer tokens: made, kept as digests, revoked; with the audit log.

A token is `fw_`, 8 characters by which people tell it apart, `_`, and 160 random bits in base 32.
So its sha256 needs no salt and no slow hash. It is shown once.
"""

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from fleetward.adapters.entropy import Entropy
from fleetward.console.audit.chain import Actor, record
from fleetward.console.organisation.models import Token, User
from fleetward.console.permissions import Scope
from fleetward.console.wiring import wired
from fleetward.errors import UsageError

PREFIX_LENGTH = 11
"""Characters that people see of a token."""

SECRET_BYTES = 20
"""Unpredictable bytes of a token (guessing)."""

MAX_LIFE = timedelta(days=366)
"""How long a token may live (a forgotten one)."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made.

    Attributes:
        row: what is kept.
        text: the token itself, to be shown once.
    """

    row: Token
    text: str


def make_token(
    entropy: Entropy,
    now: datetime,
    owner: User,
    *,
    name: str,
    scopes: frozenset[Scope],
    expires: datetime,
) -> NewToken:
    """Make a token and keep its digest."""
    text = f"fw_{_base32(entropy.token(5))}_{_base32(entropy.token(SECRET_BYTES))}"
    row = Token.objects.create(
        name=name,
        owner=owner,
        prefix=text[:PREFIX_LENGTH],
        digest=digest_of(text),
        scopes=sorted(scopes),
        created=now,
        expires=expires,
    )
    return NewToken(row, text)


def _base32(content: bytes) -> str:
    return base64.b32encode(content).decode().lower().rstrip("=")


def digest_of(text: str) -> str:
    """Return the digest under which a token is kept."""
    return hashlib.sha256(text.encode()).hexdigest()


def parse_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Return scopes by their names.

    Raises:
        UsageError: one is unknown, or there is none.
    """
    try:
        scopes = frozenset(Scope(name) for name in names)
    except ValueError as error:
        raise UsageError(f"{error}; scopes are: {', '.join(Scope)}") from error
    if not scopes:
        raise UsageError(f"a token needs a scope: {', '.join(Scope)}")
    return scopes


def issue_token(
    actor: Actor, owner: User, name: str, scopes: frozenset[Scope], life: timedelta
) -> NewToken:
    """Make a token of `owner` that lives for `life`, a year at most."""
    now = wired().clock.now()
    expires = now + min(life, MAX_LIFE)
    with transaction.atomic():
        made = make_token(wired().entropy, now, owner, name=name, scopes=scopes, expires=expires)
        record(actor, "tokens.manage", f"token:{made.row.prefix}", after=described(made.row))
    return made


def revoke_token(actor: Actor, token: Token) -> None:
    """End a token; nothing where it has ended."""
    if token.revoked is not None:
        return
    before = described(token)
    with transaction.atomic():
        token.revoked = wired().clock.now()
        token.save(update_fields=["revoked"])
        after = described(token)
        record(actor, "tokens.manage", f"token:{token.prefix}", before=before, after=after)


def described(token: Token) -> dict[str, object]:
    """Return a token as the audit log shows it; never its digest."""
    return {
        "name": token.name,
        "owner": token.owner.username,
        "scopes": list(token.scopes),
        "expires": token.expires.isoformat(),
        "revoked": token.revoked is not None,
    }
