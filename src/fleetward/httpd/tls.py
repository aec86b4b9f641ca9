"""TLS for a server: certificate and key from PEM files, read again when they are renewed.

A renewal writes new files under the same names; the server looks at them every few seconds and
gives new clients the new certificate, while running connections go on with the old one. Files
that are broken or do not belong together (a renewal half done) change nothing, and the log says
what to do. TLS 1.2 is the oldest version spoken.

Clients may be asked for certificates of their own (`ClientCertificates`): a site's authority then
says who may connect at all. What a host is told still rests on signatures alone.

Deliberately not here: getting certificates, and revocation lists.
"""

import enum
import logging
import os
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from fleetward.adapters.clock import Clock, SystemClock
from fleetward.errors import ConfigurationError

_LOG = logging.getLogger(__name__)
REFRESH_INTERVAL: Final = timedelta(seconds=5)
"""How often the files are looked at, at most."""

_Identity = tuple[tuple[int, int, int, int], ...]


class ClientCertificates(enum.Enum):
    """Whether clients show certificates of the client authority."""

    REQUIRED = "required"
    OPTIONAL = "optional"


class TlsFiles:
    """A server's certificate, its key, and whom it lets in.

    Attributes:
        context: what new clients shake hands with; another one after a renewal.
    """

    def __init__(
        self,
        cert: Path,
        key: Path,
        client_ca: Path | None = None,
        client_certificates: ClientCertificates = ClientCertificates.REQUIRED,
        *,
        clock: Clock | None = None,
    ) -> None:
        """Read the files.

        Args:
            cert: PEM: the server's certificate, then those between it and its authority.
            key: PEM, without a passphrase.
            client_ca: PEM: the authorities of clients; None asks clients for nothing.
            client_certificates: whether a client without a certificate is let in.
            clock: tells when to look at the files again.

        Raises:
            ConfigurationError: a file cannot be read, is no PEM, or key and certificate do not
                belong together.
        """
        self._cert = cert
        self._key = key
        self._client_ca = client_ca
        self._client_certificates = client_certificates
        self._clock = clock or SystemClock()
        self._seen = self._identity()
        self._looked = self._clock.monotonic()
        self.context = self._read()
        self.context.sni_callback = self._renewed

    def _renewed(self, shaking: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        """Give a client the newest certificate, where a server holds the first context."""
        if first is not self.context:
            shaking.context = self.context

    def refresh(self) -> None:
        """Read the files again where they changed; to be called often, looks every few seconds."""
        now = self._clock.monotonic()
        if now - self._looked < REFRESH_INTERVAL:
            return
        self._looked = now
        found = self._identity()
        if found == self._seen:
            return
        self._seen = found
        try:
            self.context = self._read()
        except ConfigurationError as error:
            _LOG.error("%s; until then the certificate read before stays in use", error)
        else:
            _LOG.info("new clients get the renewed certificate of %s", self._cert)

    def _identity(self) -> _Identity:
        """Return what changes when a file is replaced or written to."""
        files = [self._cert, self._key, *([self._client_ca] if self._client_ca else [])]
        return tuple(_identity_of(file) for file in files)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.num_tickets = 0  # hosts do not resume, and each ticket costs time and memory
        for file in (self._cert, self._key):
            _must_be_readable(file)
        _loaded(
            lambda: context.load_cert_chain(self._cert, self._key, password=_no_passphrase),
            f"the certificate {self._cert} and the key {self._key} cannot be used together: give "
            "PEM files that belong to each other, the key without a passphrase",
        )
        if self._client_ca is not None:
            authority = self._client_ca
            _must_be_readable(authority)
            _loaded(
                lambda: context.load_verify_locations(authority),
                f"{authority} holds no certificates of client authorities: give a PEM file",
            )
            required = self._client_certificates is ClientCertificates.REQUIRED
            context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        return context


def _identity_of(file: Path) -> tuple[int, int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0, 0, 0)
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _must_be_readable(file: Path) -> None:
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}; give a file that this user may read"
        ) from error


def _loaded(load: Callable[[], None], sentence: str) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{sentence} ({error})") from error


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")
