"""Handlers for tests: one that echoes, and one whose answers wait for the test."""

import asyncio
import json
import os
import threading

from fleetward.httpd.message import Answer, FileBody, Repeatable, Request, Response


class Echo:
    """Answers with what it understood of the request; takes bodies on /upload.

    `/same` may be repeated, `/later` comes from a coroutine, `/promised` from a future.
    """

    def max_body(self, method: str, path: str) -> int:
        return 1000 if path == "/upload" else 0

    def answer(self, request: Request) -> Answer:
        if request.path == "/bug":
            raise RuntimeError("a bug in the handler")
        if request.path == "/later":
            return self._later(request)
        if request.path == "/late-bug":
            return self._late_bug()
        if request.path == "/same":
            return Repeatable(self._echo(request), lambda: True)
        if request.path == "/promised":
            return self._promise(request)
        return self._echo(request)

    def _promise(self, request: Request) -> Answer:
        loop = asyncio.get_running_loop()
        promise: asyncio.Future[Response] = loop.create_future()

        def keep() -> None:
            if not promise.cancelled():
                promise.set_result(self._echo(request))

        loop.call_soon(keep)
        return promise

    def _echo(self, request: Request) -> Response:
        seen = [request.method, request.path, request.query, request.body.decode("latin-1")]
        headers = (("Content-Type", "application/json"),)
        return Response(200, headers, json.dumps(seen).encode(), close=request.path == "/close")

    async def _later(self, request: Request) -> Response:
        await asyncio.sleep(0)
        return self._echo(request)

    async def _late_bug(self) -> Response:
        await asyncio.sleep(0)
        raise RuntimeError("a bug in the handler, later")


class Gate:
    """Answers once the test opens the gate; tells the test what happened to the request.

    Attributes:
        entered: set once a request waits.
        cancelled: set once its answer was cancelled.
    """

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.cancelled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open = asyncio.Event()

    def open(self) -> None:
        """Let the requests through; called from the test's thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._open.set)

    def max_body(self, method: str, path: str) -> int:
        return 0

    def answer(self, request: Request) -> Answer:
        return self._wait()

    async def _wait(self) -> Response:
        self._loop = asyncio.get_running_loop()
        self.entered.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Response(200, (), b"through the gate")


class OneFile:
    """Answers with a part of a file, whatever its real length."""

    def __init__(self, path: str, length: int) -> None:
        self._path = path
        self._length = length

    def max_body(self, method: str, path: str) -> int:
        return 0

    def answer(self, request: Request) -> Answer:
        return Response(200, (), FileBody(os.open(self._path, os.O_RDONLY), 0, self._length))
