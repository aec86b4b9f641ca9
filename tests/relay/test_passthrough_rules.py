"""The rules against an open proxy, each as what an attacker would try."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward.config.relay import PassthroughSettings
from fleetward.errors import ConfigurationError, NetworkError
from fleetward.httpd.message import RefusedRequestError
from fleetward.httpd.target import parse_target
from fleetward.relay.passthrough_rules import Rules, Wanted


def rules(upstream: str = "http://deb.example/debian", **settings: Any) -> Rules:  # noqa: ANN401
    merged: dict[str, Any] = {
        "name": "debian",
        "upstream": upstream,
        "paths": ("/dists/", "/pool/", "/README"),
        **settings,
    }
    return Rules.of(PassthroughSettings(**merged))


def asked(raw: str, **settings: Any) -> str | None:  # noqa: ANN401
    """The target that the upstream gets for a client's path; None where it gets nothing."""
    target = parse_target(raw.encode())
    wanted = rules(**settings).wanted(target.path, target.query)
    return wanted.target if wanted else None


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/dists/stable/Release", "/dists/stable/Release"),
        ("/README", "/README"),
        ("/dists/", "/dists/"),
        ("/pool/a/libstdc++_1%3a2.deb", "/pool/a/libstdc%2B%2B_1:2.deb"),
        ("/pool/a/libstdc%2b%2b_1%253a2.deb", "/pool/a/libstdc%2B%2B_1%253a2.deb"),
        ("/pool/a%20b/%C3%A4", "/pool/a%20b/%C3%A4"),
        ("/pool/%7Bguid%7D/x", "/pool/%7Bguid%7D/x"),
        ("/pool//x", "/pool/x"),
        ("/pool/./x", "/pool/x"),
        ("/pool/y/../x", "/pool/x"),
        ("/pool/a%3Fb%23c", "/pool/a%3Fb%23c"),
        ("/dists/x?y=1", "/dists/x"),
    ],
)
def test_what_may_be_asked(raw: str, target: str) -> None:
    assert asked(raw) == target


@pytest.mark.parametrize(
    "raw",
    [
        "/",
        "/private/x",
        "/dist",
        "/dists",
        "/distsx/y",
        "/README/x",
        "/READMEx",
        "/pool/../private/x",
        "/pool/%2e%2e/private/x",
        "/pool/%2e%2e%2fprivate/x",
        "/pool/..%2fprivate",
        "/DISTS/x",
    ],
)
def test_a_path_outside_the_list(raw: str) -> None:
    """The attacker wants what lies beside the listed folders, with every spelling of `..`."""
    assert asked(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        "/pool/%252e%252e/private",
        "/pool/%252e%252e%252fprivate",
        "/pool/..%5cprivate",
        "/pool/%255c..%255cprivate",
        "/pool/..;/private",
        "/pool/.;x/private",
        "/pool/..;a=b/private",
        "/pool/x%2500.deb",
    ],
)
def test_a_path_that_another_server_reads_otherwise(raw: str) -> None:
    r"""The upstream decodes twice, or knows `\` or `..;`: the attacker writes for it, not for us."""
    assert asked(raw) is None


@pytest.mark.parametrize("raw", ["/../x", "/pool/%", "/pool/%0d%0aX:y", "/pool/%00", "/pool/%ff"])
def test_what_is_no_path_at_all(raw: str) -> None:
    with pytest.raises(RefusedRequestError):
        asked(raw)


def test_a_query_by_rule() -> None:
    assert asked("/dists/x?a=%26&b", query="keep") == "/dists/x?a=%26&b"
    assert asked("/dists/x?", query="keep") == "/dists/x"
    first, second = Wanted("/x", "a"), Wanted("/x", "b")
    assert first.key != second.key
    assert rules().wanted("/dists/x", "a") == rules().wanted("/dists/x", "b")


def test_a_query_cannot_end_the_request_line() -> None:
    """The attacker smuggles a second request into the query."""
    kept = rules(query="keep")
    assert kept.wanted("/dists/x", "a HTTP/1.1\r\nX: y") is None
    assert kept.wanted("/dists/x", "\xff") is None


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.text(max_size=20))
def test_what_is_sent_is_what_was_compared(tail: str, query: str) -> None:
    """Whatever passes stays inside the list when it is read again, and is one plain line."""
    wanted = rules(query="keep").wanted("/pool/" + tail, query)
    if wanted is None or not tail.isprintable():
        return
    target = wanted.target
    assert target.isascii()
    assert " " not in target
    again = parse_target(target.encode())
    if all(part not in {"", ".", ".."} for part in tail.split("/")):
        assert again.path == wanted.path
        assert again.path.startswith("/pool/")


# -- redirects -------------------------------------------------------------------------------------

FROM = Wanted("/pool/a")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("b", "/pool/b"),
        ("/debian/pool/b", "/pool/b"),
        ("http://deb.example/debian/dists/x", "/dists/x"),
        ("http://DEB.example:80/debian/dists/x", "/dists/x"),
        ("//deb.example/debian/pool/b", "/pool/b"),
        ("../dists/x?sig=1", "/dists/x?sig=1"),
        ("?again=1", "/pool/a?again=1"),
    ],
)
def test_a_redirect_inside(location: str, target: str) -> None:
    assert rules().redirected(FROM, location.encode()).target == target


@pytest.mark.parametrize(
    "location",
    [
        "http://evil.example/debian/pool/b",
        "https://deb.example/debian/pool/b",
        "http://deb.example:8080/debian/pool/b",
        "http://deb.example./debian/pool/b",
        "http://127.0.0.1/debian/pool/b",
        "http://169.254.169.254/latest/meta-data/",
        "//evil.example/debian/pool/b",
        "http://deb.example@evil.example/debian/pool/b",
        "http://evil@deb.example/debian/pool/b",
        "http:\\\\evil.example/debian/pool/b",
        "/\\evil.example/debian/pool/b",
        "file:///etc/passwd",
        "gopher://deb.example/debian/pool/b",
        "/pool/b",
        "/debian",
        "/debian/private/x",
        "/debian/pool/../private/x",
        "/debian/pool/%2e%2e/private/x",
        "/debian/pool/..;/private/x",
        "/../../x",
        "/debian/pool/%",
        "http://[::1/x",
        "http://deb.example:99999/debian/pool/b",
        "http://deb.example:x/debian/pool/b",
        "",
        " /debian/pool/b",
        "/debian/pool/b\r\nX: y",
        "/debian/pool/ä",
        "/debian/pool/" + "x" * 3000,
    ],
)
def test_a_redirect_out_of_the_list(location: str) -> None:
    """The upstream, or who sits on the way to it, sends the relay to a place of his choice."""
    with pytest.raises(NetworkError, match="outside"):
        rules().redirected(FROM, location.encode("latin-1", "replace"))


def test_redirects_can_be_off() -> None:
    with pytest.raises(NetworkError, match="follow_redirects"):
        rules(follow_redirects=False).redirected(FROM, b"b")


# -- settings --------------------------------------------------------------------------------------


def test_an_upstream_without_a_path() -> None:
    plain = rules("http://clam.example/", paths=("/",))
    assert plain.wanted("/daily.cvd", "") == Wanted("/daily.cvd")
    assert plain.redirected(Wanted("/a"), b"/b") == Wanted("/b")


@pytest.mark.parametrize(
    ("upstream", "authorities"),
    [
        ("http://deb.example", ["http://deb.example", "http://deb.example:80"]),
        ("http://Deb.example:80/x", ["http://deb.example", "http://deb.example:80"]),
        ("http://deb.example:8014", ["http://deb.example:8014"]),
        ("https://deb.example", ["https://deb.example", "https://deb.example:443"]),
        ("http://[2001:db8::1]:8080", ["http://[2001:db8::1]:8080"]),
    ],
)
def test_the_spellings_of_an_authority(upstream: str, authorities: list[str]) -> None:
    assert list(rules(upstream).authorities()) == authorities


@pytest.mark.parametrize(
    "upstream",
    [
        "ftp://deb.example",
        "http://user@deb.example/",
        "http://deb.example/?q",
        "http://deb.example/a/../b",
        "http://deb.example/a//b",
        "http://deb.example/a%2fb",
        "http://deb.example/a;b",
        "deb.example",
        "",
    ],
)
def test_an_upstream_that_is_refused(upstream: str) -> None:
    with pytest.raises(ConfigurationError):
        rules(upstream)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "Debian"},
        {"paths": ("dists",)},
        {"paths": ("/a//b",)},
        {"paths": ("/a/../b/",)},
        {"paths": ("/a%2f",)},
        {"immutable": ("pool/",)},
        {"mount": "content"},
        {"mount": "/content"},
        {"mount": "/"},
        {"mount": "/v1/"},
        {"mount": "/mirror/x/"},
        {"mount": "/metadata/"},
        {"query": "sometimes"},
        {"max_file": 0},
        {"max_file": 2, "quota": 1},
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        rules(**wrong)
