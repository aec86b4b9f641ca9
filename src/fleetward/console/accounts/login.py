"""Signing in: password, then the second factor where there is one; and signing in afresh.

Invariants: the session's key changes at every step (fixation); nobody is signed in between
password and second factor; what leads back (`next`) stays on this console.
"""

from datetime import timedelta
from urllib.parse import urlsplit

import django_otp
from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.auth import login as django_login
from django.contrib.auth import logout as django_logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters

from fleetward.console.accounts.forms import CodeForm, ConfirmForm, LoginForm
from fleetward.console.accounts.secondfactor import accepts, device_of
from fleetward.console.audit.chain import Actor, record
from fleetward.console.organisation.models import User
from fleetward.console.web.asking import Asked, AskedByPerson, address_of
from fleetward.console.web.guard import FRESH
from fleetward.console.wiring import wired

PENDING = "pending"
"""Key of the session: who has given the password and owes a code, how, and since when."""

PENDING_LIFE = timedelta(minutes=5)
"""How long the password counts while the code is awaited."""


def safe_next(request: HttpRequest) -> str:
    """Return where to go afterwards: a path of this console, or the overview."""
    wanted = request.POST.get("next") or request.GET.get("next") or "/"
    hosts = {request.get_host()}
    if not url_has_allowed_host_and_scheme(wanted, hosts, require_https=request.is_secure()):
        return "/"
    parts = urlsplit(wanted)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path or "/"


@sensitive_post_parameters("password")
def login(request: Asked) -> HttpResponse:
    """Ask for name and password."""
    if isinstance(request.user, User):
        return HttpResponseRedirect(safe_next(request))
    form = LoginForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        user = authenticate(request, **form.cleaned_data)
        if isinstance(user, User):
            return _after_password(request, user)
        form.add_error(None, "Name or password is wrong.")
    provider = "mozilla_django_oidc" in settings.INSTALLED_APPS and wired().settings.oidc
    words = {"form": form, "next": safe_next(request), "provider": provider}
    words["refused"] = request.GET.get("provider") == "refused"
    return render(request, "accounts/login.html", words, status=400 if form.errors else 200)


def _after_password(request: Asked, user: User) -> HttpResponse:
    if device_of(user) is None:
        django_login(request, user)
        return HttpResponseRedirect(safe_next(request))
    request.session.cycle_key()
    now = wired().clock.now().timestamp()
    request.session[PENDING] = {"user": user.pk, "backend": user.backend, "at": now}
    request.session["next"] = safe_next(request)
    return HttpResponseRedirect(reverse("accounts:code"))


def code(request: Asked) -> HttpResponse:
    """Ask for the second factor's code."""
    user = _pending(request)
    if user is None:
        return HttpResponseRedirect(reverse("accounts:login"))
    form = CodeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        device = accepts(user, form.cleaned_data["code"])
        if device is not None:
            return _finish(request, user, device)
        record(
            Actor("user", user.username, address_of(request)),
            "session.refused",
            f"user:{user.username}",
            after={"by": "second factor"},
        )
        form.add_error("code", "This code is wrong or was used. After several, wait a while.")
    status = 400 if form.errors else 200
    return render(request, "accounts/code.html", {"form": form}, status=status)


def _pending(request: Asked) -> User | None:
    pending = request.session.get(PENDING)
    if not pending:
        return None
    age = timedelta(seconds=wired().clock.now().timestamp() - pending["at"])
    if not timedelta() <= age < PENDING_LIFE:
        del request.session[PENDING]
        return None
    return User.objects.filter(pk=pending["user"], is_active=True).first()


def _finish(request: Asked, user: User, device: object) -> HttpResponse:
    pending = request.session.pop(PENDING)
    target = request.session.pop("next", "/")
    django_login(request, user, backend=pending["backend"])
    django_otp.login(request, device)
    return HttpResponseRedirect(target)


def logout(request: AskedByPerson) -> HttpResponse:
    """End the session."""
    django_logout(request)
    return HttpResponseRedirect(reverse("accounts:login"))


@sensitive_post_parameters("password")
def confirm(request: AskedByPerson) -> HttpResponse:
    """Ask for the password again, before a dangerous act."""
    form = ConfirmForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name, password = request.user.username, form.cleaned_data["password"]
        if authenticate(request, username=name, password=password) == request.user:
            request.session[FRESH] = wired().clock.now().timestamp()
            request.session.cycle_key()
            return HttpResponseRedirect(safe_next(request))
        form.add_error("password", "This password is wrong.")
    words = {"form": form, "next": safe_next(request), "by_provider": bool(request.user.subject)}
    return render(request, "accounts/confirm.html", words, status=400 if form.errors else 200)
