"""A server with passthroughs alone, for tests: in a thread, with short limits."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fleetward.config.relay import PassthroughSettings
from fleetward.httpd.background import LoopThread
from fleetward.httpd.limits import ClientLimits
from fleetward.httpd.message import NOT_FOUND, Answer, Request, Response
from fleetward.httpd.server import Server
from fleetward.relay.handler import Router
from fleetward.relay.loops import Loops
from fleetward.relay.passthrough import Passthrough
from fleetward.relay.passthrough_ground import PassthroughLimits
from fleetward.relay.passthrough_part import Network, PassthroughPart, Place
from httpd.rawhttp import Answer as Got
from httpd.rawhttp import get
from relay.relays import SERVER_LIMITS
from support.fakes import FakeClock

LIMITS = PassthroughLimits(
    patience=timedelta(seconds=10),
    min_revalidate=timedelta(seconds=2),
    absent_lifetime=timedelta(seconds=30),
    failure_pause=timedelta(0),
    wake_interval=timedelta(milliseconds=1),
)


def settings_of(upstream: str, **changes: Any) -> PassthroughSettings:  # noqa: ANN401
    plain: dict[str, Any] = {"name": "up", "upstream": upstream, "allow_private": True}
    return PassthroughSettings(**{**plain, **changes})


class _Routes:
    """A handler of routes, as `relay.handler` has it, without a repository."""

    def __init__(self, part: PassthroughPart, loops: Loops) -> None:
        self._router = Router(part.routes())
        self._loops = loops

    def max_body(self, method: str, path: str) -> int:
        return 0

    def answer(self, request: Request) -> Answer:
        if b"via" in request.headers:
            return self._loops.answer(request, self._answer)
        return self._answer(request)

    def _answer(self, request: Request) -> Answer:
        route = self._router.find(request.path, request.authority)
        if route is None:
            return NOT_FOUND
        return Response(405) if request.method not in route.methods else route.answer(request)


class TestPassthrough(LoopThread):
    """One passthrough, `up`, whose inside a test may look at."""

    __test__ = False

    def __init__(
        self,
        cache: Path,
        settings: PassthroughSettings,
        *,
        client: ClientLimits | None = None,
        min_free: int = 0,
        **limits: Any,  # noqa: ANN401
    ) -> None:
        self.clock = FakeClock()

        async def run(ready: Callable[[str], None], stop: asyncio.Event) -> None:
            loops = Loops([])
            self.part = PassthroughPart(
                [settings],
                Place(cache, self.clock, min_free),
                Network(client or ClientLimits()),
                limits=replace(LIMITS, **limits),
                via=loops.headers,
            )
            server = Server(_Routes(self.part, loops), limits=SERVER_LIMITS)
            running = asyncio.create_task(self.part.run())
            ready(await server.start("127.0.0.1", 0))
            await stop.wait()
            await server.stop()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        super().__init__(run)

    @property
    def one(self) -> Passthrough:
        return self.part._passthroughs[0]

    def get(self, path: str, *headers: str, method: str = "GET") -> Got:
        return get(self.url, f"/passthrough/up{path}", *headers, method=method)

    def count(self, name: str) -> int:
        value: int = getattr(self.one.ground.counters, name)
        return value

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))
