"""Django's settings, made from the console's own: no settings module that an operator edits.

Invariants: DEBUG is off; cookies are HttpOnly and, under https, Secure; passwords are argon2;
nothing here is read from the environment.
"""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleetward.config.console import ConsoleFileSettings, OidcSettings, SignInSettings
from fleetward.console.bodies import MAX_BODY
from fleetward.console.database import Database
from fleetward.console.parts import PARTS
from fleetward.errors import ConfigurationError

MAX_FIELDS = 2_000
"""Fields of a form, at most (hash flooding, bulk acts on a whole fleet)."""

_HERE = Path(__file__).resolve().parent
_YEAR = timedelta(days=365)

_MIDDLEWARE = [
    "fleetward.console.web.middleware.SafetyHeaders",
    "fleetward.console.web.staticfiles.StaticFiles",
    "fleetward.console.web.problems.ProblemAnswers",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "fleetward.console.web.middleware.SessionLimits",
    "fleetward.console.web.middleware.WhoAsks",
    "axes.middleware.AxesMiddleware",
]

_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "axes",
    "fleetward.console.organisation",
    "fleetward.console.audit",
]


def django_settings(
    settings: ConsoleFileSettings, database: Database, secret: str, state: Path
) -> dict[str, Any]:
    """Return the keywords for `django.conf.settings.configure`.

    Args:
        settings: the console's own.
        database: from `database.parse_database`.
        secret: the key for sessions and CSRF tokens; from `keeping.secret_key`.
        state: a folder for the collected static files.
    """
    return (
        {
            "DEBUG": False,
            "SECRET_KEY": secret,
            "DATABASES": {"default": database.django},
            "ALLOWED_HOSTS": _allowed_hosts(settings),
            "INSTALLED_APPS": [*_APPS, *(["mozilla_django_oidc"] if settings.oidc else []), *PARTS],
            "MIDDLEWARE": _MIDDLEWARE,
            "ROOT_URLCONF": "fleetward.console.urls",
            "APPEND_SLASH": True,
            "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
            "USE_TZ": True,
            "TIME_ZONE": "UTC",
            "LANGUAGE_CODE": "en-gb",
            "USE_I18N": False,
            "DATA_UPLOAD_MAX_MEMORY_SIZE": MAX_BODY,
            "DATA_UPLOAD_MAX_NUMBER_FIELDS": MAX_FIELDS,
            "TEMPLATES": [_templates()],
            "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
            "CSRF_FAILURE_VIEW": "fleetward.console.web.errors.csrf_failed",
            "LOGGING_CONFIG": None,
        }
        | _static_files(state)
        | _sessions(settings)
        | _people(settings.sign_in)
        | (_oidc(settings.oidc) if settings.oidc else {})
    )


def _allowed_hosts(settings: ConsoleFileSettings) -> list[str]:
    own = [socket.gethostname(), socket.getfqdn()]
    listen = settings.listen.rpartition(":")[0]
    named = urlsplit(settings.url).hostname if settings.url else None
    hosts = ["localhost", "127.0.0.1", "[::1]", listen, named, *settings.hosts, *own]
    wildcards = {"*", "0.0.0.0", "[::]"}  # noqa: S104 (compared, not bound)
    return sorted({host for host in hosts if host} - wildcards)


def _templates() -> dict[str, Any]:
    return {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [str(_HERE / "templates")],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "fleetward.console.web.frame.frame",
            ],
            "builtins": ["fleetward.console.web.tags"],
        },
    }


def _static_files(state: Path) -> dict[str, Any]:
    return {
        "STATIC_URL": "/static/",
        "STATIC_ROOT": str(state / "static"),
        "STATICFILES_DIRS": [str(_HERE / "static")],
        "STORAGES": {
            "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
            "staticfiles": {
                "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage",
            },
        },
        "WHITENOISE_ADD_HEADERS_FUNCTION": None,
    }


def _sessions(settings: ConsoleFileSettings) -> dict[str, Any]:
    https = settings.is_https()
    return {
        "SESSION_ENGINE": "django.contrib.sessions.backends.db",
        "SESSION_SERIALIZER": "django.contrib.sessions.serializers.JSONSerializer",
        # The __Host- prefix lets no sibling domain plant a cookie; browsers demand Secure for it.
        "SESSION_COOKIE_NAME": "__Host-session" if https else "fleetward-session",
        "SESSION_COOKIE_SECURE": https,
        "SESSION_COOKIE_HTTPONLY": True,
        # Lax, since a provider's answer comes back by a link from another site.
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_AGE": int(settings.sign_in.longest.total_seconds()),
        "SESSION_EXPIRE_AT_BROWSER_CLOSE": True,
        "CSRF_COOKIE_NAME": "__Host-csrf" if https else "fleetward-csrf",
        "CSRF_COOKIE_SECURE": https,
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Strict",
        "CSRF_TRUSTED_ORIGINS": [settings.url.rstrip("/")] if settings.url else [],
        "SECURE_HSTS_SECONDS": int(_YEAR.total_seconds()) if https else 0,
    }


def _people(sign_in: SignInSettings) -> dict[str, Any]:
    validation = "django.contrib.auth.password_validation"
    return {
        "AUTH_USER_MODEL": "organisation.User",
        "LOGIN_URL": "accounts:login",
        "LOGIN_REDIRECT_URL": "/",
        "LOGOUT_REDIRECT_URL": "accounts:login",
        "AUTHENTICATION_BACKENDS": [
            "axes.backends.AxesStandaloneBackend",
            "fleetward.console.accounts.backends.PasswordBackend",
        ],
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.Argon2PasswordHasher"],
        "AUTH_PASSWORD_VALIDATORS": [
            {"NAME": f"{validation}.UserAttributeSimilarityValidator"},
            {"NAME": f"{validation}.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
            {"NAME": f"{validation}.CommonPasswordValidator"},
        ],
        "AXES_FAILURE_LIMIT": sign_in.attempts,
        "AXES_COOLOFF_TIME": sign_in.cool_off,
        "AXES_LOCKOUT_PARAMETERS": [["username", "ip_address"]],
        "AXES_LOCKOUT_CALLABLE": "fleetward.console.accounts.throttling.locked_out",
        "AXES_WHITELIST_CALLABLE": "fleetward.console.accounts.throttling.is_by_provider",
        "AXES_RESET_ON_SUCCESS": True,
        "AXES_DISABLE_ACCESS_LOG": True,
        "AXES_ENABLE_ADMIN": False,
        "AXES_VERBOSE": False,
        # uvicorn has already put the right client where REMOTE_ADDR is; nothing else is believed.
        "AXES_IPWARE_META_PRECEDENCE_ORDER": ["REMOTE_ADDR"],
        "OTP_TOTP_ISSUER": "Fleetward",
    }


def _oidc(oidc: OidcSettings) -> dict[str, Any]:
    return {
        "AUTHENTICATION_BACKENDS": [
            "axes.backends.AxesStandaloneBackend",
            "fleetward.console.accounts.backends.PasswordBackend",
            "fleetward.console.accounts.oidc.ProviderBackend",
        ],
        "OIDC_RP_CLIENT_ID": oidc.client_id,
        "OIDC_RP_CLIENT_SECRET": _client_secret(oidc),
        "OIDC_OP_AUTHORIZATION_ENDPOINT": oidc.authorization_endpoint,
        "OIDC_OP_TOKEN_ENDPOINT": oidc.token_endpoint,
        "OIDC_OP_USER_ENDPOINT": oidc.user_endpoint,
        "OIDC_OP_JWKS_ENDPOINT": oidc.jwks_endpoint,
        "OIDC_RP_SIGN_ALGO": "RS256",
        "OIDC_RP_SCOPES": "openid profile email",
        "OIDC_USE_PKCE": True,
        "OIDC_USE_NONCE": True,
        "OIDC_TIMEOUT": 10,
        "LOGIN_REDIRECT_URL_FAILURE": "/login/?provider=refused",
        "ALLOW_LOGOUT_GET_METHOD": False,
    }


def _client_secret(oidc: OidcSettings) -> str:
    try:
        return oidc.client_secret_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read oidc.client_secret_file: {error}") from error
