"""Login by an OpenID Connect provider: mozilla-django-oidc, made stricter.

What is checked (OpenID Connect Core 1.0, 3.1.3.7 and 5.3.2), in order:

1. `state`, PKCE and the nonce, and the ID token's signature by the provider's keys: the package.
2. `iss` is the provider of the settings, `aud` holds this console's client id, and `azp`, where
   there are several audiences, is it: here, since the package leaves them open.
3. The user endpoint speaks of the same `sub` as the ID token.
4. The person is found by `sub` alone, never by an e-mail address, which anybody may claim; a name
   that a local person has is refused.

Groups come from a claim, by name; those of the console that the claim does not list are taken.
"""

import logging
from collections.abc import Mapping
from typing import Any

from django.contrib.auth import login
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.views import (
    OIDCAuthenticationCallbackView,
    OIDCAuthenticationRequestView,
)

from fleetward.config.console import OidcSettings
from fleetward.console.audit.chain import Actor
from fleetward.console.organisation.models import Group, User
from fleetward.console.organisation.people import (
    Refused,
    Standing,
    add_user,
    change_user,
    standing_of,
)
from fleetward.console.web.asking import address_of
from fleetward.console.wiring import wired

_log = logging.getLogger(__name__)

Claims = Mapping[str, Any]


class ProviderBackend(OIDCAuthenticationBackend):  # type: ignore[misc]
    """Finds or makes the person whom the provider vouches for."""

    def verify_token(self, token: str, **asked: Any) -> Claims:  # noqa: ANN401 (the package's own)
        """Return the ID token's claims. Raises SuspiciousOperation: it is not for this console."""
        claims: Claims = super().verify_token(token, **asked)
        refuse_foreign(claims, _settings())
        return claims

    def get_or_create_user(self, access_token: str, id_token: str, payload: Claims) -> User | None:
        """Return the person, made at the first login; None where there can be none."""
        claims = self.get_userinfo(access_token, id_token, payload)
        if claims.get("sub") != payload["sub"]:
            raise SuspiciousOperation("the user endpoint speaks of somebody else")
        actor = Actor("system", "oidc", address_of(self.request))
        try:
            return person_of(actor, {**payload, **claims}, _settings())
        except (ValidationError, Refused) as error:
            raise SuspiciousOperation(f"no account can be made of these claims: {error}") from error


def _settings() -> OidcSettings:
    oidc = wired().settings.oidc
    if oidc is None:
        raise SuspiciousOperation("no provider is set")
    return oidc


def refuse_foreign(claims: Claims, oidc: OidcSettings) -> None:
    """Refuse an ID token of another issuer or for another client.

    Raises:
        SuspiciousOperation: it is one.
    """
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else list(audience or ())
    if claims.get("iss") != oidc.issuer:
        raise SuspiciousOperation("the ID token is of another issuer")
    if oidc.client_id not in audiences:
        raise SuspiciousOperation("the ID token is for another client")
    if len(audiences) > 1 and claims.get("azp") != oidc.client_id:
        raise SuspiciousOperation("the ID token was issued to another client")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise SuspiciousOperation("the ID token names nobody")


def person_of(actor: Actor, claims: Claims, oidc: OidcSettings) -> User | None:
    """Return the person that the claims speak of, brought up to date; None where inactive.

    Raises:
        ValidationError: the name will not do, or somebody else has it.
        Refused: the provider would take the last administrator's group.
    """
    subject = f"{oidc.issuer}#{claims['sub']}"
    groups = tuple(Group.objects.filter(name__in=_names(claims.get(oidc.groups_claim))))
    full_name, email = str(claims.get("name", ""))[:200], str(claims.get("email", ""))
    with transaction.atomic():
        user = User.objects.filter(subject=subject).first()
        if user is None:
            name = str(claims.get("preferred_username") or email.partition("@")[0])
            standing = Standing(full_name=full_name, email=email, groups=groups)
            user = add_user(actor, name, standing, password=None, must_change=False)
            user.subject = subject
            user.save(update_fields=["subject"])
            return user
        if not user.is_active:
            return None
        old = standing_of(user)
        new = Standing(
            full_name=full_name,
            email=email,
            every_site=old.every_site,
            groups=groups,
            sites=old.sites,
        )
        if new != old:
            change_user(actor, user, new)
    return user


def _names(claim: object) -> list[str]:
    if isinstance(claim, str):
        return claim.split()
    return [name for name in claim if isinstance(name, str)] if isinstance(claim, list) else []


class Begin(OIDCAuthenticationRequestView):  # type: ignore[misc]
    """Sends somebody to the provider."""

    def get_extra_params(self, request: HttpRequest) -> dict[str, str]:
        """Ask the provider for a new login where a dangerous act wants one."""
        return {"prompt": "login"} if request.GET.get("fresh") else {}


class Return(OIDCAuthenticationCallbackView):  # type: ignore[misc]
    """Takes what the provider sends back."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Begin a session, or send back to the login page with a word why not."""
        try:
            answer: HttpResponse = super().get(request)
        except Exception:  # noqa: BLE001 (whatever the provider sent or failed to: nobody logs in)
            _log.exception("login by the provider was refused")
            answer = self.login_failure()
        return answer

    def login_success(self) -> HttpResponse:
        """Begin a session anew, also where there was one, so that it counts as fresh."""
        target = self.success_url
        # Django changes the key of a session only where somebody else was in it, or nobody.
        self.request.session.cycle_key()
        login(self.request, self.user, backend=_BACKEND)
        return HttpResponseRedirect(target)


_BACKEND = "fleetward.console.accounts.oidc.ProviderBackend"
