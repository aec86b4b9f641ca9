"""Logins and logouts in the audit log, by Django's own signals."""

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.http import HttpRequest

from fleetward.console.audit.chain import Actor, record
from fleetward.console.organisation.models import User
from fleetward.console.web.asking import address_of
from fleetward.console.web.guard import FRESH
from fleetward.console.web.middleware import BEGAN, SEEN
from fleetward.console.wiring import wired


def listen() -> None:
    """Connect the signals; once, at the start."""
    user_logged_in.connect(_began, dispatch_uid="audit-began")
    user_logged_out.connect(_ended, dispatch_uid="audit-ended")
    user_login_failed.connect(_refused, dispatch_uid="audit-refused")


def _began(sender: object, request: HttpRequest, user: User, **rest: object) -> None:
    now = wired().clock.now().timestamp()
    request.session.update({BEGAN: now, SEEN: now, FRESH: now})
    _note(request, user.username, "session.begin")


def _ended(sender: object, request: HttpRequest, user: User | None, **rest: object) -> None:
    if user is not None:
        _note(request, user.username, "session.end")


def _refused(
    sender: object,
    credentials: dict[str, object],
    request: HttpRequest | None = None,
    **rest: object,
) -> None:
    # Names that are nobody's are not kept: anybody could fill the log with them, and what was typed
    # there may be a password.
    typed = str(credentials.get("username", "")).lower()
    if User.objects.filter(username=typed).exists():
        _note(request, typed, "session.refused")


def _note(request: HttpRequest | None, name: str, action: str) -> None:
    record(Actor("user", name, address_of(request)), action, f"user:{name}")
