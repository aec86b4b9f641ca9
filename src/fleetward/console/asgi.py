"""The ASGI application: mounts first, then Django; background work for as long as it lives."""

import asyncio
import logging
from collections.abc import Mapping

from fleetward.console.bodies import LimitedBodies, Message, Receive, Send
from fleetward.console.parts import AsgiApplication, Background, parts

_log = logging.getLogger(__name__)


class Application:
    """What uvicorn serves.

    Invariants: a path below a mount never reaches Django; background work ends with the server.
    """

    def __init__(
        self,
        django: AsgiApplication,
        mounts: Mapping[str, AsgiApplication],
        background: tuple[Background, ...],
    ) -> None:
        self._django = django
        self._mounts = mounts
        self._background = background
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        for prefix, application in self._mounts.items():
            if scope["path"] == prefix or scope["path"].startswith(f"{prefix}/"):
                await application(scope, receive, send)
                return
        await self._django(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._tasks = [asyncio.create_task(_watched(work)) for work in self._background]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await send({"type": "lifespan.shutdown.complete"})


async def _watched(work: Background) -> None:
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except Exception:  # noqa: BLE001 (whatever it was: the server goes on, and the log says it)
        _log.exception("background work %s ended", work)


def application() -> Application:
    """Return the application with all parts; only once Django is set up."""
    from django.core.handlers.asgi import ASGIHandler  # noqa: PLC0415 (reads settings when imported)

    mounts: dict[str, AsgiApplication] = {}
    background: list[Background] = []
    for part in parts():
        mounts |= {prefix: make() for prefix, make in part.mounts.items()}
        background.extend(part.background)
    return Application(LimitedBodies(ASGIHandler()), mounts, tuple(background))
