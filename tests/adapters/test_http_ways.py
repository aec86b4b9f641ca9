"""The ways that the HTTP adapter takes: through proxies, and by TLS with a private authority."""

import ipaddress
import ssl
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleetward.adapters.http import HttpSession, HttpSettings
from fleetward.adapters.proxies import Proxies
from fleetward.errors import ConfigurationError, NetworkError
from support.fakes import FakeClock
from support.sourceserver import Exchange, SourceServer, gives, source_server

CONTENT = b"content"


@pytest.fixture
def session() -> Iterator[HttpSession]:
    made = HttpSession(FakeClock())
    yield made
    made.close()


def read(session: HttpSession, url: str) -> bytes:
    with session.get(url, max_bytes=len(CONTENT)) as answer:
        return answer.read()


class TestProxies:
    def test_a_proxy_carries_http(self) -> None:
        with source_server({"http://far.example/file": CONTENT}) as proxy:
            session = HttpSession(FakeClock(), HttpSettings(proxies=Proxies.every(proxy.url)))
            assert read(session, "http://far.example/file") == CONTENT
            session.close()

    def test_a_proxy_is_asked_to_connect_for_https(self) -> None:
        with source_server({}) as proxy:
            proxy.scripts["far.example:443"] = gives(b"", 502)
            session = HttpSession(FakeClock(), HttpSettings(proxies=Proxies.every(proxy.url)))
            with pytest.raises(NetworkError, match="look at the proxy setting"):
                read(session, "https://far.example/file")
            assert proxy.asked == ["far.example:443"]
            session.close()

    @pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://[", "127.0.0.1:3128"])
    def test_what_is_no_proxy(self, url: str) -> None:
        session = HttpSession(FakeClock(), HttpSettings(proxies=Proxies.every(url)))
        with pytest.raises(ConfigurationError, match="proxy"):
            read(session, "http://far.example/file")

    def test_a_proxy_that_asks_for_a_password(self) -> None:
        seen: list[str | None] = []

        def script(exchange: Exchange) -> None:
            seen.append(exchange.headers.get("proxy-authorization"))
            exchange.usual()

        with source_server({"http://far.example/file": CONTENT}) as proxy:
            proxy.scripts["http://far.example/file"] = script
            url = proxy.url.replace("//", "//user:p%40ss@")
            session = HttpSession(FakeClock(), HttpSettings(proxies=Proxies.every(url)))
            assert read(session, "http://far.example/file") == CONTENT
            session.close()
        assert seen == ["Basic dXNlcjpwQHNz"]

    def test_a_password_is_not_told(self) -> None:
        proxies = Proxies.every("socks5://user:secret@127.0.0.1:1")
        session = HttpSession(FakeClock(), HttpSettings(proxies=proxies))
        with pytest.raises(ConfigurationError) as caught:
            read(session, "http://far.example/file")
        assert "secret" not in str(caught.value)

    def test_the_environment(self) -> None:
        proxies = Proxies.from_environment(
            {
                "HTTP_PROXY": "http://set-by-a-client:1",
                "HTTPS_PROXY": "http://upper:1",
                "all_proxy": "http://all:1",
                "no_proxy": "localhost, .inside.example,10.0.0.0/8,",
                "Mixed_Proxy": "x",
            }
        )
        assert proxies == Proxies(
            "http://all:1", "http://upper:1", ("localhost", ".inside.example", "10.0.0.0/8")
        )
        assert Proxies.from_environment({}) == Proxies()

    @pytest.mark.parametrize(
        ("host", "is_direct"),
        [
            ("localhost", True),
            ("a.inside.example", True),
            ("inside.example", True),
            ("outside.example", False),
            ("notinside.example", False),
            ("10.200.0.1", True),
            ("11.0.0.1", False),
        ],
    )
    def test_what_goes_direct(self, host: str, is_direct: bool) -> None:  # noqa: FBT001
        bypass = ("LOCALHOST", "*.inside.example", "10.0.0.0/8")
        proxies = Proxies("http://p:1", "http://p:2", bypass)
        assert proxies.of("http", host) == (None if is_direct else "http://p:1")
        assert proxies.of("https", host) == (None if is_direct else "http://p:2")

    def test_everything_may_go_direct(self) -> None:
        assert Proxies("http://p:1", bypass=("*",)).of("http", "x.example") is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private authority")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


class TestTls:
    @pytest.fixture
    def secure(self, certificate: Path) -> Generator[SourceServer]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with source_server({"file": CONTENT}, context) as server:
            yield server

    def test_a_private_authority(self, secure: SourceServer, certificate: Path) -> None:
        session = HttpSession(FakeClock(), HttpSettings(ca_bundle=certificate))
        for _ in range(2):
            assert read(session, f"{secure.url}/file") == CONTENT
        assert secure.connections == 1
        session.close()

    def test_an_authority_that_nobody_named(
        self, secure: SourceServer, session: HttpSession
    ) -> None:
        with pytest.raises(NetworkError, match="certificate does not verify"):
            read(session, f"{secure.url}/file")

    @pytest.mark.parametrize("content", [None, b"no certificate"])
    def test_a_bundle_that_is_none(self, tmp_path: Path, content: bytes | None) -> None:
        bundle = tmp_path / "bundle.pem"
        if content is not None:
            bundle.write_bytes(content)
        session = HttpSession(FakeClock(), HttpSettings(ca_bundle=bundle))
        with pytest.raises(ConfigurationError, match="CA bundle"):
            read(session, "https://127.0.0.1:1/file")
