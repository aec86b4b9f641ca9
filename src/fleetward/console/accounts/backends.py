"""Login by name and password."""

from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest

from fleetward.console.organisation.models import User


class PasswordBackend(ModelBackend):
    """Django's own, for names in small letters; people of a provider have no password."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **rest: object,
    ) -> User | None:
        """Return the person, or None; takes as long for a name that does not exist."""
        if username is None or password is None:
            return None
        return super().authenticate(request, username=username.lower(), password=password)
