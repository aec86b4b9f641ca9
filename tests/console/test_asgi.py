"""The ASGI application: mounts before Django, and background work as long as the server lives."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from fleetward.console.asgi import Application
from fleetward.console.bodies import Receive, Send

Message = MutableMapping[str, Any]


class Named:
    """An application that answers with its name."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self._name = name
        self._calls = calls

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._calls.append(f"{self._name} {scope['path']}")


async def nothing() -> Message:
    raise AssertionError("nobody asked for the body")


async def ignore(message: Message) -> None:
    """Take an answer."""


@pytest.mark.parametrize(
    ("path", "taker"),
    [
        ("/v1/checkins", "ingest"),
        ("/v1/checkins/", "ingest"),
        ("/v1/checkinsandmore", "django"),
        ("/", "django"),
        ("/x/v1/checkins", "django"),
    ],
)
def test_a_mount_takes_what_begins_with_its_path(path: str, taker: str) -> None:
    calls: list[str] = []
    mounts = {"/v1/checkins": Named("ingest", calls)}
    application = Application(Named("django", calls), mounts, ())
    asyncio.run(application({"type": "http", "path": path}, nothing, ignore))
    assert calls == [f"{taker} {path}"]


def lived(*background: Any) -> list[str]:  # noqa: ANN401 (coroutine functions)
    """Start a server's life, let the background run, end it; return what was sent."""

    async def live() -> list[str]:
        sent: list[str] = []
        stop = asyncio.Event()
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Message:
            kind = next(messages)
            if kind == "lifespan.shutdown":
                await stop.wait()
            return {"type": kind}

        async def send(message: Message) -> None:
            sent.append(message["type"])

        application = Application(Named("django", []), {}, background)
        life = asyncio.create_task(application({"type": "lifespan"}, receive, send))
        for _ in range(5):
            await asyncio.sleep(0)
        stop.set()
        await life
        return sent

    return asyncio.run(live())


def test_background_work_runs_until_the_server_ends() -> None:
    seen: list[str] = []

    async def work() -> None:
        seen.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("ended")

    assert lived(work) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert seen == ["began", "ended"]


def test_background_work_that_fails_does_not_end_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise RuntimeError("a mistake")

    assert lived(fails)[-1] == "lifespan.shutdown.complete"
    assert "a mistake" in caplog.text
