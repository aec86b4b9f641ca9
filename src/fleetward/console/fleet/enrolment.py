"""How keys become known: the answer to a request, and what people decide of hosts.

    the request                                 the answer
    ------------------------------------------  ------------------------------------------------
    cannot be opened, or its MAC is wrong       none (DocumentError, SignatureError, ExpiredError)
    a key that is known                         as it stands; the token is not counted again
    the token is used up, expired or revoked    refused
    the token is for a record                   approved: the key joins it, its older key is replaced
    the token needs approval                    pending, until a person decides
    any other                                   approved, with a record of its own

Asking again with the same key is always safe. Requests that come together are answered in one
transaction (`answer_all`), in which each sees what those before it did. The tokens' rows are locked
while they are counted, so two thousand hosts at once use exactly as many as there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from django.db import DataError, IntegrityError, transaction
from django.db.models import OuterRef, Subquery

from fleetward.console.audit.chain import Act, Actor, record, record_all
from fleetward.console.fleet.models import EnrolmentToken, Host, HostKey, Tag
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


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose sender has the token that it names.

    Attributes:
        verified: what it says, from `believe`.
        peer: from which address it came.
    """

    verified: VerifiedEnrolment
    peer: str


def believe(content: bytes, consoles: Sequence[ConsoleKeys], now: datetime) -> VerifiedEnrolment:
    """Return a request for enrolment, verified; without a look at the database.

    Args:
        content: the request's envelope.
        consoles: the console's keys, the present ones first.
        now: the console's clock.

    Raises:
        DocumentError: not a request.
        SignatureError: not signed by its key, not sealed to this console, or without the token.
        ExpiredError: too old.
    """
    claimed = open_enrolment(verify_request(content), consoles)
    token = secret_of(claimed.request.token)
    named, own = claimed.request.console, [keys.public.id for keys in consoles]
    # While keys rotate, token files of before still name the pair that was replaced.
    return verify_enrolment(claimed, token, named if named in own else own[0], now)


def answer_request(
    content: bytes, peer: str, consoles: Sequence[ConsoleKeys], now: datetime
) -> bytes:
    """Return the signed answer to one request for enrolment, stored durably; as `believe`.

    Raises:
        SignatureError: also where the token is none of this console's.
    """
    asked = Asked(believe(content, consoles, now), peer)
    answer = answer_all([asked], consoles[0], now)[0]
    if isinstance(answer, SignatureError):
        raise answer
    return answer


def answer_all(
    group: Sequence[Asked], keys: ConsoleKeys, now: datetime
) -> list[bytes | SignatureError]:
    """Return the signed answers to requests, stored durably in one transaction.

    Args:
        group: in the order in which they came; one key may be in it twice.
        keys: the console's present keys.
        now: the console's clock.

    Returns:
        One for each; an error where the token is none of this console's.
    """
    try:
        with transaction.atomic():
            said = _answer_group(group, now)
    except (DataError, IntegrityError):
        if len(group) == 1:
            raise
        # One that the database does not take, or that another console took at the same time.
        return [answer for asked in group for answer in answer_all([asked], keys, now)]
    return [a if isinstance(a, SignatureError) else sign_answer(a, keys) for a in said]


@dataclass(slots=True)
class _Enrolled:
    """What a group of requests changes."""

    hosts: list[HostKey] = field(default_factory=list)
    used: dict[str, EnrolmentToken] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)


def _answer_group(group: Sequence[Asked], now: datetime) -> list[EnrolmentAnswer | SignatureError]:
    requests = [asked.verified.request for asked in group]
    named = EnrolmentToken.objects.select_for_update().order_by("pk")
    tokens = {t.token: t for t in named.filter(token__in={r.token for r in requests})}
    keys = HostKey.objects.select_related("host").filter(key__in={r.host for r in requests})
    known = {key.key: key for key in keys}
    enrolled = _Enrolled()
    answers: list[EnrolmentAnswer | SignatureError] = []
    for asked, request in zip(group, requests, strict=True):
        token = tokens.get(request.token)
        if token is None:
            answers.append(SignatureError("the token is not one of this console's"))
            continue
        if request.host not in known and is_good(token, now):
            known[request.host] = _enrol(asked, token, enrolled, now)
        answers.append(_as_it_stands(request, known.get(request.host), now))
    _store(enrolled)
    return answers


def _as_it_stands(request: EnrolmentRequest, key: HostKey | None, now: datetime) -> EnrolmentAnswer:
    if key is None:
        return _said(request, Standing.REFUSED, now, reason=_REFUSED)
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


def _enrol(asked: Asked, token: EnrolmentToken, enrolled: _Enrolled, now: datetime) -> HostKey:
    """Take a new key: at once into a record that exists, else with `_store`."""
    request = asked.verified.request
    standing = KeyStanding.PENDING if token.needs_approval else KeyStanding.ACTIVE
    key = HostKey(
        key=request.host,
        public=asked.verified.key,
        host=token.host or _new_host(request, token, standing, now),
        standing=standing,
        token=token,
        enrolled=now,
        peer=asked.peer[:45],
    )
    if token.host is None:
        enrolled.hosts.append(key)
    else:
        key.save(force_insert=True)
        if standing == KeyStanding.ACTIVE:
            _report_with(key.host, key, now)
    token.used += 1
    enrolled.used[token.token] = token
    after: dict[str, object] = {"key": key.key, "name": key.host.name, "token": token.token}
    actor, subject = Actor("host", key.key, asked.peer), f"host:{key.host.record}"
    enrolled.acts.append(Act(actor=actor, action="hosts.enrol", subject=subject, after=after))
    return key


def _new_host(
    request: EnrolmentRequest, token: EnrolmentToken, standing: KeyStanding, now: datetime
) -> Host:
    facts = request.facts
    is_active = standing == KeyStanding.ACTIVE
    return Host(
        record=wired().entropy.token(_RECORD_BYTES).hex(),
        name=facts.name,
        standing=HostStanding.ACTIVE if is_active else HostStanding.PENDING,
        site_id=token.site_id,
        os=facts.os,
        agent=facts.agent,
        created=now,
        standing_since=now,
    )


def _store(enrolled: _Enrolled) -> None:
    """Write new records, their tags and keys, the tokens' counts and the log."""
    if not enrolled.acts:
        return
    new = enrolled.hosts
    Host.objects.bulk_create([key.host for key in new])
    HostKey.objects.bulk_create(new)
    tagged = Host.tags.through
    tags = {name: list(token.tags.all()) for name, token in enrolled.used.items()}
    tagged.objects.bulk_create(
        [tagged(host_id=key.host.pk, tag_id=tag.pk) for key in new for tag in _tags_of(key, tags)]
    )
    own = HostKey.objects.filter(host=OuterRef("pk")).values("pk")[:1]
    active = [key.host.pk for key in new if key.standing == KeyStanding.ACTIVE]
    Host.objects.filter(pk__in=active).update(key=Subquery(own))
    for token in enrolled.used.values():
        token.save(update_fields=["used"])
    record_all(enrolled.acts)


def _tags_of(key: HostKey, tags: dict[str, list[Tag]]) -> list[Tag]:
    return tags[key.token.token] if key.token else []


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
