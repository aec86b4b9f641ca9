"""Saving and removing views of the Hosts page."""

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse

from fleetward.console.fleet.models import SavedView
from fleetward.console.fleet.pages import filter_in, query_of
from fleetward.console.fleet.savedviews import remove_view, save_view, views_for
from fleetward.console.web.asking import AskedByPerson
from fleetward.errors import UsageError


def save(request: AskedByPerson) -> HttpResponse:
    """Save the filters under a name; only who may ask hosts something may share them."""
    query = query_of(filter_in(QueryDict(request.POST.get("query", "")[:2000])))
    wants = request.POST.get("shared") == "1"
    is_shared = wants and request.access.may("hosts.direct")
    try:
        name = request.POST.get("name", "")
        view = save_view(request.actor, request.user, name, query, is_shared=is_shared)
    except UsageError as error:
        messages.error(request, f"The view was not saved: {error}.")
    else:
        kept = "" if is_shared == wants else ", for yourself: only operators share views"
        messages.success(request, f"Saved the view “{view.name}”{kept}.")
    return HttpResponseRedirect(f"{reverse('fleet:hosts')}{'?' if query else ''}{query}")


def remove(request: AskedByPerson, pk: int) -> HttpResponse:
    """Remove one's own view, or a shared one where one may share."""
    view = views_for(request.user).filter(pk=pk).first()
    if view is None or not may_remove(request, view):
        raise Http404("no such view of yours")
    remove_view(request.actor, view)
    messages.success(request, f"Removed the view “{view.name}”.")
    return HttpResponseRedirect(reverse("fleet:hosts"))


def may_remove(request: AskedByPerson, view: SavedView) -> bool:
    """Return whether somebody may remove a view that he sees."""
    return view.owner_id == request.user.pk or request.access.may("hosts.direct")
