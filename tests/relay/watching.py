"""Origins and relays whose long polls tests wait in, and the clients that wait."""

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from fleetward.config.relay import PushSettings
from fleetward.httpd.background import LoopThread
from fleetward.httpd.limits import ServerLimits
from fleetward.origin.serving import Origin
from fleetward.relay.settings import PushLimits, RelaySettings
from httpd.rawhttp import DEADLINE, Raw
from httpd.sample_repository import write
from httpd.waiting import wait_until
from relay.relays import SERVER_LIMITS, TestRelay, settings_for
from support.timestamps import timestamp

STAMP = "/metadata/timestamp.json"
NEVER = timedelta(hours=1)

WATCHING = PushSettings(watch=True, poll=NEVER, udp=False, announce=False)
"""A relay that hears by its long poll alone."""

LIMITS = PushLimits(
    first_pause=timedelta(milliseconds=1),
    hint_interval=timedelta(milliseconds=50),
    max_hint_interval=timedelta(milliseconds=200),
    announce_interval=timedelta(milliseconds=1),
)


def watching(
    cache: Path,
    *upstreams: str,
    push: PushSettings = WATCHING,
    push_limits: PushLimits = LIMITS,
    **limits: Any,  # noqa: ANN401
) -> RelaySettings:
    """Settings of a relay that watches; `limits` replaces some of its other limits."""
    made = settings_for(cache, *upstreams, **limits)
    return replace(made, push=push, push_limits=push_limits)


class TestOrigin(LoopThread):
    """An origin in a thread, over a folder that the test writes."""

    __test__ = False

    def __init__(
        self,
        folder: Path,
        limits: ServerLimits = SERVER_LIMITS,
        announce: tuple[tuple[str, int], ...] = (),
        port: int = 0,
    ) -> None:
        async def run(ready: Callable[[str], None], stop: Any) -> None:  # noqa: ANN401
            self.origin = Origin(folder, ("127.0.0.1", port), announce, limits)
            await self.origin.run(ready=ready, stop=stop)

        self.folder = folder
        super().__init__(run)

    def publish(self, version: int) -> bytes:
        content = timestamp(version)
        write(self.folder, STAMP, content)
        return content

    @property
    def waiting(self) -> int:
        return self.origin.watchers.waiting


class Served(Protocol):
    """What the contract of `/v1/watch` is tested on."""

    url: str

    @property
    def waiting(self) -> int: ...

    def publish(self, version: int) -> bytes: ...

    def stop(self) -> None: ...


class WatchedRelay(TestRelay):
    """A relay with an origin of its own."""

    def __init__(self, settings: RelaySettings, origin: TestOrigin) -> None:
        self._origin = origin
        super().__init__(settings)

    def publish(self, version: int) -> bytes:
        return self._origin.publish(version)

    @property
    def waiting(self) -> int:
        waiting: int = self.status()["watchers"]["waiting"]
        return waiting


@contextmanager
def origin_served(folder: Path, limits: ServerLimits = SERVER_LIMITS) -> Iterator[Served]:
    write(folder, STAMP, timestamp(1))
    with TestOrigin(folder, limits) as origin:
        yield origin


@contextmanager
def relay_served(folder: Path, limits: ServerLimits = SERVER_LIMITS) -> Iterator[Served]:
    with ExitStack() as stack:
        write(folder / "repository", STAMP, timestamp(1))
        origin = stack.enter_context(TestOrigin(folder / "repository"))
        settings = replace(watching(folder / "cache", origin.url), server_limits=limits)
        relay = stack.enter_context(WatchedRelay(settings, origin))
        wait_until(lambda: relay.relay.handler._timestamp.version == 1)
        yield relay


class Waiter(Raw):
    """A client in a long poll."""

    def __init__(self, url: str, after: int) -> None:
        super().__init__(url)
        self.wait(after)

    def wait(self, after: int) -> None:
        self.send(f"GET /v1/watch?after={after} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    @property
    def is_waiting(self) -> bool:
        return not select.select([self.socket], [], [], 0)[0]


def udp_port(relay: TestRelay) -> int:
    """The port that a relay receives datagrams on, once it does."""
    wait_until(lambda: relay.status()["datagrams"]["port"] > 0)
    port: int = relay.status()["datagrams"]["port"]
    return port


@contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[socket.socket]:
    """A UDP socket on loopback that fails rather than hangs."""
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        receiver.settimeout(DEADLINE)
        yield receiver
