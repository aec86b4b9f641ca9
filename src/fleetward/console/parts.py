"""The parts that the console is made of, and what each adds: pages, navigation, API, servers.

A part is a package that is a Django app (`apps.py`, perhaps `models.py`, `migrations/`,
`templates/NAME/`) with a module `part.py` that says `PART = Part(…)`. Naming it in `PARTS` is all
the registration there is.

Invariants: every route names, per method, an action of `permissions.ACTIONS` or a `Gate`; the frame
enforces it before the view runs, so a view cannot forget.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fleetward.console.permissions import ACTIONS, Gate

if TYPE_CHECKING:
    from django.http import HttpResponseBase
    from ninja import Router

PARTS = (
    "fleetward.console.fleet",
    "fleetward.console.ingest",
    "fleetward.console.catalogue",
    "fleetward.console.home",
    "fleetward.console.accounts",
    "fleetward.console.administration",
    "fleetward.console.notices",
    "fleetward.console.relays",
    "fleetward.console.alerts",
    "fleetward.console.overview",
    "fleetward.console.rollouts",
    "fleetward.console.ports",
)
"""The packages of the parts, in the order of their navigation."""

AsgiApplication = Callable[..., Coroutine[Any, Any, None]]
Background = Callable[[], Coroutine[Any, Any, None]]


View = Callable[..., "HttpResponseBase"]
"""What answers a page: takes the request and what the path captures."""


@dataclass(frozen=True, slots=True)
class Page:
    """A route that people use.

    Attributes:
        path: as `django.urls.path` reads it, without the leading slash: `hosts/<int:pk>/`.
        name: what `reverse("PART:name")` and `{% url %}` call it.
        view: what answers.
        methods: method -> action or gate; HEAD goes with GET.
    """

    path: str
    name: str
    view: View
    methods: Mapping[str, str | Gate]

    def __post_init__(self) -> None:
        for method, needs in self.methods.items():
            if not isinstance(needs, Gate) and needs not in ACTIONS:
                raise ValueError(f"{self.path}: {method} needs the unknown action {needs!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An entry of the navigation.

    Attributes:
        title: what it says.
        route: the route's full name, as `fleet:hosts`.
        action: who sees it.
        icon: the name of a symbol in static/icons.svg.
        order: its place; the smaller the higher. Overview 10, Hosts 20, Sites and relays 30,
            Products 40, Rollouts 50, Ports 60, Alerts 70, Audit 80, Settings 90.
        below: the title of the place that it is a tab of; empty for the main navigation.
    """

    title: str
    route: str
    action: str | Gate
    icon: str = ""
    order: int = 50
    below: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A panel of the overview, which the page fetches once it is shown.

    Attributes:
        title: what it says until it is there.
        route: the route of a partial: its head (`.panel-head`) and body (`.panel-body`).
        action: who sees it.
        order: its place; the smaller the earlier.
        wide: whether it takes the page's whole width.
    """

    title: str
    route: str
    action: str
    order: int = 50
    wide: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a package adds to the console.

    Attributes:
        name: the namespace of its routes.
        pages: its routes.
        places: its entries of the navigation.
        panels: its panels of the overview.
        routers: prefix under /api/v1 -> a ninja router whose operations carry `api.security.needs`.
        mounts: path prefix -> an ASGI application that takes what begins so past Django, as
            check-ins must; it proves by itself who speaks.
        background: coroutines that run as long as the console does; cancelled at its end.
        metrics: gives lines of Prometheus' text format.
    """

    name: str
    pages: tuple[Page, ...] = ()
    places: tuple[Place, ...] = ()
    panels: tuple[Panel, ...] = ()
    routers: Mapping[str, "Router"] = field(default_factory=dict)
    mounts: Mapping[str, Callable[[], AsgiApplication]] = field(default_factory=dict)
    background: tuple[Background, ...] = ()
    metrics: Callable[[], str] | None = None


def parts() -> tuple[Part, ...]:
    """Return all parts; only once Django is set up."""
    return tuple(import_module(f"{package}.part").PART for package in PARTS)
