"""How keys become known: the answer to a request, and what people decide of hosts.

    the request                                 the answer
    ------------------------------------------  ------------------------------------------------
    cannot be opened, or its MAC is wrong       none (DocumentError, SignatureError, ExpiredError)
    a key that is known                         as it stands; the token is not counted again
    the token is used up, expired or revoked    refused
    the token is for a record                   approved: the key joins it, its older key is replaced
    the token needs approval                    pending, until a person decides
    any other                                   approved, with a record of its own

Asking again with the same key is always safe. The token's row is locked while it is counted, so
two thousand hosts at once use exactly as many as there are.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from django.db import transaction

from fleetward.console.audit.chain import Actor, record
from fleetward.console.fleet.models import EnrolmentToken, Host, HostKey
from fleetward.console.fleet.standings import HostStanding, KeyStanding
from fleetward.console.fleet.tokens import is_good, secret_of
from fleetward.console.wiring import wired
from fleetward.core.enrolment import EnrolmentAnswer, EnrolmentRequest, Standing
from fleetward.errors import SignatureError
from fleetward.identity.consoles import ConsoleKeys
from fleetward.identity.enrolment import (
    VerifiedEnrolment,
    open_enrolment,
    sign_answer,
    verify_enrolment,
    verify_request,
)

_RECORD_BYTES: Final = 8
_REFUSED: Final = "the token is used up, expired or revoked: ask for another"


def answer_request(
    content: bytes, peer: str, consoles: Sequence[ConsoleKeys], now: datetime
) -> bytes:
    """Return the signed answer to a request for enrolment, stored durably.

    Args:
        content: the request's envelope.
        peer: from which address it came.
        consoles: the console's keys, the present ones first.
        now: the console's clock.

    Raises:
        DocumentError: not a request.
        SignatureError: not signed by its key, not sealed to this console, or without the token.
        ExpiredError: too old.
    """
    keys = consoles[0]
    claimed = open_enrolment(verify_request(content), consoles)
    token = secret_of(claimed.request.token)
    verified = verify_enrolment(claimed, token, keys.public.id, now)
    return sign_answer(_answer(verified, peer, now), keys)


def _answer(verified: VerifiedEnrolment, peer: str, now: datetime) -> EnrolmentAnswer:
    request = verified.request
    with transaction.atomic():
        token = EnrolmentToken.objects.select_for_update().filter(token=request.token).first()
        if token is None:
            raise SignatureError("the token is not one of this console's")
        known = HostKey.objects.select_related("host").filter(key=request.host).first()
        if known is None and is_good(token, now):
            known = _enrol(verified, token, peer, now)
    if known is None:
        return _said(request, Standing.REFUSED, now, reason=_REFUSED)
    return _as_it_stands(request, known, now)


def _as_it_stands(request: EnrolmentRequest, key: HostKey, now: datetime) -> EnrolmentAnswer:
    if key.standing == KeyStanding.ACTIVE and key.host.standing != HostStanding.REVOKED:
        return _said(request, Standing.APPROVED, now, record=key.host.record)
    if key.standing == KeyStanding.PENDING:
        return _said(request, Standing.PENDING, now, reason="a person decides about this host")
    return _said(request, Standing.REFUSED, now, reason=f"this key was {key.standing}")


def _said(
    request: EnrolmentRequest,
    standing: Standing,
    now: datetime,
    *,
    record: str = "",
    reason: str = "",
) -> EnrolmentAnswer:
    return EnrolmentAnswer(
        host=request.host,
        nonce=request.nonce,
        standing=standing,
        record=record,
        reason=reason,
        issued=now,
    )


def _enrol(verified: VerifiedEnrolment, token: EnrolmentToken, peer: str, now: datetime) -> HostKey:
    standing = KeyStanding.PENDING if token.needs_approval else KeyStanding.ACTIVE
    host = token.host or _new_host(verified.request, token, now)
    key = HostKey.objects.create(
        key=verified.request.host,
        public=verified.key,
        host=host,
        standing=standing,
        token=token,
        enrolled=now,
        peer=peer[:45],
    )
    token.used += 1
    token.save(update_fields=["used"])
    if standing == KeyStanding.ACTIVE:
        _report_with(host, key, now)
    after: dict[str, object] = {"key": key.key, "name": host.name, "token": token.token}
    record(Actor("host", key.key, peer), "hosts.enrol", f"host:{host.record}", after=after)
    return key


def _new_host(request: EnrolmentRequest, token: EnrolmentToken, now: datetime) -> Host:
    facts = request.facts
    host = Host.objects.create(
        record=wired().entropy.token(_RECORD_BYTES).hex(),
        name=facts.name,
        standing=HostStanding.PENDING,
        site=token.site,
        os=facts.os,
        agent=facts.agent,
        created=now,
        standing_since=now,
    )
    host.tags.set(token.tags.all())
    return host


def _report_with(host: Host, key: HostKey, now: datetime) -> None:
    """Let a record's check-ins come from `key` alone; its older keys only finish their events."""
    host.keys.filter(standing=KeyStanding.ACTIVE).exclude(pk=key.pk).update(
        standing=KeyStanding.REPLACED
    )
    host.key = key
    host.standing = HostStanding.ACTIVE
    host.standing_since = now
    host.clone_sign, host.cloned = "", None
    host.save(update_fields=["key", "standing", "standing_since", "clone_sign", "cloned"])


# -- what people decide ---------------------------------------------------------------------------


def approve(actor: Actor, key: HostKey, *, joins: Host | None = None) -> None:
    """Take a key that waits; into a record that exists where the host was reinstalled.

    Args:
        actor: who decides.
        key: which waits.
        joins: the record that it belongs to in truth; its own is then removed.
    """
    now = wired().clock.now()
    with transaction.atomic():
        own = key.host
        key.standing = KeyStanding.ACTIVE
        if joins is not None and joins.pk != own.pk:
            key.host = joins
        key.save(update_fields=["standing", "host"])
        _report_with(key.host, key, now)
        if own.pk != key.host.pk and not own.keys.exists():
            own.delete()
        record(actor, "hosts.enrol", f"host:{key.host.record}", after={"approved": key.key})


def refuse(actor: Actor, key: HostKey) -> None:
    """Refuse a key that waits."""
    with transaction.atomic():
        key.standing = KeyStanding.REFUSED
        key.save(update_fields=["standing"])
        record(actor, "hosts.enrol", f"host:{key.host.record}", after={"refused": key.key})


def revoke(actor: Actor, host: Host) -> None:
    """Take no more check-ins of a host, whatever key it has; a token can enrol it again."""
    _stand(actor, host, HostStanding.REVOKED)


def retire(actor: Actor, host: Host) -> None:
    """Decommission a host: it counts no more; it returns by itself when it reports again."""
    _stand(actor, host, HostStanding.RETIRED)


def _stand(actor: Actor, host: Host, standing: HostStanding) -> None:
    before = host.standing
    with transaction.atomic():
        if standing is HostStanding.REVOKED:
            host.keys.filter(standing__in=[KeyStanding.ACTIVE, KeyStanding.PENDING]).update(
                standing=KeyStanding.REVOKED
            )
        host.standing = standing
        host.standing_since = wired().clock.now()
        host.save(update_fields=["standing", "standing_since"])
        subject = f"host:{host.record}"
        record(
            actor,
            "hosts.revoke",
            subject,
            before={"standing": str(before)},
            after={"standing": str(standing)},
        )


def settle_clone(actor: Actor, host: Host) -> None:
    """Take the mark of a cloned host away; it comes back with the next sign."""
    with transaction.atomic():
        sign = host.clone_sign
        host.clone_sign, host.cloned = "", None
        host.save(update_fields=["clone_sign", "cloned"])
        subject = f"host:{host.record}"
        record(actor, "hosts.revoke", subject, before={"clone": sign}, after={"clone": ""})
