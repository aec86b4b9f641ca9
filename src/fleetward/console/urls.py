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


def _provider() -> Iterator[URLResolver]:
    """Yield the routes of the OIDC package, which names them itself."""
    if "mozilla_django_oidc" in settings.INSTALLED_APPS:
        yield path("oidc/", include("mozilla_django_oidc.urls"))


urlpatterns: list[URLPattern | URLResolver] = [
    *(_pages(part) for part in parts()),
    *_provider(),
    path("api/v1/", api().urls),
]
