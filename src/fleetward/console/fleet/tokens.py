"""Enrolment tokens: made, revoked, handed over as a file.

No secret is kept: a token's secret is HMAC-SHA256 of its name under the console's secret key, so a
copy of the database enrols nobody, and a console whose secret key was removed has no valid token.
The file can therefore be had again for as long as the token is good; each time is in the audit log.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.utils.crypto import salted_hmac

from fleetward.console.audit.chain import Actor, record
from fleetward.console.fleet.keys import pins
from fleetward.console.fleet.models import EnrolmentToken, Host, Tag
from fleetward.console.organisation.models import Site
from fleetward.console.wiring import wired
from fleetward.errors import UsageError
from fleetward.identity.consoles import ConsoleKeys
from fleetward.identity.enrolment import EnrolmentToken as Secret
from fleetward.wire.tokenfile import TokenFile, encode_token_file

MAX_LIFETIME: Final = timedelta(days=90)
"""The longest that a token may live (a forgotten file on a share)."""

MAX_USES: Final = 100_000
"""Hosts that one token may enrol."""

MAX_TAGS: Final = 20
"""Tags of one host or token."""

_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWish:
    """What a token is to be good for; attributes as `models.EnrolmentToken`."""

    note: str = ""
    site: Site | None = None
    tags: tuple[str, ...] = ()
    host: Host | None = None
    uses: int = 1
    needs_approval: bool = False
    lifetime: timedelta = timedelta(days=1)


def make_token(actor: Actor, wish: TokenWish) -> EnrolmentToken:
    """Make a token.

    Raises:
        UsageError: it would live too long, or for too many hosts, or a tag will not do.
    """
    if not timedelta() < wish.lifetime <= MAX_LIFETIME:
        raise UsageError(f"a token lives up to {MAX_LIFETIME.days} days")
    if not 1 <= wish.uses <= MAX_USES or (wish.host and wish.uses != 1):
        raise UsageError(f"a token is for 1 to {MAX_USES} hosts; one for a record is for 1")
    now = wired().clock.now()
    with transaction.atomic():
        token = EnrolmentToken.objects.create(
            token=wired().entropy.token(_ID_BYTES).hex(),
            note=wish.note[:200],
            site=wish.site,
            host=wish.host,
            uses=wish.uses,
            needs_approval=wish.needs_approval,
            created=now,
            created_by=actor.name[:200],
            expires=now + wish.lifetime,
        )
        token.tags.set(tags_named(wish.tags))
        record(actor, "hosts.enrol", f"enrolment-token:{token.token}", after=described(token))
    return token


def described(token: EnrolmentToken) -> dict[str, object]:
    """Return a token as the audit log shows it."""
    return {
        "note": token.note,
        "site": token.site.name if token.site else None,
        "tags": sorted(tag.name for tag in token.tags.all()),
        "record": token.host.record if token.host else None,
        "uses": token.uses,
        "approval": token.needs_approval,
        "expires": token.expires.isoformat(),
    }


def tags_named(names: Iterable[str]) -> list[Tag]:
    """Return tags by name, made where they are new.

    Raises:
        UsageError: too many, or one that is no short word.
    """
    words = sorted({name.strip().lower() for name in names if name.strip()})
    if len(words) > MAX_TAGS or any(not _is_word(word) for word in words):
        raise UsageError(
            f"up to {MAX_TAGS} tags, each of a-z, 0-9, '.', '_', '-' and at most 64 characters"
        )
    return [Tag.objects.get_or_create(name=word)[0] for word in words]


def _is_word(word: str) -> bool:
    return len(word) <= 64 and word.isascii() and all(c.isalnum() or c in "._-" for c in word)


def revoke_token(actor: Actor, token: EnrolmentToken) -> None:
    """End a token; hosts that it enrolled stay."""
    with transaction.atomic():
        token.revoked = wired().clock.now()
        token.save(update_fields=["revoked"])
        record(actor, "hosts.enrol", f"enrolment-token:{token.token}", after={"revoked": True})


def token_file(actor: Actor, token: EnrolmentToken, keys: ConsoleKeys) -> bytes:
    """Return the file that enrols hosts with `token`; it is a secret.

    Raises:
        UsageError: the token is no longer good, or the console does not know its own URL.
    """
    if not is_good(token, wired().clock.now()):
        raise UsageError("this token is used up, expired or revoked: make another")
    content = encode_token_file(TokenFile(pins=pins(keys), token=secret_of(token.token).text()))
    record(actor, "hosts.enrol", f"enrolment-token:{token.token}", after={"handed_over": True})
    return content


def is_good(token: EnrolmentToken, now: datetime) -> bool:
    """Return whether one more key may be enrolled with `token`."""
    return token.revoked is None and now < token.expires and token.used < token.uses


def secret_of(name: str) -> Secret:
    """Return the token of a public name, whether or not it was ever made."""
    secret = salted_hmac("fleetward.enrolment-token/1", name, algorithm="sha256").digest()
    return Secret(name, secret)
