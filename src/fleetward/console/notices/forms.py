"""The form of a channel."""

from urllib.parse import urlsplit

from django import forms
from django.core.validators import validate_email

from fleetward.console.notices.models import Level, Way

_WAYS = {
    Way.WEBHOOK: "webhook: a signed POST of JSON",
    Way.EMAIL: "e-mail",
    Way.SYSLOG: "syslog (RFC 5424)",
}


class ChannelForm(forms.Form):
    """Where notices go."""

    name = forms.CharField(label="Name", max_length=64)
    way = forms.ChoiceField(
        label="Way",
        choices=[(way.value, words) for way, words in _WAYS.items()],
        widget=forms.RadioSelect,
        initial=Way.WEBHOOK.value,
    )
    target = forms.CharField(
        label="Target",
        max_length=500,
        help_text="https://… · an e-mail address · udp://host:514, tcp://host:514 or "
        "tls://host:6514",
    )
    least = forms.TypedChoiceField(
        label="Takes",
        coerce=int,
        choices=[
            (Level.NOTE.value, "everything"),
            (Level.WARNING.value, "warnings and worse"),
            (Level.CRITICAL.value, "only what is critical"),
        ],
        initial=Level.WARNING.value,
    )
    is_on = forms.BooleanField(label="On", required=False, initial=True)

    def clean(self) -> dict[str, object]:
        """Return the fields; the target must suit the way."""
        values = super().clean() or {}
        way, target = values.get("way"), str(values.get("target", ""))
        if way == Way.EMAIL:
            try:
                validate_email(target)
            except forms.ValidationError:
                self.add_error("target", "This is no e-mail address.")
        elif target and not _is_url(target, _SCHEMES.get(str(way), set())):
            allowed = " or ".join(sorted(_SCHEMES.get(str(way), set())))
            self.add_error("target", f"Write {allowed}, a host, and nothing secret.")
        return values


_SCHEMES = {Way.WEBHOOK.value: {"https", "http"}, Way.SYSLOG.value: {"udp", "tcp", "tls"}}


def _is_url(text: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in schemes
            and bool(parts.hostname)
            and parts.port != 0
            and ("@" not in parts.netloc)
        )
    except ValueError:
        return False
