"""What every operation asks for: a live token whose owner and scopes permit its action."""

from datetime import datetime, timedelta

from django.http import HttpRequest
from ninja.security import HttpBearer

from fleetward.console.audit.chain import Actor
from fleetward.console.organisation.models import Token
from fleetward.console.organisation.tokens import digest_of
from fleetward.console.permissions import ACTIONS
from fleetward.console.web.asking import Asked, address_of
from fleetward.console.wiring import wired

USED_EVERY = timedelta(minutes=1)
"""How exactly the last use is kept (accident: a write per request)."""


class Unauthorised(Exception):  # noqa: N818 (an answer, not a fault)
    """No token, or one that does not work: 401."""


class Forbidden(Exception):  # noqa: N818 (an answer, not a fault)
    """The token works, and does not permit this: 403."""


class Needs(HttpBearer):
    """What an operation asks for: a live token whose owner and scopes permit an action.

    Use it as `@router.get("/hosts", auth=needs("hosts.view"))`.
    """

    def __init__(self, action: str) -> None:
        super().__init__()
        if action not in ACTIONS:
            raise ValueError(f"unknown action {action!r}: add it to permissions.ACTIONS")
        self.action = action

    def __call__(self, request: HttpRequest) -> Token:
        """Return the token, and make the request its owner's.

        Raises:
            Unauthorised: there is none, or it does not work.
            Forbidden: it does not permit the action.
        """
        token = super().__call__(request)
        if not isinstance(token, Token):
            raise Unauthorised("send a token: Authorization: Bearer fw_…")
        return token

    def authenticate(self, request: HttpRequest, token: str) -> Token:
        """Return the row of the token `token`; raises as `__call__`."""
        now = wired().clock.now()
        row = Token.objects.select_related("owner").filter(digest=digest_of(token)).first()
        if row is None or not row.is_live(now):
            raise Unauthorised("this token is unknown, expired or revoked")
        _admit(request, row)  # type: ignore[arg-type]
        if not request.access.may(self.action):  # type: ignore[attr-defined]
            raise Forbidden(
                f"{self.action} needs the scope {ACTIONS[self.action].scope.value!r} and a role "
                "of the token's owner that permits it"
            )
        _note_use(row, now)
        return row


def _admit(request: Asked, row: Token) -> None:
    request.user = row.owner
    request.access = row.owner.access().narrowed(row.scope_set())
    name = f"{row.owner.username}/{row.prefix}"
    request.actor = Actor("token", name, address_of(request))


def _note_use(row: Token, now: datetime) -> None:
    if row.last_used is None or now - row.last_used >= USED_EVERY:
        Token.objects.filter(pk=row.pk).update(last_used=now)


def needs(action: str) -> Needs:
    """Return what makes an operation ask for `action`."""
    return Needs(action)
