"""The page Settings, Enrolment: tokens are made, handed over as files, ended."""

from datetime import timedelta
from typing import Final

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from fleetward.console.fleet.keys import console_keys
from fleetward.console.fleet.models import EnrolmentToken, Host
from fleetward.console.fleet.tokens import (
    MAX_USES,
    TokenWish,
    is_good,
    make_token,
    revoke_token,
    token_file,
)
from fleetward.console.organisation.models import Site
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after
from fleetward.console.web.reaching import one_within, within
from fleetward.console.wiring import wired
from fleetward.errors import UsageError

ROWS: Final = 50
"""Tokens on a page."""

_LIFETIMES: Final = ((1, "1 hour"), (24, "1 day"), (168, "1 week"), (720, "30 days"))


class TokenForm(forms.Form):
    """What a token is to be good for."""

    note = forms.CharField(max_length=200, required=False, label="What it is for")
    site = forms.ChoiceField(required=False, label="Site of its hosts")
    tags = forms.CharField(max_length=500, required=False, help_text="Words, between spaces.")
    record = forms.RegexField(
        r"^[0-9a-f]{16}$",
        required=False,
        label="Record",
        help_text="Of a reinstalled host, which comes back to it; else leave it empty.",
    )
    uses = forms.IntegerField(min_value=1, max_value=MAX_USES, initial=1, label="Hosts")
    hours = forms.TypedChoiceField(choices=_LIFETIMES, coerce=int, initial=24, label="Good for")
    needs_approval = forms.BooleanField(required=False, label="A person approves each host")


def tokens_page(request: AskedByPerson) -> HttpResponse:
    """List tokens, and make one."""
    reach = request.access.reach("hosts.enrol")
    form = TokenForm(request.POST or None)
    sites = [(site.name, str(site)) for site in within(Site.objects.all(), reach, "pk")]
    form.fields["site"].choices = [*([("", "None")] if reach.every else []), *sites]  # type: ignore[attr-defined]
    if request.method == "POST" and form.is_valid():
        try:
            token = make_token(request.actor, _wish(request, form))
        except UsageError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, f"Token {token.token} is made. Download its file below.")
            return HttpResponseRedirect(reverse("fleet:tokens"))
    rows = within(EnrolmentToken.objects.select_related("site", "host"), reach)
    cursor = cursor_in(request.GET.get("after", ""))
    shown = slice_after(rows.prefetch_related("tags"), cursor, ROWS, descending=True)
    now = wired().clock.now()
    words = {
        "form": form,
        "shown": shown,
        "rows": [(token, is_good(token, now)) for token in shown.rows],
    }
    return render(request, "fleet/tokens.html", words)


def _wish(request: AskedByPerson, form: TokenForm) -> TokenWish:
    reach, given = request.access.reach("hosts.enrol"), form.cleaned_data
    host = site = None
    if given["record"]:
        host = one_within(Host.objects.all(), reach, record=given["record"])
    if given["site"]:
        site = one_within(Site.objects.all(), reach, "pk", name=given["site"])
    elif host is None and not reach.every:
        raise UsageError("choose one of your sites")
    return TokenWish(
        note=given["note"],
        site=site,
        tags=tuple(given["tags"].split()),
        host=host,
        uses=given["uses"],
        needs_approval=given["needs_approval"],
        lifetime=timedelta(hours=given["hours"]),
    )


def _one(request: AskedByPerson, token: str) -> EnrolmentToken:
    return one_within(
        EnrolmentToken.objects.all(), request.access.reach("hosts.enrol"), token=token
    )


def download(request: AskedByPerson, token: str) -> HttpResponse:
    """Give a token's file; by POST, since each time is in the audit log."""
    try:
        content = token_file(request.actor, _one(request, token), console_keys()[0])
    except UsageError as error:
        messages.error(request, f"There is no file: {error}.")
        return HttpResponseRedirect(reverse("fleet:tokens"))
    headers = {"Content-Disposition": f'attachment; filename="fleetward-token-{token}.json"'}
    return HttpResponse(content, content_type="application/json", headers=headers)


def end_token(request: AskedByPerson, token: str) -> HttpResponse:
    """End a token; hosts that it enrolled stay."""
    row = _one(request, token)
    if row.revoked is None:
        revoke_token(request.actor, row)
        messages.success(request, f"Token {token} is ended.")
    return HttpResponseRedirect(reverse("fleet:tokens"))
