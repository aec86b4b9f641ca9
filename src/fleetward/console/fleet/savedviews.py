"""Views of the Hosts page under a name: a person's own, and those that somebody shared.

A view is filters and nothing more: it shows nobody a host that he may not see, and a filter whose site
or tag is gone finds none.
"""

from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from fleetward.console.audit.chain import Actor, record
from fleetward.console.fleet.models import SavedView
from fleetward.console.organisation.models import User
from fleetward.console.wiring import wired
from fleetward.errors import UsageError

MAX_VIEWS: Final = 100
"""Of one person: more are no list to choose from."""

MAX_NAME: Final = 64


def views_for(user: User) -> QuerySet[SavedView]:
    """Return the views that a person may choose from: his own and the shared ones."""
    return SavedView.objects.filter(Q(owner=user) | Q(is_shared=True)).select_related("owner")


def save_view(
    actor: Actor, user: User, name: str, query: str, *, is_shared: bool = False
) -> SavedView:
    """Keep filters under a name; under a name that its owner has already, they take its place.

    Raises:
        UsageError: no name, one that is too long or cannot be read, no filter, or too many views.
    """
    name = " ".join(name.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise UsageError(f"a view's name has 1 to {MAX_NAME} characters that can be read")
    if not query:
        raise UsageError("there is no filter to save: filter the list first")
    mine = SavedView.objects.filter(owner=user)
    before = mine.filter(name=name).first()
    if before is None and mine.count() >= MAX_VIEWS:
        raise UsageError(f"nobody has more than {MAX_VIEWS} views: remove one first")
    words = {"query": query[:2000], "is_shared": is_shared, "created": wired().clock.now()}
    try:
        with transaction.atomic():
            view, _ = SavedView.objects.update_or_create(owner=user, name=name, defaults=words)
            if is_shared or (before is not None and before.is_shared):
                _audit(actor, name, _shown(before), _shown(view))
    except IntegrityError as error:
        raise UsageError("somebody saved a view of this name just now: try again") from error
    return view


def remove_view(actor: Actor, view: SavedView) -> None:
    """Remove a view; a shared one is gone for everybody."""
    with transaction.atomic():
        if view.is_shared:
            _audit(actor, view.name, _shown(view), None)
        view.delete()


def _shown(view: SavedView | None) -> dict[str, object] | None:
    if view is None:
        return None
    return {"query": view.query, "shared": view.is_shared, "owner": view.owner.username}


def _audit(
    actor: Actor, name: str, before: dict[str, object] | None, after: dict[str, object] | None
) -> None:
    record(actor, "hosts.view", f"view:{name}", before=before, after=after)
