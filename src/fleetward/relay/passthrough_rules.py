"""What of a passthrough's upstream may be asked for (pure): the rules against an open proxy.

A path is decoded and normalised once, by httpd.target; here it is compared with the allow-list and
written again for the upstream, so that what is asked is what was compared. A redirect is another
request and passes the same rules; it never leads to another scheme, host or port.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urljoin, urlsplit

from fleetward.config.relay import PassthroughSettings
from fleetward.errors import ConfigurationError, NetworkError
from fleetward.httpd.endpoint import Endpoint
from fleetward.httpd.message import RefusedRequestError
from fleetward.httpd.target import parse_target

PREFIX: Final = "/passthrough/"

_SAFE: Final = "/!$&'()*,;=:@-._~"
"""What stands unescaped in a path that we write: `+` is escaped, since some servers read a space."""

_DOUBTFUL: Final = re.compile(r"\\|%(?:2[eEfF]|5[cC]|00)|(?:^|/)\.{1,2};")
"""What a server that decodes twice, or knows `\\` or `..;`, would take for a way out of a folder."""

_PLAIN_QUERY: Final = re.compile(r"[!-~]*")
_PLAIN_LOCATION: Final = re.compile(rb"[!-~]{1,2048}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of the upstream that may be asked for; made by `Rules` alone.

    Attributes:
        path: under the upstream's base, decoded, absolute.
        query: not decoded; empty where it has none or is ignored.
    """

    path: str
    query: str = ""

    @property
    def target(self) -> str:
        """Return it as a request target under the upstream's base."""
        return quote(self.path, safe=_SAFE) + (f"?{self.query}" if self.query else "")

    @property
    def key(self) -> str:
        """Return the name under which it is kept: 64 hex digits."""
        return hashlib.sha256(self.target.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Rules:
    """The allow-list of one passthrough.

    Attributes:
        endpoint: the upstream.
        paths: folders, which end in `/`, and single files under its base.
        immutable: those that never change.
        keeps_query: whether a query is sent, and is part of the name.
        follows: whether redirects inside the list are followed.
    """

    endpoint: Endpoint
    paths: tuple[str, ...]
    immutable: tuple[str, ...] = ()
    keeps_query: bool = False
    follows: bool = True

    @classmethod
    def of(cls, settings: PassthroughSettings) -> Self:
        """Return the rules that the settings give.

        Raises:
            ConfigurationError: the upstream is no URL that can be compared with others.
        """
        endpoint = Endpoint.upstream(settings.upstream)
        segments = endpoint.base.split("/")[1:]
        if not all(segments) or {".", ".."} & set(segments) or set(endpoint.base) & set("%\\;"):
            raise ConfigurationError(
                f"the upstream {settings.upstream!r} of passthrough {settings.name}: write its "
                "path without '.', '..', '//', ';', backslashes and escapes"
            )
        return cls(
            endpoint,
            settings.paths,
            settings.immutable,
            settings.query == "keep",
            settings.follow_redirects,
        )

    def wanted(self, path: str, query: str) -> Wanted | None:
        """Return what a client asks for, or None where it may not.

        Args:
            path: under the upstream's base, decoded and normalised.
            query: as it came.
        """
        if not _is_under(path, self.paths) or _DOUBTFUL.search(path):
            return None
        if not self.keeps_query:
            return Wanted(path)
        return Wanted(path, query) if _PLAIN_QUERY.fullmatch(query) else None

    def is_immutable(self, wanted: Wanted) -> bool:
        """Return whether it never changes."""
        return _is_under(wanted.path, self.immutable)

    def redirected(self, asked: Wanted, location: bytes) -> Wanted:
        """Return where a redirect leads.

        Args:
            asked: what the upstream was asked for.
            location: the Location header.

        Raises:
            NetworkError: out of the allow-list, or redirects are not followed.
        """
        if not self.follows:
            raise NetworkError(f"{self.endpoint} redirects, and follow_redirects is off")
        found = self._inside(asked, location)
        if found is None:
            raise NetworkError(
                f"{self.endpoint} redirects {asked.target} to {location[:200]!r}, which is outside "
                "the passthrough: name that place as upstream if it is meant"
            )
        return found

    def _inside(self, asked: Wanted, location: bytes) -> Wanted | None:
        if not _PLAIN_LOCATION.fullmatch(location):
            return None
        try:
            url = urlsplit(urljoin(f"{self.endpoint}{asked.target}", location.decode("ascii")))
            here = urlsplit(str(self.endpoint))
            same_place = _place(url.scheme, url.hostname, url.port) == _place(
                here.scheme, here.hostname, here.port
            )
            raw = (url.path or "/") + (f"?{url.query}" if url.query else "")
            target = parse_target(raw.encode("ascii"))
        except (ValueError, RefusedRequestError):
            return None
        base = self.endpoint.base
        if not same_place or "@" in url.netloc or not target.path.startswith(base + "/"):
            return None
        path = target.path.removeprefix(base)
        if not _is_under(path, self.paths) or _DOUBTFUL.search(path):
            return None
        return Wanted(path, target.query)

    def authorities(self) -> Iterator[str]:
        """Yield the spellings of scheme, host and port in requests in absolute form."""
        scheme = "https" if self.endpoint.is_tls else "http"
        yield from sorted(
            {
                f"{scheme}://{self.endpoint.authority}".lower(),
                f"{scheme}://{self.endpoint.host_header}".lower(),
            }
        )


def _place(scheme: str, host: str | None, port: int | None) -> tuple[str, str | None, int | None]:
    usual = {"http": 80, "https": 443}.get(scheme)
    return scheme, host, usual if port is None else port


def _is_under(path: str, prefixes: tuple[str, ...]) -> bool:
    return any(
        path.startswith(prefix) if prefix.endswith("/") else path == prefix for prefix in prefixes
    )
