"""Certificates that are renewed while the server runs, and clients that show theirs."""

import asyncio
import logging
import shutil
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fleetward.errors import ConfigurationError
from fleetward.httpd.background import LoopThread, Ready, serve
from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.server import Server, Sockets
from fleetward.httpd.tls import REFRESH_INTERVAL, ClientCertificates, TlsFiles
from httpd.certificates import client_context, make_certificate
from httpd.handlers import Echo
from httpd.rawhttp import Raw
from httpd.waiting import wait_until
from support.fakes import FakeClock


class Renewed:
    """A folder with a certificate in use, and others to put in its place."""

    def __init__(self, folder: Path) -> None:
        self.cert = folder / "cert.pem"
        self.key = folder / "key.pem"
        self.issued: list[Path] = []
        self._folder = folder
        self.clock = FakeClock()
        self.issue()
        self.install(0)

    def issue(self) -> Path:
        """Make another pair, and return the client's trust in it."""
        folder = self._folder / str(len(self.issued))
        folder.mkdir()
        self.issued.append(make_certificate(folder))
        return self.issued[-1]

    def install(self, number: int) -> None:
        """Put both files in place, as a renewal does."""
        self.put(self.cert, self.issued[number])
        self.put(self.key, self.issued[number])

    def put(self, file: Path, content: Path) -> None:
        fresh = file.with_suffix(".new")
        shutil.copyfile(content, fresh)
        fresh.replace(file)

    def files(self) -> TlsFiles:
        return TlsFiles(self.cert, self.key, clock=self.clock)

    def wait(self) -> None:
        self.clock.advance(REFRESH_INTERVAL)


@pytest.fixture
def renewed(tmp_path: Path) -> Renewed:
    return Renewed(tmp_path)


@contextmanager
def served(files: TlsFiles, sockets: Sockets = Sockets.EPOLL) -> Iterator[str]:
    limits = ServerLimits(sweep_interval=timedelta(milliseconds=5))

    async def run(ready: Ready, stop: asyncio.Event) -> None:
        server = Server(Echo(), limits=limits, tls=files, sockets=sockets)
        await serve(server, "127.0.0.1", 0, ready=ready, stop=stop)

    with LoopThread(run) as thread:
        yield thread.url


def works(url: str, trusted: Path) -> bool:
    """Return whether a client that trusts this certificate is answered."""
    try:
        with Raw(url, tls=client_context(trusted)) as connection:
            return connection.get("/").status == 200
    except ssl.SSLCertVerificationError:
        return False


@pytest.mark.parametrize("sockets", Sockets)
def test_new_clients_get_the_renewed_certificate_and_old_ones_go_on(
    renewed: Renewed, sockets: Sockets
) -> None:
    """A renewal writes new files; nothing is restarted, and nobody is cut off."""
    old, new = renewed.issued[0], renewed.issue()
    with served(renewed.files(), sockets) as url, Raw(url, tls=client_context(old)) as running:
        assert running.get("/").status == 200
        assert not works(url, new)
        renewed.install(1)
        renewed.wait()
        wait_until(lambda: works(url, new))
        assert not works(url, old)
        assert running.get("/still").status == 200


def test_files_are_looked_at_every_few_seconds_only(renewed: Renewed) -> None:
    files = renewed.files()
    first = files.context
    renewed.issue()
    renewed.install(1)
    files.refresh()
    assert files.context is first
    renewed.wait()
    files.refresh()
    second = files.context
    assert second is not first
    renewed.wait()
    files.refresh()
    assert files.context is second


def test_a_renewal_half_done_changes_nothing_and_is_logged_once(
    renewed: Renewed, caplog: pytest.LogCaptureFixture
) -> None:
    """The certificate is new and the key still old; then the key comes."""
    renewed.issue()
    files = renewed.files()
    first = files.context
    renewed.put(renewed.cert, renewed.issued[1])
    cert_alone = renewed.cert.read_bytes()
    begin = cert_alone.index(b"-----BEGIN CERTIFICATE")
    renewed.cert.write_bytes(cert_alone[begin:])
    for _ in range(3):
        renewed.wait()
        with caplog.at_level(logging.INFO):
            files.refresh()
    assert files.context is first
    assert caplog.text.count("cannot be used together") == 1
    assert "the certificate read before stays in use" in caplog.text
    renewed.install(1)
    renewed.wait()
    with caplog.at_level(logging.INFO):
        files.refresh()
    assert files.context is not first
    assert "renewed certificate" in caplog.text


@pytest.mark.parametrize("damage", ["gone", "rubbish", "empty"])
def test_broken_files_keep_the_old_certificate(renewed: Renewed, damage: str) -> None:
    files = renewed.files()
    with served(files) as url:
        if damage == "gone":
            renewed.key.unlink()
        else:
            renewed.key.write_bytes(b"rubbish" if damage == "rubbish" else b"")
        renewed.wait()
        wait_until(lambda: files._looked == renewed.clock.monotonic())
        assert works(url, renewed.issued[0])


# -- at the start ------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_named_with_what_to_do(renewed: Renewed) -> None:
    missing = renewed.cert.with_name("missing.pem")
    with pytest.raises(ConfigurationError, match=r"cannot read .*missing.pem: No such file"):
        TlsFiles(missing, renewed.key)
    with pytest.raises(ConfigurationError, match="cannot read"):
        TlsFiles(renewed.cert, renewed.cert.parent / "none" / "key.pem")
    with pytest.raises(ConfigurationError, match="cannot read"):
        TlsFiles(renewed.cert, renewed.key, client_ca=missing)
    rubbish = renewed.cert.with_name("rubbish.pem")
    rubbish.write_bytes(b"no PEM")
    with pytest.raises(ConfigurationError, match="cannot be used together"):
        TlsFiles(rubbish, renewed.key)
    with pytest.raises(ConfigurationError, match="holds no certificates of client authorities"):
        TlsFiles(renewed.cert, renewed.key, client_ca=rubbish)


def test_a_key_of_another_certificate_is_refused(renewed: Renewed) -> None:
    with pytest.raises(ConfigurationError, match="belong to each other"):
        TlsFiles(renewed.cert, renewed.issue())


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(renewed: Renewed) -> None:
    key = load_pem_private_key(renewed.key.read_bytes(), None)
    renewed.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigurationError, match="without a passphrase"):
        renewed.files()


# -- what is spoken ----------------------------------------------------------------------------------


def test_nothing_older_than_tls_1_2_is_spoken(renewed: Renewed) -> None:
    assert renewed.files().context.minimum_version is ssl.TLSVersion.TLSv1_2
    client = client_context(renewed.issued[0])
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    client.set_ciphers("ALL:@SECLEVEL=0")
    with served(renewed.files()) as url, pytest.raises((ssl.SSLError, ConnectionResetError)):
        Raw(url, tls=client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken(renewed: Renewed, version: ssl.TLSVersion) -> None:
    client = client_context(renewed.issued[0])
    client.minimum_version = client.maximum_version = version
    with served(renewed.files()) as url, Raw(url, tls=client) as connection:
        for number in range(3):
            assert connection.get(f"/{number}").status == 200


def _asks(url: str, server: Path, own: Path | None) -> bool:
    client = client_context(server)
    if own is not None:
        client.load_cert_chain(own)
    try:
        with Raw(url, tls=client) as connection:
            return connection.get("/").status == 200
    except (ssl.SSLError, ConnectionError, EOFError):
        return False


def test_a_client_shows_a_certificate_of_the_sites_authority(renewed: Renewed) -> None:
    """With REQUIRED only the site's own come in; with OPTIONAL also those who show none."""
    server, own, foreign = renewed.issued[0], renewed.issue(), renewed.issue()
    for mode, without in (
        (ClientCertificates.REQUIRED, False),
        (ClientCertificates.OPTIONAL, True),
    ):
        files = TlsFiles(renewed.cert, renewed.key, own, mode)
        with served(files) as url:
            assert _asks(url, server, own)
            assert not _asks(url, server, foreign)
            assert _asks(url, server, None) is without
