"""The pages of Settings for groups, sites, tokens, and about this console."""

import platform

import django
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Count
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from fleetward.console.administration.forms import (
    GroupForm,
    SiteForm,
    TokenForm,
    initial_of_group,
)
from fleetward.console.administration.people import put_errors, render_form
from fleetward.console.organisation.groups import remove_group, remove_site, save_group, save_site
from fleetward.console.organisation.models import Group, Site, Token
from fleetward.console.organisation.people import Refused
from fleetward.console.organisation.tokens import issue_token, revoke_token
from fleetward.console.permissions import Role, Scope
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import within
from fleetward.console.wiring import wired

ROWS = 100
"""Tokens or sites on a page."""


def about(request: AskedByPerson) -> HttpResponse:
    """Show what this console is and how people prove who they are."""
    words = {
        "sign_in": wired().settings.sign_in,
        "oidc": wired().settings.oidc,
        "history": wired().settings.history,
        "https": wired().settings.is_https(),
        "database": connection.display_name,
        "python": platform.python_version(),
        "django": django.get_version(),
    }
    return render(request, "administration/about.html", words)


def groups(request: AskedByPerson) -> HttpResponse:
    """List groups."""
    rows = Group.objects.annotate(people=Count("members", distinct=True)).prefetch_related("sites")
    return render(request, "administration/groups.html", {"groups": rows})


def new_group(request: AskedByPerson) -> HttpResponse:
    """Add a group."""
    return _edit_group(request, Group())


def group(request: AskedByPerson, pk: int) -> HttpResponse:
    """Show and change a group."""
    return _edit_group(request, get_object_or_404(Group, pk=pk))


def _edit_group(request: AskedByPerson, edited: Group) -> HttpResponse:
    form = GroupForm(request.POST or None, initial=initial_of_group(edited) if edited.pk else None)
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_group(
                request.actor,
                edited,
                name=form.cleaned_data["name"],
                role=Role(form.cleaned_data["role"]),
                every_site=form.every_site(),
                sites=form.chosen_sites(),
            )
        except ValidationError as error:
            put_errors(form, error)
        except Refused as error:
            form.add_error(None, f"Not saved: {error}.")
        else:
            messages.success(request, f"The group {saved} is saved.")
            return HttpResponseRedirect(reverse("administration:groups"))
    known = Group.objects.filter(pk=edited.pk).first()
    words = {
        "title": f"Group {known}" if known else "New group",
        "back": "administration:groups",
        "remove": reverse("administration:remove-group", args=[edited.pk]) if known else "",
        "remove_ask": "Remove this group? Its members lose what it gave them.",
    }
    return render_form(request, form, words)


def drop_group(request: AskedByPerson, pk: int) -> HttpResponse:
    """Remove a group."""
    try:
        remove_group(request.actor, get_object_or_404(Group, pk=pk))
    except Refused as error:
        messages.error(request, f"Not removed: {error}.")
    else:
        messages.success(request, "The group is removed.")
    return HttpResponseRedirect(reverse("administration:groups"))


def sites(request: AskedByPerson) -> HttpResponse:
    """List the sites that somebody sees."""
    seen = within(Site.objects.all(), request.access.reach("sites.view"), "pk")
    shown = slice_after(seen, cursor_in(request.GET.get("after", "")), ROWS)
    return render(request, "administration/sites.html", {"shown": shown})


def new_site(request: AskedByPerson) -> HttpResponse:
    """Add a site."""
    return _edit_site(request, Site())


def site(request: AskedByPerson, pk: int) -> HttpResponse:
    """Show and change a site."""
    return _edit_site(request, get_object_or_404(Site, pk=pk))


def _edit_site(request: AskedByPerson, edited: Site) -> HttpResponse:
    form = SiteForm(request.POST or None, initial={"name": edited.name, "title": edited.title})
    if request.method == "POST" and form.is_valid():
        try:
            saved = save_site(request.actor, edited, **form.cleaned_data)
        except ValidationError as error:
            put_errors(form, error)
        else:
            messages.success(request, f"The site {saved} is saved.")
            return HttpResponseRedirect(reverse("administration:sites"))
    words = {
        "title": f"Site {edited.name}" if edited.pk else "New site",
        "back": "administration:sites",
        "remove": reverse("administration:remove-site", args=[edited.pk]) if edited.pk else "",
        "remove_ask": "Remove this site?",
    }
    return render_form(request, form, words)


def drop_site(request: AskedByPerson, pk: int) -> HttpResponse:
    """Remove a site."""
    try:
        remove_site(request.actor, get_object_or_404(Site, pk=pk))
    except Refused as error:
        messages.error(request, f"Not removed: {error}.")
    else:
        messages.success(request, "The site is removed.")
    return HttpResponseRedirect(reverse("administration:sites"))


def tokens(request: AskedByPerson) -> HttpResponse:
    """List tokens, the newest first."""
    rows = Token.objects.select_related("owner")
    cursor = cursor_in(request.GET.get("after", ""))
    shown = slice_after(rows, cursor, ROWS, descending=True)
    return render(
        request, "administration/tokens.html", {"shown": shown, "now": wired().clock.now()}
    )


def new_token(request: AskedByPerson) -> HttpResponse:
    """Make a token, and show it once."""
    form = TokenForm(request.POST or None, initial={"owner": request.user, "scopes": ["read"]})
    if request.method == "POST" and form.is_valid():
        values = form.cleaned_data
        scopes = frozenset(Scope(scope) for scope in values["scopes"])
        made = issue_token(request.actor, values["owner"], values["name"], scopes, form.life())
        return render(request, "administration/token-made.html", {"made": made})
    return render_form(request, form, {"title": "New token", "back": "administration:tokens"})


def drop_token(request: AskedByPerson, pk: int) -> HttpResponse:
    """Revoke a token."""
    token = get_object_or_404(Token, pk=pk)
    revoke_token(request.actor, token)
    messages.success(request, f"The token {token.name} is revoked.")
    return HttpResponseRedirect(reverse("administration:tokens"))
