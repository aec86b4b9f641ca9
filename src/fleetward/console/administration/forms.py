"""The forms of Settings."""

from datetime import timedelta

from django import forms

from fleetward.console.organisation.models import Group, Site, User
from fleetward.console.organisation.people import Standing
from fleetward.console.permissions import Role, Scope

_NAME_HELP = "Small letters, digits and . _ @ + -."
_EVERY = "every"
_SOME = "some"

_SCOPES = {
    Scope.READ: "read: see hosts, releases, rollouts, alerts",
    Scope.OPERATE: "operate: enrol, direct, pause, work on alerts",
    Scope.APPROVE: "approve: approve rollouts",
    Scope.AUDIT: "audit: read the audit log",
    Scope.ADMINISTER: "administer: people, groups, sites, tokens",
}

_ROLES = {
    Role.VIEWER: "viewer: sees",
    Role.OPERATOR: "operator: sees and acts on hosts, rollouts and alerts",
    Role.APPROVER: "approver: sees, and approves rollouts",
    Role.ADMINISTRATOR: "administrator: sees, acts, and governs people and settings",
}


class ReachFields(forms.Form):
    """Every site, or some."""

    reach = forms.ChoiceField(
        label="Sites",
        choices=[(_EVERY, "Every site, also later ones"), (_SOME, "Only these:")],
        initial=_EVERY,
        widget=forms.RadioSelect,
    )
    sites = forms.ModelMultipleChoiceField(
        label="Only these sites",
        queryset=Site.objects.all(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    def every_site(self) -> bool:
        """Return whether every site was chosen."""
        return bool(self.cleaned_data["reach"] == _EVERY)

    def chosen_sites(self) -> tuple[Site, ...]:
        """Return the sites that were chosen; none where it is every one."""
        return () if self.every_site() else tuple(self.cleaned_data["sites"])


class UserForm(ReachFields):
    """How a person stands."""

    full_name = forms.CharField(label="Full name", max_length=200, required=False)
    email = forms.EmailField(label="E-mail", required=False)
    groups = forms.ModelMultipleChoiceField(
        label="Groups",
        queryset=Group.objects.all(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Roles come from groups. Somebody in none sees nothing.",
    )
    is_active = forms.BooleanField(label="May log in", required=False, initial=True)

    field_order = ("username", "full_name", "email", "password", "groups", "reach", "sites")

    def standing(self) -> Standing:
        """Return what was entered."""
        values = self.cleaned_data
        return Standing(
            full_name=values["full_name"],
            email=values["email"],
            is_active=values["is_active"],
            every_site=self.every_site(),
            groups=tuple(values["groups"]),
            sites=self.chosen_sites(),
        )


class NewUserForm(UserForm):
    """A person who is not there yet."""

    username = forms.CharField(
        label="Name to log in",
        max_length=64,
        help_text=_NAME_HELP,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "none"}),
    )
    password = forms.CharField(
        label="First password",
        strip=False,
        max_length=1024,
        help_text="At least 12 characters. It must be changed at the first login.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


def initial_of(user: User) -> dict[str, object]:
    """Return what a person's form begins with."""
    return {
        "full_name": user.full_name,
        "email": user.email,
        "groups": user.groups.all(),
        "is_active": user.is_active,
        "reach": _EVERY if user.every_site else _SOME,
        "sites": user.sites.all(),
    }


class ResetForm(forms.Form):
    """Another password for somebody else."""

    password = forms.CharField(
        label="New password",
        strip=False,
        max_length=1024,
        help_text="It must be changed at the next login; all sessions end.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class GroupForm(ReachFields):
    """A group."""

    name = forms.CharField(label="Name", max_length=64, help_text=_NAME_HELP)
    role = forms.ChoiceField(
        label="Role",
        choices=[(role.value, words) for role, words in _ROLES.items()],
        widget=forms.RadioSelect,
        initial=Role.VIEWER.value,
    )

    field_order = ("name", "role", "reach", "sites")


def initial_of_group(group: Group) -> dict[str, object]:
    """Return what a group's form begins with."""
    return {
        "name": group.name,
        "role": group.role,
        "reach": _EVERY if group.every_site else _SOME,
        "sites": group.sites.all(),
    }


class SiteForm(forms.Form):
    """A site."""

    name = forms.CharField(
        label="Name",
        max_length=64,
        help_text=_NAME_HELP + " Relays and enrolment tokens name the site by it.",
    )
    title = forms.CharField(label="Title", max_length=200, required=False)


class TokenForm(forms.Form):
    """A token of the API."""

    name = forms.CharField(label="What it is for", max_length=100)
    owner = forms.ModelChoiceField(
        label="Owner",
        queryset=User.objects.filter(is_active=True),
        help_text="The token may do what its owner may, within its scopes.",
    )
    scopes = forms.MultipleChoiceField(
        label="Scopes",
        choices=[(scope.value, words) for scope, words in _SCOPES.items()],
        widget=forms.CheckboxSelectMultiple,
    )
    days = forms.TypedChoiceField(
        label="Lives for",
        coerce=int,
        initial=90,
        choices=[(7, "7 days"), (30, "30 days"), (90, "90 days"), (366, "a year")],
    )

    def life(self) -> timedelta:
        """Return how long it is to live."""
        return timedelta(days=self.cleaned_data["days"])
