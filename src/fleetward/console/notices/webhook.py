"""Webhooks: a signed POST of JSON to an address that is allowed.

The signature, in the header `Fleetward-Signature`, is `t=SECONDS,v1=HEX`: HMAC-SHA256, keyed with
the channel's secret, over `SECONDS`, a dot, and the body. The receiver refuses old `t`.

Invariants: a name is resolved once, every address that it gives is judged, and the connection goes
to the one that was judged (DNS rebinding); no redirect is followed; an answer's body is not read.
Private, loopback and link-local addresses are refused unless the settings allow them, since a
console reaches what its users do not (server-side request forgery). Where a proxy is set, the proxy
is the judge of addresses.
"""

import base64
import hashlib
import hmac
import ipaddress
import socket
import ssl
from datetime import datetime
from urllib.parse import urlsplit

import urllib3
from django.utils.crypto import salted_hmac

from fleetward.config.console import NoticeSettings

SECONDS = 10.0
"""How long a receiver may take (slow retrieval)."""


class NotSent(Exception):  # noqa: N818 (an outcome)
    """A notice did not get through; its sentence says why."""


def secret_of(name: str) -> str:
    """Return the secret of a webhook, derived from its name and the console's secret key.

    So whoever reads the database, or a backup of it, can sign nothing; the key lies in a file.

    Args:
        name: of the secret: `Channel.secret`.
    """
    made = salted_hmac("fleetward.webhook/1", name, algorithm="sha256").digest()
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def signature(secret: str, at: datetime, body: bytes) -> str:
    """Return the header's value for a body sent at `at`."""
    seconds = str(int(at.timestamp()))
    code = hmac.new(secret.encode(), seconds.encode() + b"." + body, hashlib.sha256)
    return f"t={seconds},v1={code.hexdigest()}"


def allowed_address(host: str, port: int, settings: NoticeSettings) -> str:
    """Return the address to connect to.

    Raises:
        NotSent: the name has no address, or one that is not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSent(f"{host} has no address: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:
        if not settings.allow_private and not _is_public(address):
            raise NotSent(
                f"{host} is {address}, which is not a public address; allow_private in [notices]"
            )
    return addresses[0]


def _is_public(address: str) -> bool:
    judged = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(judged, "ipv4_mapped", None)
    return (mapped or judged).is_global and not judged.is_multicast


def post(url: str, body: bytes, headers: dict[str, str], settings: NoticeSettings) -> None:
    """Send a body.

    Raises:
        NotSent: the address is not allowed, nobody answered, or not with 2xx.
    """
    parts = urlsplit(url)
    sent = {"Content-Type": "application/json", "User-Agent": "fleetward-console", **headers}
    try:
        pool, target = _pool(url, settings)
        with pool:
            answer = pool.request(
                "POST",
                target,
                body=body,
                headers=sent | {"Host": parts.netloc.rpartition("@")[2]},
                redirect=False,
                retries=False,
                timeout=SECONDS,
                preload_content=False,
            )
            answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise NotSent(f"{parts.hostname}: {error}"[:300]) from error
    if not 200 <= answer.status < 300:
        raise NotSent(f"{parts.hostname} answered {answer.status}")


def _pool(
    url: str, settings: NoticeSettings
) -> tuple[urllib3.PoolManager | urllib3.HTTPConnectionPool, str]:
    """Return what to ask, and what to ask it for."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    bundle = str(settings.ca_bundle) if settings.ca_bundle else None
    if settings.proxy:
        return urllib3.ProxyManager(settings.proxy, ca_certs=bundle), url
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "http":
        port = parts.port or 80
        return urllib3.HTTPConnectionPool(allowed_address(host, port, settings), port), target
    port = parts.port or 443
    pool = urllib3.HTTPSConnectionPool(
        allowed_address(host, port, settings),
        port,
        server_hostname=host,
        assert_hostname=host,
        ssl_context=ssl.create_default_context(cafile=bundle),
    )
    return pool, target
