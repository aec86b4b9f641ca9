"""What somebody sees after too many wrong passwords."""

from django.http import HttpRequest, HttpResponse

from fleetward.console.web.errors import error_page
from fleetward.console.wiring import wired


def is_by_provider(request: HttpRequest, credentials: object = None) -> bool:
    """Return whether a login comes from the provider, which throttles by itself.

    It names nobody until it has succeeded, so its failures would lock out everybody at the address.
    """
    return request.path.startswith("/oidc/")


def locked_out(
    request: HttpRequest, original: HttpResponse | None = None, credentials: object = None
) -> HttpResponse:
    """Return 429 with how long to wait (django-axes calls this)."""
    wait = wired().settings.sign_in.cool_off
    minutes = max(1, round(wait.total_seconds() / 60))
    response = error_page(
        request,
        429,
        detail=f"Too many wrong passwords for this name from this address. Wait {minutes} minutes, "
        "or ask an administrator.",
    )
    response["Retry-After"] = str(int(wait.total_seconds()))
    return response
