"""The pages of Settings for people: list, add, change, password, second factor."""

from collections.abc import Mapping

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.forms import Form
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters

from fleetward.console.accounts.secondfactor import device_of, remove_second_factor
from fleetward.console.administration.forms import NewUserForm, ResetForm, UserForm, initial_of
from fleetward.console.audit.models import Entry
from fleetward.console.organisation.models import User
from fleetward.console.organisation.people import Refused, add_user, change_user, set_password
from fleetward.console.web.asking import AskedByPerson
from fleetward.console.web.paging import cursor_in, slice_after

ROWS = 50
"""People on a page."""


def people(request: AskedByPerson) -> HttpResponse:
    """List people, by what is searched for."""
    wanted, state = request.GET.get("q", "").strip(), request.GET.get("state", "")
    rows = User.objects.prefetch_related("groups")
    if wanted:
        names = Q(username__icontains=wanted) | Q(full_name__icontains=wanted)
        rows = rows.filter(names | Q(email__icontains=wanted))
    if state in {"active", "inactive"}:
        rows = rows.filter(is_active=state == "active")
    shown = slice_after(rows, cursor_in(request.GET.get("after", "")), ROWS)
    words = {"shown": shown, "q": wanted, "state": state}
    return render(request, "administration/people.html", words)


@sensitive_post_parameters("password")
def new_person(request: AskedByPerson) -> HttpResponse:
    """Add a person."""
    form = NewUserForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            user = add_user(
                request.actor,
                form.cleaned_data["username"],
                form.standing(),
                password=form.cleaned_data["password"],
                must_change=True,
            )
        except ValidationError as error:
            put_errors(form, error)
        else:
            messages.success(request, f"{user} is added. Tell the first password in person.")
            return HttpResponseRedirect(_page_of(user))
    words = {"form": form, "title": "New user", "back": "administration:people"}
    return render_form(request, form, words)


def person(request: AskedByPerson, pk: int) -> HttpResponse:
    """Show and change how a person stands."""
    user = get_object_or_404(User, pk=pk)
    form = UserForm(request.POST or None, initial=initial_of(user))
    if request.method == "POST" and form.is_valid():
        try:
            change_user(request.actor, user, form.standing())
        except ValidationError as error:
            put_errors(form, error)
        except Refused as error:
            form.add_error(None, f"Not saved: {error}.")
        else:
            messages.success(request, f"{user} is saved.")
            return HttpResponseRedirect(_page_of(user))
    words = {
        "form": form,
        "person": user,
        "reset": ResetForm(),
        "device": device_of(user),
        "tokens": user.tokens.filter(revoked=None),
        "trail": Entry.objects.filter(actor=user.username, actor_kind="user")[:8],
    }
    status = 400 if form.errors else 200
    return render(request, "administration/person.html", words, status=status)


@sensitive_post_parameters("password")
def reset_password(request: AskedByPerson, pk: int) -> HttpResponse:
    """Give a person another password, which the next login asks to change."""
    user = get_object_or_404(User, pk=pk, subject=None)
    try:
        set_password(request.actor, user, request.POST.get("password", ""), must_change=True)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
    else:
        messages.success(request, f"{user} has a new password, to be changed at the next login.")
    return HttpResponseRedirect(_page_of(user))


def reset_factor(request: AskedByPerson, pk: int) -> HttpResponse:
    """Take a person's second factor away, as where the telephone is lost."""
    user = get_object_or_404(User, pk=pk)
    remove_second_factor(request.actor, user)
    messages.success(request, f"The second factor of {user} is removed.")
    return HttpResponseRedirect(_page_of(user))


def _page_of(user: User) -> str:
    return reverse("administration:person", args=[user.pk])


def put_errors(form: Form, error: ValidationError) -> None:
    """Show what a model or validator found at the fields that the form has."""
    if not hasattr(error, "error_dict"):
        form.add_error("password" if "password" in form.fields else None, error)
        return
    for name, wrongs in error.error_dict.items():
        form.add_error(name if name in form.fields else None, wrongs)


def render_form(request: AskedByPerson, form: Form, words: Mapping[str, object]) -> HttpResponse:
    """Return the page of one form; 400 where something in it is wrong."""
    status = 400 if form.errors else 200
    return render(request, "administration/form.html", {**words, "form": form}, status=status)
