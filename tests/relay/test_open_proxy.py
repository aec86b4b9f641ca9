"""The relay is no open proxy, and no way into a network: what attackers ask it for, over sockets."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fleetward.errors import ConfigurationError
from fleetward.httpd.endpoint import Endpoint
from fleetward.relay.addresses import Lookup
from httpd.rawhttp import Answer, Raw, send_all
from httpd.upstreams import Asked, Out, Script, Upstream, head, serving
from httpd.waiting import wait_until
from relay.passthroughs import TestPassthrough, settings_of

FILES = {"/pub/a": b"public", "/private/key": b"private"}


@pytest.fixture
def secret() -> Iterator[Upstream]:
    """A server of the inner network, which nobody may reach through the relay."""
    with Upstream(serving({"/": b"secret", "/pub/a": b"secret"})) as server:
        yield server
        assert server.asked == [], "the relay was made to ask it"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(serving(FILES)) as server:
        yield server


@pytest.fixture
def relay(tmp_path: Path, upstream: Upstream) -> Iterator[TestPassthrough]:
    settings = settings_of(upstream.url, paths=("/pub/",), proxy_requests=True)
    with TestPassthrough(tmp_path, settings) as running:
        yield running


def redirecting(*locations: str) -> Script:
    """Redirect from each to the next; `/pub/a` has the content."""
    places = dict(zip(["/pub/start", *locations], locations, strict=False))

    async def script(asked: Asked, out: Out) -> bool:
        location = places.get(asked.path)
        if location is None:
            return bool(await serving(FILES)(asked, out))
        await out.send(head(0, f"Location: {location}", status="302 Found"))
        return True

    return script


def test_the_allowed_file_is_served(relay: TestPassthrough, upstream: Upstream) -> None:
    assert relay.get("/pub/a").body == b"public"
    with Raw(relay.url) as client:
        assert client.get(f"{upstream.url}/pub/a").body == b"public"


@pytest.mark.parametrize(
    "path",
    [
        "/private/key",
        "/pub/../private/key",
        "/pub/%2e%2e/private/key",
        "/pub/..%2fprivate/key",
        "/pub/%252e%252e/private/key",
        "/pub/..%5cprivate%5ckey",
        "/pub/..;/private/key",
        "/pub//../private/key",
    ],
)
def test_a_path_beside_the_listed_ones(
    relay: TestPassthrough, upstream: Upstream, path: str
) -> None:
    """The attacker asks for what lies beside the listed folder, in every spelling."""
    assert relay.get(path).status == 404
    with Raw(relay.url) as client:
        assert client.get(upstream.url + path).status == 404
    assert upstream.asked == []


def test_another_server_in_absolute_form(relay: TestPassthrough, secret: Upstream) -> None:
    """The attacker uses the relay as a proxy towards a server of the inner network."""
    with Raw(relay.url) as client:
        assert client.get(f"{secret.url}/pub/a").status == 404
        assert client.get(f"{secret.url}/").status == 404
        assert client.get("http://169.254.169.254/latest/meta-data/").status == 404


@pytest.mark.parametrize(
    "trick",
    [
        "http://{up}@{secret}/pub/a",
        "http://{secret}\\@{up}/pub/a",
        "http://{up}:80@{secret}/pub/a",
        "http://{secret}#@{up}/pub/a",
        "http://{secret}?@{up}/pub/a",
        "http:///{secret}/pub/a",
        "https://{up}/pub/a",
        "http://{up}.evil.example/pub/a",
        "http://evil{up}/pub/a",
        "ftp://{up}/pub/a",
        "//{secret}/pub/a",
        "{secret}/pub/a",
    ],
)
def test_an_authority_that_two_readers_take_differently(
    relay: TestPassthrough, upstream: Upstream, secret: Upstream, trick: str
) -> None:
    """The attacker writes a URL whose host is the allowed one for a careless reader."""
    up, inner = (urlsplit(one.url).netloc for one in (upstream, secret))
    with Raw(relay.url) as client:
        assert client.get(trick.format(up=up, secret=inner)).status in {400, 404}
    assert upstream.asked == []


def test_a_host_header_chooses_nothing(relay: TestPassthrough, secret: Upstream) -> None:
    """The attacker sends the inner server's name as Host; the configured upstream is asked."""
    netloc = urlsplit(secret.url).netloc
    raw = f"GET /passthrough/up/pub/a HTTP/1.1\r\nHost: {netloc}\r\nConnection: close\r\n\r\n"
    assert send_all(relay.url, raw.encode()).endswith(b"public")


def test_absolute_form_is_off_unless_asked_for(tmp_path: Path, upstream: Upstream) -> None:
    with TestPassthrough(tmp_path, settings_of(upstream.url)) as relay, Raw(relay.url) as client:
        assert client.get(f"{upstream.url}/pub/a").status == 404
        assert upstream.asked == []


def test_no_tunnel(relay: TestPassthrough, upstream: Upstream, secret: Upstream) -> None:
    """The attacker wants a tunnel through the relay, to the inner server or to the upstream."""
    for server in (secret, upstream):
        netloc = urlsplit(server.url).netloc
        raw = f"CONNECT {netloc} HTTP/1.1\r\nHost: {netloc}\r\n\r\n"
        assert send_all(relay.url, raw.encode()).startswith(b"HTTP/1.1 400")
    assert upstream.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_only_reading(relay: TestPassthrough, upstream: Upstream, method: str) -> None:
    with Raw(relay.url) as client:
        assert client.get("/passthrough/up/pub/a", method=method).status == 405
    assert upstream.asked == []


# -- redirects ---------------------------------------------------------------------------------------


def ask(cache: Path, script: Script, **changes: object) -> tuple[Answer, list[str], int]:
    """Return the answer, what the upstream was asked, and how many redirects were refused."""
    with Upstream(script) as upstream:
        settings = settings_of(upstream.url, paths=("/pub/",), **changes)
        with TestPassthrough(cache, settings) as relay:
            answer = relay.get("/pub/start")
            wait_until(lambda: not relay.one.asking)
            return answer, upstream.paths(), relay.count("refused_redirects")


def test_a_redirect_inside_the_list_is_followed(tmp_path: Path) -> None:
    answer, asked, _ = ask(tmp_path, redirecting("/pub/b", "/pub/a"))
    assert answer.body == b"public"
    assert asked == ["/pub/start", "/pub/b", "/pub/a"]


def test_a_redirect_to_another_server(tmp_path: Path, secret: Upstream) -> None:
    """The upstream was taken over, and sends the relay to a server of the inner network."""
    answer, asked, refused = ask(tmp_path, redirecting(f"{secret.url}/pub/a"))
    assert (answer.status, asked, refused) == (503, ["/pub/start"], 1)
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    "location", ["/private/key", "../private/key", "/pub/..;/private/key", "file:///etc/passwd", ""]
)
def test_a_redirect_out_of_the_list(tmp_path: Path, location: str) -> None:
    answer, asked, refused = ask(tmp_path, redirecting(location))
    assert (answer.status, asked, refused) == (503, ["/pub/start"], 1)


def test_redirects_in_a_circle(tmp_path: Path) -> None:
    answer, asked, refused = ask(tmp_path, redirecting("/pub/b", "/pub/c", "/pub/b"))
    assert (answer.status, asked, refused) == (503, ["/pub/start", "/pub/b", "/pub/c"], 1)


def test_redirects_without_end(tmp_path: Path) -> None:
    answer, asked, refused = ask(tmp_path, redirecting(*(f"/pub/{n}" for n in range(50))))
    assert (answer.status, len(asked), refused) == (503, 6, 1)


def test_redirects_off(tmp_path: Path) -> None:
    answer, asked, _ = ask(tmp_path, redirecting("/pub/a"), follow_redirects=False)
    assert (answer.status, asked) == (503, ["/pub/start"])


# -- where names lead --------------------------------------------------------------------------------


class Names:
    """A DNS that gives each time the next answer; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def named(relay: TestPassthrough, lookup: Lookup) -> TestPassthrough:
    relay.one.resolver._lookup = lookup
    return relay


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "[::ffff:127.0.0.1]"])
def test_a_private_address_must_be_allowed(tmp_path: Path, host: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="allow_private"),
        TestPassthrough(tmp_path, settings_of(f"http://{host}", allow_private=False)),
    ):
        pass


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "224.0.0.1"])
def test_the_metadata_service_cannot_be_allowed(tmp_path: Path, host: str) -> None:
    with (
        pytest.raises(ConfigurationError),
        TestPassthrough(tmp_path, settings_of(f"http://{host}")),
    ):
        pass


def test_a_name_of_this_machine_is_refused(tmp_path: Path, secret: Upstream) -> None:
    """The operator's upstream is a name; whoever has its DNS points it at the relay's own host."""
    port = urlsplit(secret.url).port
    settings = settings_of(f"http://localhost:{port}", allow_private=False)
    with TestPassthrough(tmp_path, settings) as relay:
        assert relay.get("/pub/a").status == 503
        assert relay.one.resolver.refused == 1


def test_the_checked_address_is_the_one_that_is_connected_to(
    tmp_path: Path, upstream: Upstream
) -> None:
    """The name is resolved once for each connection; Host stays the name."""
    port = urlsplit(upstream.url).port
    names = Names(["127.0.0.2", "127.0.0.1"])
    with TestPassthrough(tmp_path, settings_of(f"http://mirror.example:{port}")) as relay:
        assert named(relay, names).get("/pub/a").body == b"public"
        assert upstream.asked[0].headers["host"] == f"mirror.example:{port}"


def test_a_name_that_rebinds(tmp_path: Path, upstream: Upstream) -> None:
    """First a good address; for the next connection, the metadata service among good ones."""
    port = urlsplit(upstream.url).port
    names = Names(["127.0.0.1"], ["127.0.0.1", "169.254.169.254"])
    with TestPassthrough(tmp_path, settings_of(f"http://mirror.example:{port}")) as relay:
        assert named(relay, names).get("/pub/a").body == b"public"
        wait_until(lambda: not relay.one.asking)
        relay.one.ground.client.close()
        assert relay.get("/pub/b").status == 503
        assert len(upstream.asked) == 1


# -- what crosses ------------------------------------------------------------------------------------


def test_no_credential_and_no_hop_header_crosses(tmp_path: Path) -> None:
    """What a client sends to the relay is for the relay; what an upstream sets is for nobody."""

    async def script(_: Asked, out: Out) -> bool:
        await out.send(
            head(
                1,
                "Set-Cookie: session=1",
                "WWW-Authenticate: Basic",
                "Proxy-Authenticate: Basic",
                "Connection: keep-alive, X-Hop",
                "X-Hop: 1",
                "X-Powered-By: something",
                "Strict-Transport-Security: max-age=1",
            ),
            b"x",
        )
        return True

    with (
        Upstream(script) as upstream,
        TestPassthrough(tmp_path, settings_of(upstream.url)) as relay,
    ):
        answer = relay.get(
            "/x",
            "Authorization: Basic c2VjcmV0",
            "Cookie: session=secret",
            "Proxy-Authorization: Basic c2VjcmV0",
            "Connection: keep-alive, X-Mine",
            "X-Mine: 1",
            "TE: trailers",
            "X-Forwarded-For: 10.0.0.1",
            "User-Agent: spy",
            "Referer: http://inner.example/secret",
        )
        sent = upstream.asked[0].headers
        assert set(sent) == {"host", "user-agent", "accept-encoding", "via"}
        assert sent["user-agent"] == "fleetward"
        assert set(answer.headers) == {
            "accept-ranges",
            "content-length",
            "content-type",
            "date",
            "etag",
            "via",
            "x-fleetward-verified",
        }


@pytest.mark.parametrize("path", ["/pub/a%0d%0aX-Evil:%20y", "/pub/a%00", "/pub/a%0aGET%20/"])
def test_a_header_in_a_path(relay: TestPassthrough, upstream: Upstream, path: str) -> None:
    """The attacker writes a line end into the path, and a second request after it."""
    assert relay.get(path).status == 400
    assert upstream.asked == []


def test_a_relay_that_asks_itself(tmp_path: Path) -> None:
    """Its upstream is its own address, by a mistake or by DNS; the circle ends at once.

    Otherwise the relay would wait for itself, as one of those who wait for the file.
    """
    asked: list[str] = []

    async def back(request: Asked, out: Out) -> bool:
        asked.append(request.path)
        via = request.headers["via"]
        inner = itself.get(request.path, f"Via: {via}")
        await out.send(head(0, status=f"{inner.status} Inner"))
        return True

    with Upstream(back) as upstream, TestPassthrough(tmp_path, settings_of(upstream.url)) as itself:
        assert itself.get("/x").status == 503
        assert asked == ["/x"]
        assert itself.count("requests") == 1


def test_two_relays_that_ask_each_other(tmp_path: Path) -> None:
    """Each is the other's upstream; what the first one's request comes back with is its own name."""
    first: list[TestPassthrough] = []
    via: list[str] = []

    async def to_first(request: Asked, out: Out) -> bool:
        via.append(request.headers["via"])
        inner = await asyncio.to_thread(first[0].get, request.path, f"Via: {via[-1]}")
        await out.send(head(0, status=f"{inner.status} Inner"))
        return True

    with (
        Upstream(to_first) as bridge,
        TestPassthrough(tmp_path / "b", settings_of(bridge.url)) as second,
        Upstream(serving({})) as nowhere,
        TestPassthrough(tmp_path / "a", settings_of(nowhere.url)) as one,
    ):
        first.append(one)
        endpoint = Endpoint.upstream(second.url + "/passthrough/up")
        one.one.ground.client.endpoint = endpoint
        assert one.get("/x").status == 503
        assert len(via[0].split(",")) == 2
        assert one.count("requests") == 1
