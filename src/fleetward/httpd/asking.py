"""Asking a handler, in such a way that its bug ends one answer and not the server."""

import logging
from collections.abc import Coroutine
from typing import Any

from fleetward.httpd.message import Answer, Handler, Request, Response

_LOG = logging.getLogger(__name__)


def ask(handler: Handler, request: Request) -> Answer:
    """Return the handler's answer; 500 where it fails."""
    try:
        return handler.answer(request)
    except Exception:  # noqa: BLE001 (see the module)
        _LOG.exception("the handler failed on %s %s", request.method, request.path)
        return Response(500, close=True)


async def guarded(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """Return what a handler's coroutine returns; 500 where it fails."""
    try:
        return await answer
    except Exception:  # noqa: BLE001 (see the module)
        _LOG.exception("the handler failed on %s %s", request.method, request.path)
        return Response(500, close=True)
