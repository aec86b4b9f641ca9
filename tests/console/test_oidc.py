"""Login by a provider: a small real one on loopback, and what it may not do."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from django.test import Client, override_settings
from jwt.algorithms import RSAAlgorithm

from console.cast import add_person
from fleetward.console.audit.models import Entry
from fleetward.console.organisation.models import User
from fleetward.console.permissions import Role
from fleetward.console.wiring import wired

pytestmark = pytest.mark.django_db

ISSUER = "https://provider.example"


@dataclass
class Provider:
    """What the provider says; tests change it."""

    key: rsa.RSAPrivateKey
    url: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    user: dict[str, Any] = field(default_factory=dict)
    nonce: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    signer: rsa.RSAPrivateKey | None = None

    def id_token(self) -> str:
        now = int(wired().clock.now().timestamp())
        claims = {"iss": ISSUER, "aud": "console", "sub": "42", "iat": now, "exp": now + 60}
        claims |= {"nonce": self.nonce} | self.claims
        return jwt.encode(claims, self.signer or self.key, "RS256", headers={"kid": "k1"})

    def keys(self) -> dict[str, Any]:
        public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [public | {"kid": "k1", "alg": "RS256"}]}


@pytest.fixture(scope="module")
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def provider(signing_key: rsa.RSAPrivateKey) -> Iterator[Provider]:
    said = Provider(signing_key)
    said.user = {
        "sub": "42",
        "preferred_username": "grace",
        "name": "Grace Hopper",
        "email": "grace@example.org",
        "groups": ["operators", "somewhere-else"],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            said.asked.append(parse_qs(body))
            self._answer({"access_token": "a", "id_token": said.id_token()})

        def do_GET(self) -> None:
            self._answer(said.keys() if self.path == "/keys" else said.user)

        def _answer(self, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *rest: object) -> None:  # noqa: A002 (the base class's name)
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    said.url = f"http://127.0.0.1:{server.server_port}"
    with override_settings(
        OIDC_OP_AUTHORIZATION_ENDPOINT=f"{said.url}/authorize",
        OIDC_OP_TOKEN_ENDPOINT=f"{said.url}/token",
        OIDC_OP_USER_ENDPOINT=f"{said.url}/user",
        OIDC_OP_JWKS_ENDPOINT=f"{said.url}/keys",
    ):
        yield said
    server.shutdown()
    server.server_close()
    thread.join()


def begin(client: Client, provider: Provider, query: str = "") -> dict[str, str]:
    """Go to the provider; return what the console asked of it."""
    sent = client.get(f"/oidc/begin/{query}")
    assert sent.status_code == 302
    assert sent["Location"].startswith(f"{provider.url}/authorize?")
    asked = {key: value[0] for key, value in parse_qs(urlsplit(sent["Location"]).query).items()}
    provider.nonce = asked["nonce"]
    return asked


def through(client: Client, provider: Provider, query: str = "") -> str:
    """Go through the whole login; return where the console sends to."""
    asked = begin(client, provider, query)
    answer = client.get("/oidc/return/", {"code": "c", "state": asked["state"]})
    assert answer.status_code == 302
    return str(answer["Location"])


REFUSED = "/login/?provider=refused"


def test_somebody_new_gets_an_account_with_the_groups_of_the_claim(provider: Provider) -> None:
    client = Client()
    assert through(client, provider, "?next=/account/") == "/account/"
    grace = User.objects.get(username="grace")
    assert grace.subject == f"{ISSUER}#42"
    assert [group.name for group in grace.groups.all()] == ["operators"]
    assert not grace.has_usable_password()
    assert client.get("/account/").status_code == 200
    assert set(Entry.objects.values_list("action", flat=True)) == {"users.manage", "session.begin"}


def test_the_login_page_offers_the_provider(provider: Provider) -> None:
    assert b"Single sign-on" in Client().get("/login/").content
    assert b"did not let you in" in Client().get(REFUSED).content


def test_the_console_proves_that_it_is_the_one_that_began(provider: Provider) -> None:
    asked = begin(Client(), provider)
    assert asked["code_challenge_method"] == "S256"
    client = Client()
    through(client, provider)
    redeemed = provider.asked[-1]
    assert redeemed["client_secret"] == ["the client's secret"]
    assert len(redeemed["code_verifier"][0]) >= 43


def test_groups_follow_the_claim_at_every_login(provider: Provider) -> None:
    through(Client(), provider)
    provider.user["groups"] = "viewers approvers"
    through(Client(), provider)
    grace = User.objects.get(username="grace")
    assert {group.name for group in grace.groups.all()} == {"viewers", "approvers"}


def test_somebody_made_inactive_here_does_not_come_in_by_the_provider(provider: Provider) -> None:
    through(Client(), provider)
    User.objects.filter(username="grace").update(is_active=False)
    client = Client()
    assert through(client, provider) == REFUSED
    assert client.get("/account/").status_code == 302


def test_the_provider_does_not_take_over_a_local_account(provider: Provider) -> None:
    """Somebody at the provider calls himself `ada`, with ada's address."""
    ada = add_person("ada", Role.ADMINISTRATOR)
    User.objects.filter(pk=ada.pk).update(email="ada@example.org")
    provider.user |= {"preferred_username": "ada", "email": "ada@example.org"}
    client = Client()
    assert through(client, provider) == REFUSED
    assert client.get("/account/").status_code == 302
    assert User.objects.get(pk=ada.pk).subject is None


FOREIGN: dict[str, dict[str, object]] = {
    "another issuer": {"iss": "https://evil.example"},
    "another client": {"aud": "payroll"},
    "no audience": {"aud": []},
    "issued to another client": {"aud": ["console", "payroll"], "azp": "payroll"},
    "several audiences and no azp": {"aud": ["console", "payroll"]},
    "expired": {"exp": 1_000_000_000},
    "another login's nonce": {"nonce": "replayed"},
    "nobody": {"sub": ""},
}


@pytest.mark.parametrize("claims", FOREIGN.values(), ids=FOREIGN)
def test_an_id_token_that_is_not_for_this_login_is_refused(
    provider: Provider, claims: dict[str, object]
) -> None:
    provider.claims = claims
    client = Client()
    assert through(client, provider) == REFUSED
    assert not User.objects.exists()


def test_an_id_token_with_two_audiences_says_which_is_meant(provider: Provider) -> None:
    provider.claims = {"aud": ["console", "payroll"], "azp": "console"}
    assert through(Client(), provider) == "/"


def test_an_id_token_signed_by_another_key_is_refused(provider: Provider) -> None:
    provider.signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert through(Client(), provider) == REFUSED


def test_a_user_endpoint_that_speaks_of_somebody_else_is_refused(provider: Provider) -> None:
    provider.user["sub"] = "43"
    assert through(Client(), provider) == REFUSED


def test_an_answer_that_nobody_here_asked_for_is_refused(provider: Provider) -> None:
    """The attacker sends the victim a link that would sign the victim in as the attacker."""
    asked = begin(Client(), provider)
    victim = Client()
    answer = victim.get("/oidc/return/", {"code": "c", "state": asked["state"]})
    assert answer["Location"] == REFUSED
    begin(victim, provider)
    answer = victim.get("/oidc/return/", {"code": "c", "state": "forged"})
    assert answer["Location"] == REFUSED


def test_what_the_provider_refuses_locks_nobody_out(provider: Provider) -> None:
    provider.claims = {"iss": "https://evil.example"}
    for _ in range(7):
        assert through(Client(), provider) == REFUSED
    provider.claims = {}
    assert through(Client(), provider) == "/"


def test_a_provider_that_refuses_sends_back_to_the_login(provider: Provider) -> None:
    client = Client()
    asked = begin(client, provider)
    answer = client.get("/oidc/return/", {"error": "access_denied", "state": asked["state"]})
    assert answer["Location"] == REFUSED


def test_a_dangerous_act_asks_the_provider_for_a_new_login(provider: Provider) -> None:
    client = Client()
    through(client, provider)
    key = client.session.session_key
    page = client.get("/account/confirm/?next=/account/")
    assert b"/oidc/begin/?fresh=1" in page.content
    asked = begin(client, provider, "?fresh=1&next=/account/")
    assert asked["prompt"] == "login"
    client.get("/oidc/return/", {"code": "c", "state": asked["state"]})
    assert client.session["fresh"] == pytest.approx(wired().clock.now().timestamp(), abs=60)
    assert client.session.session_key != key


def test_what_leads_back_stays_on_this_console(provider: Provider) -> None:
    assert through(Client(), provider, "?next=https://evil.example/") == "/"
