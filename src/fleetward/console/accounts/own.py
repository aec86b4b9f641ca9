"""One's own account: password, second factor, theme."""

import django_otp
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.debug import sensitive_post_parameters

from fleetward.console.accounts.forms import CodeForm, NewPasswordForm
from fleetward.console.accounts.login import safe_next
from fleetward.console.accounts.secondfactor import (
    confirm_device,
    device_in_preparation,
    device_of,
    qr_svg,
    remove_second_factor,
    renew_recovery_codes,
    secret_text,
)
from fleetward.console.audit.chain import record
from fleetward.console.organisation.models import User
from fleetward.console.organisation.people import set_password
from fleetward.console.web.asking import Asked, AskedByPerson
from fleetward.console.web.errors import error_page
from fleetward.console.web.frame import THEME, THEMES
from fleetward.console.web.guard import is_fresh
from fleetward.console.wiring import wired

_YEAR = 365 * 24 * 3600


def account(request: AskedByPerson) -> HttpResponse:
    """Show one's own account."""
    user = request.user
    words = {
        "device": device_of(user),
        "codes_left": user.recovery_codes.filter(used=None).count(),
        "groups": user.groups.prefetch_related("sites"),
        "required": wired().settings.sign_in.totp_for_administrators and user.is_administrator(),
    }
    return render(request, "accounts/account.html", words)


@sensitive_post_parameters()
def password(request: AskedByPerson) -> HttpResponse:
    """Change one's own password; every other session ends."""
    if not request.user.has_usable_password():
        return error_page(request, 403, detail="Your password is your provider's; change it there.")
    form = NewPasswordForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        if request.user.check_password(form.cleaned_data["old"]):
            set_password(request.actor, request.user, form.cleaned_data["new"])
            update_session_auth_hash(request, request.user)
            messages.success(request, "Your password is changed; other sessions have ended.")
            return HttpResponseRedirect(safe_next(request))
        form.add_error("old", "This password is wrong.")
    words = {"form": form, "next": safe_next(request)}
    return render(request, "accounts/password.html", words, status=400 if form.errors else 200)


def second_factor(request: AskedByPerson) -> HttpResponse:
    """Set the second factor up: show its picture, take a first code, show recovery codes."""
    if device_of(request.user) is not None:
        return HttpResponseRedirect(reverse("accounts:account"))
    if not is_fresh(request):
        return HttpResponseRedirect(f"{reverse('accounts:confirm')}?next={request.path}")
    device = device_in_preparation(request.user)
    form = CodeForm(request.POST or None)
    form.fields["code"].help_text = "Six digits from your authenticator."
    if request.method == "POST" and form.is_valid():
        codes = confirm_device(request.actor, device, form.cleaned_data["code"])
        if codes is not None:
            django_otp.login(request, device)
            return render(request, "accounts/codes.html", {"codes": codes})
        form.add_error("code", "This code is wrong. Is the clock of your authenticator right?")
    words = {
        "form": form,
        "picture": mark_safe(qr_svg(device)),  # noqa: S308 (made here; all text in it is encoded)
        "secret": secret_text(device),
    }
    status = 400 if form.errors else 200
    return render(request, "accounts/second-factor.html", words, status=status)


def new_codes(request: AskedByPerson) -> HttpResponse:
    """Replace one's own recovery codes."""
    if not is_fresh(request):
        return _confirm_first()
    codes = renew_recovery_codes(request.user)
    record(request.actor, "account.recovery-codes", f"user:{request.user.username}")
    return render(request, "accounts/codes.html", {"codes": codes})


def remove_factor(request: AskedByPerson) -> HttpResponse:
    """Take one's own second factor away."""
    if not is_fresh(request):
        return _confirm_first()
    remove_second_factor(request.actor, request.user)
    messages.success(request, "Your second factor is removed.")
    return HttpResponseRedirect(reverse("accounts:account"))


def _confirm_first() -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('accounts:confirm')}?next={reverse('accounts:account')}")


def theme(request: Asked) -> HttpResponse:
    """Remember light, dark or the system's theme."""
    chosen = request.POST.get("theme", "")
    response = HttpResponseRedirect(safe_next(request))
    if chosen not in THEMES:
        return response
    if isinstance(request.user, User):
        request.user.theme = chosen
        request.user.save(update_fields=["theme"])
    # The login page comes before anybody is known.
    response.set_cookie(
        THEME,
        chosen,
        max_age=_YEAR,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Strict",
    )
    return response
