"""All routes: the pages of all parts behind their doors, the API, health and metrics."""

from collections.abc import Iterator

from django.conf import settings
from django.urls import URLPattern, URLResolver, include, path

from fleetward.console.api.frame import api
from fleetward.console.parts import Page, Part, parts
from fleetward.console.web.guard import guarded

handler400 = "fleetward.console.web.errors.bad_request"
handler403 = "fleetward.console.web.errors.forbidden"
handler404 = "fleetward.console.web.errors.not_found"
handler500 = "fleetward.console.web.errors.failed"


def _pages(part: Part) -> URLResolver:
    routes: list[URLPattern | URLResolver] = [_route(page) for page in part.pages]
    return path("", include((routes, part.name)))


def _route(page: Page) -> URLPattern:
    return path(page.path, guarded(page), name=page.name)


def _provider() -> Iterator[URLPattern]:
    """Yield the two open routes of login by a provider, named as the package wants them."""
    if "mozilla_django_oidc" in settings.INSTALLED_APPS:
        from fleetward.console.accounts.oidc import Begin, Return  # noqa: PLC0415 (reads the provider's settings)

        # Not the package's own list: its logout would be a second door.
        yield path("oidc/begin/", Begin.as_view(), name="oidc_authentication_init")
        yield path("oidc/return/", Return.as_view(), name="oidc_authentication_callback")


urlpatterns: list[URLPattern | URLResolver] = [
    *(_pages(part) for part in parts()),
    *_provider(),
    path("api/v1/", api().urls),
]
