"""How a host's words reach the console: by a relay, or directly; by TCP, or by one datagram.

A carrier is a base URL: a source of the host's settings (a relay, or an origin that carries
nothing and says 404), or the console itself. The first that takes it has it. Nothing that a
carrier answers is believed here: what matters is signed by the console.

Deliberately not here: what is sent (agent.checkins, agent.enrolling), the order of relays
(core.sourcechoice).
"""

import contextlib
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from fleetward.adapters.http import HttpSession
from fleetward.core.limits import STATUS
from fleetward.errors import NetworkError, TrustError

DEADLINE: Final = timedelta(seconds=30)
"""For one exchange of status (slow retrieval)."""

RELAY_PORT: Final = 2967
"""Where relays hear datagrams unless their URL names another port."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Taken:
    """What a carrier answered.

    Attributes:
        carrier: its base URL.
        status: 200, 202 or 204.
        body: at most what was allowed.
    """

    carrier: str
    status: int
    body: bytes


def carriers(preferred: Iterable[str | None], sources: Iterable[str], console: str) -> list[str]:
    """Return who may carry, the likeliest first: who did it last, the sources, the console."""
    wanted = [url for url in preferred if url is not None]
    return list(dict.fromkeys([*wanted, *sources, console]))


def bring(
    session: HttpSession, urls: Iterable[str], path: str, content: bytes, media_type: str
) -> Taken:
    """Bring `content` to the first of `urls` that takes it.

    Raises:
        NetworkError: none did; the last one's reason.
    """

    def post(url: str) -> Taken:
        with session.post(
            url + path,
            content,
            media_type=media_type,
            max_bytes=STATUS.enrolment_bytes,
            deadline=DEADLINE,
        ) as answer:
            return Taken(url, answer.status, answer.read())

    return first(urls, post)


def fetch(session: HttpSession, url: str, target: str) -> bytes | None:
    """Return what the console has signed, from one carrier; None where there is nothing new.

    Raises:
        NetworkError: it could not be had there.
    """
    with session.get(
        url + target, max_bytes=STATUS.inbox_bytes, deadline=DEADLINE, fresh=True
    ) as answer:
        body = answer.read()
        return body if answer.status == 200 else None


def first(urls: Iterable[str], attempt: Callable[[str], _Answer]) -> _Answer:
    """Return what `attempt` gives for the first URL where it does not fail.

    Raises:
        NetworkError, TrustError: it failed everywhere; the last one's reason.
    """
    problem: NetworkError | TrustError = NetworkError("there is nobody to carry it to the console")
    for url in urls:
        try:
            return attempt(url)
        except (NetworkError, TrustError) as error:
            problem = error
    raise problem


def send_datagram(url: str, datagram: bytes) -> bool:
    """Send one datagram to the relay at `url`; return whether this machine could send it.

    From a connected socket, so that the host listens on nothing. That it was sent says nothing of
    whether it arrived: the next check-in that goes by TCP shows what is missing.

    Args:
        url: the relay's base URL; the datagram goes to the same port, by UDP.
        datagram: at most `STATUS.datagram_bytes`.
    """
    parts = urlsplit(url)
    port = parts.port or RELAY_PORT
    with contextlib.suppress(OSError):
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)
        for family, kind, protocol, _, address in found:
            with contextlib.suppress(OSError), socket.socket(family, kind, protocol) as sender:
                sender.settimeout(0)
                sender.connect(address)
                return sender.send(datagram) == len(datagram)
    return False
