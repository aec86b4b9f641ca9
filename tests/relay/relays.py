"""Relays for tests: in a thread, with short limits, and a herd of clients."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleetward.blobs.store import PruneStore
from fleetward.core.limits import KIB
from fleetward.httpd.background import LoopThread
from fleetward.httpd.limits import ClientLimits, ServerLimits
from fleetward.relay.server import Relay
from fleetward.relay.settings import RelayLimits, RelaySettings
from httpd.rawhttp import get

SHORT = timedelta(milliseconds=150)
LIMITS = RelayLimits(
    timestamp_lifetime=timedelta(seconds=30),
    absent_lifetime=timedelta(seconds=30),
    patience=timedelta(milliseconds=100),
    revalidate_interval=timedelta(0),
    held_back_bytes=16 * KIB,
    wake_interval=timedelta(milliseconds=1),
    failure_pause=timedelta(0),
    max_closure_documents=0,  # so that tests can count upstream requests; test_limits.py follows
)
PATIENT = ClientLimits()
IMPATIENT = ClientLimits(connect_timeout=SHORT, head_timeout=SHORT, read_timeout=SHORT)
"""For upstreams that stall on purpose; a busy machine must not look like one of them."""

SERVER_LIMITS = ServerLimits(
    stop_timeout=timedelta(milliseconds=300), sweep_interval=timedelta(milliseconds=10)
)


def settings_for(
    cache: Path,
    *upstreams: str,
    client: ClientLimits = PATIENT,
    **limits: Any,  # noqa: ANN401
) -> RelaySettings:
    """Settings with short limits; `limits` replaces some of the relay's own."""
    return RelaySettings(
        upstreams=upstreams,
        cache=cache,
        port=0,
        limits=replace(LIMITS, **limits),
        server_limits=SERVER_LIMITS,
        client_limits=client,
    )


class TestRelay(LoopThread):
    """A relay in a thread, whose inside a test may look at."""

    __test__ = False

    def __init__(self, settings: RelaySettings, store: PruneStore | None = None) -> None:
        async def run(ready: Callable[[str], None], stop: Any) -> None:  # noqa: ANN401
            self.relay = Relay(settings, store=store)
            await self.relay.run(ready=ready, stop=stop)

        super().__init__(run)

    def status(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(get(self.url, "/v1/relay").body)
        return document


def start(cache: Path, *upstreams: str, **limits: Any) -> TestRelay:  # noqa: ANN401
    return TestRelay(settings_for(cache, *upstreams, **limits))


class Herd:
    """Many clients that ask at once; each notes what it got, or that it was cut."""

    def __init__(self, count: int, ask: Callable[[], bytes]) -> None:
        self.got: list[bytes] = []
        self.cut = 0
        self._lock = threading.Lock()
        self._ask = ask
        self._threads = [threading.Thread(target=self._one) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _one(self) -> None:
        try:
            body = self._ask()
        except (EOFError, OSError):
            with self._lock:
                self.cut += 1
        else:
            with self._lock:
                self.got.append(body)

    def join(self) -> "Herd":
        for thread in self._threads:
            thread.join()
        return self
