"""Where an upstream is: its URL, parsed once."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote, urlsplit

from fleetward.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An HTTP server, and the path under which it has what we ask for.

    Attributes:
        host: name or address, without brackets.
        port: TCP.
        is_tls: https.
        base: path prefix, without a slash at its end.
        authorization: value for Proxy-Authorization, from the URL; empty without one.
    """

    host: str
    port: int
    is_tls: bool
    base: str = ""
    authorization: str = ""

    @classmethod
    def upstream(cls, url: str) -> Self:
        """Return the endpoint of an upstream's URL.

        Raises:
            ConfigurationError: not http or https, no host, or with user, query or fragment.
        """
        endpoint = cls._parse(url)
        if endpoint.authorization:
            raise ConfigurationError(f"the upstream {url!r} has a user in it: leave it away")
        return endpoint

    @classmethod
    def proxy(cls, url: str) -> Self:
        """Return the endpoint of an HTTP proxy's URL, which may have user and password.

        Raises:
            ConfigurationError: not http, no host, or with path, query or fragment.
        """
        endpoint = cls._parse(url)
        if endpoint.is_tls or endpoint.base:
            raise ConfigurationError(f"the proxy {url!r} must be http://HOST:PORT")
        return endpoint

    @classmethod
    def _parse(cls, url: str) -> Self:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"{url!r} is no URL: {error}") from error
        printable = url.isascii() and url.isprintable() and " " not in url
        if parts.scheme not in _PORTS or not parts.hostname or not printable:
            raise ConfigurationError(f"{url!r} is no URL: use http://HOST:PORT or https://HOST")
        if parts.query or parts.fragment:
            raise ConfigurationError(f"the URL {url!r} may have no query and no fragment")
        authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = "Basic " + b64encode(pair.encode()).decode("ascii")
        return cls(
            host=parts.hostname,
            port=port if port is not None else _PORTS[parts.scheme],
            is_tls=parts.scheme == "https",
            base=parts.path.rstrip("/"),
            authorization=authorization,
        )

    @property
    def authority(self) -> str:
        """Return host and port as CONNECT wants them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> str:
        """Return the Host header's value: the port only where it is not the scheme's own."""
        usual = _PORTS["https" if self.is_tls else "http"]
        return self.authority.rsplit(":", 1)[0] if self.port == usual else self.authority

    def __str__(self) -> str:
        """Return the URL, without what is secret in it."""
        return f"{'https' if self.is_tls else 'http'}://{self.host_header}{self.base}"
