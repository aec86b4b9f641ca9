"""How Django knows this package."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Signing in and one's own account."""

    name = "fleetward.console.accounts"
    label = "accounts"

    def ready(self) -> None:
        """Listen to logins and logouts."""
        from fleetward.console.accounts import sessions  # noqa: PLC0415 (Django's models are ready only now)

        sessions.listen()
