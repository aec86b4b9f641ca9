"""The request as views of the console see it: a person or nobody, with what they may do."""

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from fleetward.console.access import Access
from fleetward.console.audit.chain import Actor
from fleetward.console.organisation.models import User


class Asked(HttpRequest):
    """Django's request with what the middleware adds; only a type, never made.

    Attributes:
        user: who has signed in.
        access: what that person or token may do.
        actor: the same, as the audit log names it.
        htmx: true where htmx asks for a part of a page.
    """

    user: User | AnonymousUser
    access: Access
    actor: Actor
    htmx: HtmxDetails


class AskedByPerson(Asked):
    """A request that somebody signed in makes; what `Gate.SIGNED_IN` and actions promise."""

    user: User


def address_of(request: HttpRequest | None) -> str:
    """Return where a request comes from; uvicorn has already looked at trusted proxies."""
    return "" if request is None else str(request.META.get("REMOTE_ADDR", ""))
