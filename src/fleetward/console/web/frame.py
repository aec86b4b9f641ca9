"""What every template knows: the navigation, the theme, the organisation's name."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from fleetward import __version__
from fleetward.console.organisation.models import User
from fleetward.console.parts import Place, parts
from fleetward.console.permissions import Gate
from fleetward.console.wiring import wired

THEME = "fleetward-theme"
"""The cookie that remembers the theme of somebody who has not signed in."""

THEMES = ("auto", "light", "dark")


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation as shown.

    Attributes:
        title: what it says.
        url: where it leads.
        icon: a symbol in static/icons.svg.
        here: whether the page shown lies below it.
    """

    title: str
    url: str
    icon: str
    here: bool


def frame(request: HttpRequest) -> dict[str, object]:
    """Return the context that base.html needs."""
    return {
        "organisation": wired().settings.name,
        "version": __version__,
        "theme": _theme(request),
        "navigation": _links(request, ""),
    }


def tabs(request: HttpRequest, title: str) -> list[Link]:
    """Return the tabs below an entry of the navigation."""
    return _links(request, title)


def _theme(request: HttpRequest) -> str:
    user = getattr(request, "user", None)
    chosen = user.theme if isinstance(user, User) else request.COOKIES.get(THEME, "auto")
    return chosen if chosen in THEMES else "auto"


def _links(request: HttpRequest, below: str) -> list[Link]:
    if not isinstance(getattr(request, "user", None), User):
        return []
    places = sorted(all_places(), key=lambda place: place.order)
    seen = [
        (place, _url(place)) for place in places if place.below == below and _sees(request, place)
    ]
    # A page lies below the entry whose URL is the longest beginning of its own.
    here = max((url for _, url in seen if _is_below(request.path, url)), key=len, default="")
    return [Link(place.title, url, place.icon, url == here) for place, url in seen]


def all_places() -> Iterator[Place]:
    """Yield the navigation's entries of all parts."""
    for part in parts():
        yield from part.places


def _sees(request: HttpRequest, place: Place) -> bool:
    if isinstance(place.action, Gate):
        return True
    return bool(request.access.may(place.action))  # type: ignore[attr-defined]


def _url(place: Place) -> str:
    try:
        return reverse(place.route)
    except NoReverseMatch as error:
        raise LookupError(f"the place {place.title!r} leads to no route: {error}") from error


def _is_below(path: str, url: str) -> bool:
    return path == url if url == "/" else path.startswith(url)
