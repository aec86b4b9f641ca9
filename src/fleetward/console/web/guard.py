"""The one door to every page: whether whoever asks may, before the view runs.

1. The method has an entry in the page's table, or 405.
2. Its gate or action lets whoever asks through: nobody is sent to the login, others get 403.
3. Whoever must change the password or add a second factor does that first.
4. An action that wants a fresh login has one, or asks for the password.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import reverse
from django.views.decorators.cache import never_cache

from fleetward.console.organisation.models import User
from fleetward.console.parts import Page, View
from fleetward.console.permissions import ACTIONS, Gate
from fleetward.console.web.asking import Asked
from fleetward.console.web.errors import error_page
from fleetward.console.wiring import wired

FRESH = "fresh"
"""Key of the session: when the password was last given, in seconds since 1970."""


def guarded(page: Page) -> View:
    """Return the view of a page behind its door."""
    table = dict(page.methods)
    if "GET" in table:
        table.setdefault("HEAD", table["GET"])

    @never_cache
    @wraps(page.view)
    def door(request: Asked, /, **captured: Any) -> HttpResponseBase:  # noqa: ANN401 (captures)
        refusal = _refusal(request, table)
        return refusal or page.view(request, **captured)

    return door


def _refusal(request: Asked, table: Mapping[str, str | Gate]) -> HttpResponseBase | None:
    needs = table.get(request.method or "")
    if needs is None:
        return HttpResponseNotAllowed(table)
    if needs in {Gate.OPEN, Gate.TOKEN}:
        return None
    if not isinstance(request.user, User):
        return _to(request, "accounts:login")
    errand = _errand(request, request.user)
    if errand:
        return errand
    if needs is Gate.SIGNED_IN:
        return None
    if not request.access.may(needs):
        return error_page(request, 403)
    if ACTIONS[needs].fresh and not is_fresh(request):
        return _to(request, "accounts:confirm")
    return None


def _errand(request: Asked, user: User) -> HttpResponse | None:
    """Return where somebody must go before anything else."""
    here = request.resolver_match.view_name if request.resolver_match else ""
    if user.must_change_password and here != "accounts:password":
        return _to(request, "accounts:password")
    if user.must_change_password or here in _SECOND_FACTOR_ROUTES:
        return None
    wanted = wired().settings.sign_in.totp_for_administrators and not user.subject
    if wanted and not user.is_verified() and user.is_administrator():  # type: ignore[attr-defined]
        return _to(request, "accounts:second-factor")
    return None


_SECOND_FACTOR_ROUTES = {"accounts:second-factor", "accounts:password", "accounts:confirm"}


def _to(request: HttpRequest, route: str) -> HttpResponse:
    """Send to a page, which leads back; htmx is told to take the whole window there."""
    is_part = request.headers.get("HX-Request") == "true"
    back = request.headers.get("HX-Current-URL", "") if is_part else request.get_full_path()
    # A form that was sent cannot be sent again by a link: back to the page that it stood on.
    if not is_part and request.method != "GET":
        back = request.headers.get("Referer", "/")
    ended = is_part or getattr(request, "session_ended", False)
    words = {"next": back, **({"ended": "1"} if ended and route == "accounts:login" else {})}
    target = f"{reverse(route)}?{urlencode(words)}"
    if is_part:
        return HttpResponse(status=401, headers={"HX-Redirect": target})
    return HttpResponseRedirect(target)


def is_fresh(request: HttpRequest) -> bool:
    """Return whether the person gave the password lately."""
    given = float(request.session.get(FRESH, 0))
    age = timedelta(seconds=wired().clock.now().timestamp() - given)
    return age < wired().settings.sign_in.fresh
