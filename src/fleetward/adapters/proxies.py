"""Which proxy carries a request."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxy carries requests; the default is none.

    Attributes:
        http: the URL of the proxy for `http:` URLs.
        https: the URL of the proxy for `https:` URLs, reached by CONNECT.
        bypass: hosts, domain suffixes (`.example`) and networks (`10.0.0.0/8`) reached directly;
            `*` is every host.
    """

    http: str | None = None
    https: str | None = None
    bypass: tuple[str, ...] = ()

    @classmethod
    def every(cls, url: str) -> "Proxies":
        """Return settings that send everything through the proxy at `url`."""
        return cls(http=url, https=url)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Proxies":
        """Return what http_proxy, https_proxy, all_proxy and no_proxy say.

        The name `HTTP_PROXY` in capitals is passed over: a CGI program gets it from the client.
        """
        lower = {name: value for name, value in environment.items() if name.islower() and value}
        upper = {n.lower(): v for n, v in environment.items() if n.isupper() and v}
        upper.pop("http_proxy", None)
        known = {**upper, **lower}
        everything = known.get("all_proxy")
        return cls(
            http=known.get("http_proxy", everything),
            https=known.get("https_proxy", everything),
            bypass=tuple(part.strip() for part in known.get("no_proxy", "").split(",") if part),
        )

    def of(self, scheme: str, host: str) -> str | None:
        """Return the proxy's URL for a request to `host`, or None."""
        proxy = self.https if scheme == "https" else self.http
        return None if proxy is None or any(_covers(p, host) for p in self.bypass) else proxy


def _covers(pattern: str, host: str) -> bool:
    if pattern == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        suffix = pattern.lstrip("*").lstrip(".").lower()
        return host.lower() == suffix or host.lower().endswith(f".{suffix}")
