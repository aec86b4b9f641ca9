"""What happens to every request around its view: headers, session limits, who asks."""

from collections.abc import Callable

from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import SimpleLazyObject

from fleetward.console.access import NO_ACCESS, Access
from fleetward.console.audit.chain import Actor
from fleetward.console.organisation.models import User
from fleetward.console.web.asking import address_of
from fleetward.console.wiring import wired

GetResponse = Callable[[HttpRequest], HttpResponseBase]

BEGAN = "began"
SEEN = "seen"
"""Keys of the session: seconds since 1970."""

POLL = "Fleetward-Poll"
"""The header with which a part of a page refreshes itself (the tag `live` sends it)."""

SEEN_SECONDS = 30.0
"""How often a session's last use is written (accident: a write per live part of a page)."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""No inline script, no inline style, nothing from elsewhere, framed by nobody."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class SafetyHeaders:
    """Puts the security headers on every answer, errors and static files included."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        https = wired().settings.is_https()
        strict = {"Strict-Transport-Security": "max-age=31536000"} if https else {}
        self._headers = HEADERS | strict

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, with the headers."""
        response = self._get_response(request)
        for name, value in self._headers.items():
            response.headers.setdefault(name, value)
        if not request.path.startswith("/static/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response


class SessionLimits:
    """Ends a session that was idle too long, or is too old."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, as nobody where the session has ended."""
        if request.user.is_authenticated:
            self._limit(request)
        return self._get_response(request)

    def _limit(self, request: HttpRequest) -> None:
        limits = wired().settings.sign_in
        now = wired().clock.now().timestamp()
        began = float(request.session.get(BEGAN, 0))
        seen = float(request.session.get(SEEN, began))
        too_old = now - began > limits.longest.total_seconds()
        if too_old or now - seen > limits.idle.total_seconds():
            logout(request)
            request.session_ended = True  # type: ignore[attr-defined]
        # A page that refreshes itself is no sign of a person: htmx's polls do not keep awake.
        elif now - seen > SEEN_SECONDS and not _is_poll(request):
            request.session[SEEN] = now


def _is_poll(request: HttpRequest) -> bool:
    return POLL in request.headers


class WhoAsks:
    """Adds `access` and `actor`: of the session's person, until an API token says otherwise."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer, knowing who asks."""
        request.access = SimpleLazyObject(lambda: _access(request))  # type: ignore[attr-defined]
        request.actor = SimpleLazyObject(lambda: _actor(request))  # type: ignore[attr-defined]
        return self._get_response(request)


def _access(request: HttpRequest) -> Access:
    return request.user.access() if isinstance(request.user, User) else NO_ACCESS


def _actor(request: HttpRequest) -> Actor:
    name = request.user.username if isinstance(request.user, User) else ""
    return Actor("user", name or "nobody", address_of(request))
