"""A limit on request bodies, before Django: it would keep a body of any length in a temporary file.

A body whose declared length is too great is answered 413 unread; one that grows past the limit, or
comes too slowly, is cut off (endless data, slow retrieval).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApplication = Callable[..., Awaitable[None]]

MAX_BODY = 2 * 1024 * 1024
"""Bytes of a request's body, at most (endless data)."""

MAX_PAUSE = 20.0
"""Seconds until the next piece of a body (slow retrieval)."""

_REFUSAL = b'{"type": "about:blank", "title": "Content Too Large", "status": 413}'


class LimitedBodies:
    """An ASGI application whose requests have bodies of bounded length and pace."""

    def __init__(self, application: AsgiApplication, max_body: int = MAX_BODY) -> None:
        self._application = application
        self._max_body = max_body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if _declared(scope) > self._max_body:
            await _refuse(send)
            return
        left, ended = self._max_body, False

        async def limited() -> Message:
            nonlocal left, ended
            if ended:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), MAX_PAUSE)
            except TimeoutError:
                return {"type": "http.disconnect"}
            left -= len(message.get("body", b""))
            ended = not message.get("more_body", False)
            return {"type": "http.disconnect"} if left < 0 else message

        await self._application(scope, limited, send)


def _declared(scope: Message) -> int:
    for name, value in scope.get("headers", ()):
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
