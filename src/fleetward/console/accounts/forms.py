"""The forms of signing in and of one's own account."""

from django import forms
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from fleetward.console.organisation.models import User


def _password(label: str, purpose: str) -> forms.CharField:
    """Return a password field; `purpose` tells password stores what it is."""
    widget = forms.PasswordInput(attrs={"autocomplete": purpose})
    return forms.CharField(label=label, strip=False, max_length=1024, widget=widget)


class LoginForm(forms.Form):
    """Name and password."""

    username = forms.CharField(
        label="Name",
        max_length=64,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "autofocus": True}
        ),
    )
    password = _password("Password", "current-password")


class CodeForm(forms.Form):
    """A code of the second factor, or a recovery code."""

    code = forms.CharField(
        label="Code",
        max_length=40,
        help_text="Six digits from your authenticator, or one of your recovery codes.",
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "autofocus": True,
                "class": "code-input",
                "spellcheck": "false",
            }
        ),
    )


class ConfirmForm(forms.Form):
    """The password, once more."""

    password = _password("Password", "current-password")


class NewPasswordForm(forms.Form):
    """The old password and a new one, twice."""

    old = _password("Present password", "current-password")
    new = _password("New password", "new-password")
    again = _password("New password, again", "new-password")

    def __init__(self, user: User, *args: object, **keywords: object) -> None:
        super().__init__(*args, **keywords)  # type: ignore[arg-type]
        self._user = user
        self.fields["new"].help_text = "At least 12 characters; a sentence is a good one."

    def clean(self) -> dict[str, object]:
        """Return the fields; the new password must do, and be typed twice."""
        values = super().clean() or {}
        new = str(values.get("new", ""))
        if new != values.get("again"):
            self.add_error("again", "This is not the same as above.")
        if new and new == values.get("old"):
            self.add_error("new", "This is the present password.")
        try:
            validate_password(new, self._user)
        except ValidationError as error:
            self.add_error("new", error)
        return values
