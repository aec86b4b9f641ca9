"""The pages of Settings for notifications."""

import base64

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from fleetward.console.audit.chain import Actor, record
from fleetward.console.notices.forms import ChannelForm
from fleetward.console.notices.models import Channel, Delivery, Level, Way
from fleetward.console.notices.outbox import try_channel
from fleetward.console.notices.webhook import secret_of
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.wiring import wired

SECRET_BYTES = 32
"""Length of the name that a webhook's secret is derived from (forged notices)."""

SHOWN = 20
"""Deliveries on the page."""


def channels(request: AskedByPerson) -> HttpResponse:
    """List channels and the last deliveries."""
    words = {
        "channels": Channel.objects.all(),
        "deliveries": Delivery.objects.select_related("notice", "channel")[:SHOWN],
        "mail": wired().settings.mail,
    }
    return render(request, "notices/channels.html", words)


def new_channel(request: AskedByPerson) -> HttpResponse:
    """Add a channel."""
    return _edit(request, Channel(created=wired().clock.now()))


def channel(request: AskedByPerson, pk: int) -> HttpResponse:
    """Show and change a channel."""
    return _edit(request, get_object_or_404(Channel, pk=pk))


def _edit(request: AskedByPerson, edited: Channel) -> HttpResponse:
    fields = ("name", "way", "target", "least", "is_on")
    began = {name: getattr(edited, name) for name in fields} if edited.pk else None
    form = ChannelForm(request.POST or None, initial=began)
    if request.method == "POST" and form.is_valid():
        before = described(edited) if edited.pk else None
        for name in fields:
            setattr(edited, name, form.cleaned_data[name])
        if _saved(request.actor, edited, before):
            messages.success(request, f"{edited} is saved. Press Test to see whether it works.")
            return HttpResponseRedirect(reverse("notices:channels"))
        form.add_error("name", "There is a channel of this name.")
    secret = secret_of(edited.secret) if edited.secret else ""
    words = {"form": form, "channel": edited if edited.pk else None, "secret": secret}
    return render(request, "notices/channel.html", words, status=400 if form.errors else 200)


def _saved(actor: Actor, edited: Channel, before: dict[str, object] | None) -> bool:
    if edited.way == Way.WEBHOOK and not edited.secret:
        token = wired().entropy.token(SECRET_BYTES)
        edited.secret = base64.urlsafe_b64encode(token).decode().rstrip("=")
    try:
        with transaction.atomic():
            edited.save()
            after = described(edited)
            record(actor, "settings.manage", f"channel:{edited}", before=before, after=after)
    except IntegrityError:
        return False
    return True


def described(edited: Channel) -> dict[str, object]:
    """Return a channel as the audit log shows it; without its secret."""
    return {
        "way": edited.way,
        "target": edited.target,
        "least": Level(edited.least).name.lower(),
        "on": edited.is_on,
    }


def try_now(request: AskedByPerson, pk: int) -> HttpResponse:
    """Send a channel something now."""
    tried = get_object_or_404(Channel, pk=pk)
    wrong = try_channel(tried)
    record(request.actor, "settings.manage", f"channel:{tried}", after={"test": wrong or "sent"})
    if wrong:
        messages.error(request, f"Not sent: {wrong}.")
    else:
        messages.success(request, f"{tried} took the test.")
    return HttpResponseRedirect(reverse("notices:channels"))


def drop_channel(request: AskedByPerson, pk: int) -> HttpResponse:
    """Remove a channel, with what was on its way there."""
    dropped = get_object_or_404(Channel, pk=pk)
    with transaction.atomic():
        before, name = described(dropped), str(dropped)
        dropped.delete()
        record(request.actor, "settings.manage", f"channel:{name}", before=before)
    messages.success(request, f"{name} is removed.")
    return HttpResponseRedirect(reverse("notices:channels"))
