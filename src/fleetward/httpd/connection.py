"""One client's connection: bytes in, answers out, in the order of the requests.

One request at a time is taken from the buffer; an answer that is ready is written at once, else a
future or a task stands for it while the buffer (and then the kernel) holds what the client sent
meanwhile. So pipelining needs no queue of its own, and a flood stays with its sender. Bytes that
were answered before take the short path of `httpd.repeats`, on a connection at rest only.

Ten thousand of these wait in long polls, so an idle one is a handful of slots: the parser is the
server's, and a task is made only for coroutines and files.

    phase      what runs out            then
    IDLE       idle_timeout             closed
    HEAD       head_timeout             408, closed
    BODY       body_timeout             408, closed
    ANSWERING  (the handler's own)      -
    LINGERING  linger                   closed
    any        stall_timeout, while bytes wait for the client   cut
"""

import asyncio
import contextlib
import logging
from typing import Any, Final, cast

from fleetward.errors import NetworkError
from fleetward.httpd.asking import ask, guarded
from fleetward.httpd.head import END, Head
from fleetward.httpd.host import Host
from fleetward.httpd.message import (
    Answer,
    RefusedRequestError,
    Repeatable,
    Request,
    Response,
)
from fleetward.httpd.outlet import Outlet
from fleetward.httpd.phases import Phase, timeouts

_LOG = logging.getLogger(__name__)
_FLUSH_BYTES: Final = 64 * 1024
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE: Final = b"Connection: close\r\n\r\n"
_KEEP_1_0: Final = b"Connection: keep-alive\r\n\r\n"
_IDLE: Final = Phase.IDLE


class Connection(asyncio.Protocol):
    """The protocol object that asyncio calls; made by `httpd.server.Server`."""

    __slots__ = (
        "_at",
        "_body_missing",
        "_body_parts",
        "_buffer",
        "_counters",
        "_head",
        "_held",
        "_host",
        "_is_half_closed",
        "_is_handler_running",
        "_is_head_only",
        "_is_last",
        "_is_reading",
        "_is_turn_planned",
        "_known",
        "_limits",
        "_loop",
        "_outlet",
        "_peer",
        "_phase",
        "_repeats",
        "_since",
        "_task",
        "_transport",
    )

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._limits = host.limits
        self._loop = loop
        self._counters = host.counters
        self._repeats = host.repeats
        self._known = host.repeats.entries
        self._buffer = b""
        self._at = self._body_missing = self._held = 0
        self._body_parts: list[bytes] | None = None
        self._head: Head | None = None
        self._is_turn_planned = False
        self._is_reading = True
        self._is_half_closed = self._is_last = False
        self._is_handler_running = self._is_head_only = False
        self._phase = Phase.IDLE
        self._since = loop.time()
        self._task: asyncio.Future[Any] | None = None
        self._peer = ""

    # -- what asyncio calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or answer 503 where there are too many."""
        self._transport = cast("asyncio.Transport", transport)
        self._outlet = Outlet(self._loop, self._transport, self._limits, self._host.counters)
        name = transport.get_extra_info("peername")
        self._peer = name[0] if isinstance(name, tuple) else ""
        if not self._host.admit(self, self._peer):
            self._refuse(503)

    def data_received(self, data: bytes) -> None:
        """Take bytes; answer what they complete."""
        repeat = self._known.get(data)
        if (
            repeat is not None
            and self._phase is _IDLE
            and not self._buffer
            and self._outlet.can_write
            and (repeat.turn == self._repeats.turn or self._repeats.renew(data, repeat, self._loop))
        ):
            self._counters.requests += 1
            self._counters.delivered_bytes += repeat.body_bytes
            if repeat.on_repeat is not None:
                repeat.on_repeat()
            self._since = repeat.now
            self._outlet.written += repeat.size
            self._transport.write(repeat.wire)
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if self._phase is Phase.LINGERING:
            return
        if self._body_missing > 0:
            parts = self._body_parts = self._body_parts or []
            parts.append(data)
            self._body_missing -= len(data)
            if self._body_missing > 0:
                return
            data = b"".join(parts)
            self._body_parts = None
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0
        if self._may_take_turn():
            self._take_turn()
        elif len(self._buffer) >= self._limits.max_pipelined_bytes:
            self._pause_reading()

    def eof_received(self) -> bool:
        """Let answers that are being sent still leave; a handler that only waits is cancelled."""
        if self._task is None and not self._is_turn_planned and self._outlet.can_write:
            return False
        if self._is_handler_running or not self._transport.can_write_eof():
            return False
        self._is_half_closed = True
        return True

    def pause_writing(self) -> None:
        """Stop answering until the client has read."""
        self._outlet.pause()

    def resume_writing(self) -> None:
        """Go on answering."""
        self._outlet.resume()
        if self._task is None and self._phase is not Phase.LINGERING:
            self._plan_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what was being sent."""
        self._phase = Phase.LINGERING
        self._host.forget(self, self._peer)
        self._let_go()
        if self._task is None:
            self._outlet.close()
        else:
            self._task.cancel()

    # -- deadlines, and the end --------------------------------------------------------------

    @property
    def task(self) -> asyncio.Future[Any] | None:
        """Return what stands for the answer now, if any."""
        return self._task

    def sweep(self, now: float) -> None:
        """Look at the deadlines; `now` is the loop's time."""
        if self._outlet.is_stalled(now):
            self._cut()
            return
        if self._phase is Phase.ANSWERING:
            return
        if now - self._since <= timeouts(self._limits)[self._phase]:
            return
        if self._phase in {Phase.HEAD, Phase.BODY}:
            self._refuse(408)
        elif not self._transport.get_write_buffer_size():
            self._transport.close()

    def stop(self) -> None:
        """Close now where nothing is being answered; `Host.is_stopping` does the rest."""
        if self._phase in {Phase.IDLE, Phase.HEAD} and not self._is_turn_planned:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection; what was not sent is lost."""
        self._transport.abort()

    def _cut(self) -> None:
        self._host.counters.cut += 1
        self.abort()

    # -- requests ------------------------------------------------------------------------------

    def _may_take_turn(self) -> bool:
        return self._task is None and not self._is_turn_planned and self._outlet.can_write

    def _plan_turn(self) -> None:
        if not self._is_turn_planned:
            self._is_turn_planned = True
            self._loop.call_soon(self._planned_turn)

    def _planned_turn(self) -> None:
        self._is_turn_planned = False
        if self._may_take_turn() and self._phase is not Phase.LINGERING:
            self._take_turn()

    def _take_turn(self) -> None:
        """Answer whole requests, until one needs a task, the client must read, or others wait."""
        out: list[bytes] = []
        size = 0
        for _ in range(self._limits.requests_per_turn):
            added = self._answer_next(out)
            if added is None:
                return
            size += added
            if size > _FLUSH_BYTES:
                self._outlet.write(out)
                size = 0
                if not self._outlet.can_write:
                    break
        self._outlet.write(out)
        self._plan_turn()

    def _answer_next(self, out: list[bytes]) -> int | None:
        """Answer one request into `out`, and return how many bytes that added.

        None says that the turn is over and `out` written: nothing whole is left, the connection
        ends, or a task sends the answer.
        """
        try:
            request = self._next_request(out)
        except RefusedRequestError as error:
            self._outlet.write(out)
            self._refuse(error.status)
            return None
        if request is None:
            self._finish_turn(out)
            return None
        answer = ask(self._host.handler, request)
        self._is_head_only = request.method == "HEAD"
        if isinstance(answer, Repeatable):
            answer = self._repeatable(request, answer)
        if not isinstance(answer, Response) or not self._is_short(answer):
            self._outlet.write(out)
            self._begin(request, answer)
            return None
        added = self._append(out, answer)
        if self._is_last:
            self._outlet.write(out)
            self._end()
            return None
        self._rest()
        if self._at < len(self._buffer):
            return added
        self._buffer = b""
        self._at = 0
        self._finish_turn(out)
        return None

    def _repeatable(self, request: Request, answer: Repeatable) -> Response:
        """Keep the answer for the same bytes, where they were all that came."""
        head, raw = self._head, self._buffer
        if (
            head is not None
            and head.may_repeat
            and raw.find(END) + len(END) == self._at == len(raw)
        ):
            self._repeats.remember(raw, request.method, answer)
        return answer.response

    def _finish_turn(self, out: list[bytes]) -> None:
        self._outlet.write(out)
        if self._is_half_closed or self._host.is_stopping:
            self._end()
        else:
            self._resume_reading()

    def _rest(self) -> None:
        self._phase = Phase.IDLE
        self._since = self._loop.time()

    def _next_request(self, out: list[bytes]) -> Request | None:
        head = self._head or self._take_head(out)
        if head is None:
            return None
        self._head = head
        body = b""
        if head.body_bytes:
            end = self._at + head.body_bytes
            self._body_missing = end - len(self._buffer)
            if self._body_missing > 0:
                return None
            body = self._buffer[self._at : end]
            self._at = end
        self._phase = Phase.ANSWERING
        self._host.counters.requests += 1
        target = head.target
        return Request(
            head.method,
            target.path,
            target.query,
            head.headers,
            body,
            self._peer,
            target.authority,
        )

    def _take_head(self, out: list[bytes]) -> Head | None:
        buffer = self._buffer
        while buffer.startswith(b"\r\n", self._at):
            self._at += 2
        end = buffer.find(END, self._at)
        if end < 0:
            self._wait_for_head()
            return None
        start, self._at = self._at, end + len(END)
        head = self._host.reader.read(buffer[start : self._at])
        if head.body_bytes:
            self._admit_body(head, out)
        return head

    def _wait_for_head(self) -> None:
        self._buffer = self._buffer[self._at :]
        self._at = 0
        if self._buffer:
            self._host.reader.judge_partial(self._buffer)
            if self._phase is Phase.IDLE:
                self._phase = Phase.HEAD
                self._since = self._loop.time()

    def _admit_body(self, head: Head, out: list[bytes]) -> None:
        if head.body_bytes > self._host.handler.max_body(head.method, head.target.path):
            raise RefusedRequestError(413, "the body is longer than this resource takes")
        if not self._host.hold(self._peer, head.body_bytes):
            raise RefusedRequestError(503, "too many bodies are in memory")
        self._held = head.body_bytes
        self._phase = Phase.BODY
        self._since = self._loop.time()
        if head.waits_to_go_on() and self._at == len(self._buffer):
            out.append(_CONTINUE)

    def _let_go(self) -> None:
        if self._held:
            self._host.let_go(self._peer, self._held)
            self._held = 0

    # -- answers -------------------------------------------------------------------------------

    def _encode_head(self, response: Response) -> bytes:
        """Return the head's bytes; notes in `_is_last` whether the connection ends with it."""
        head, self._head = self._head, None
        self._let_go()
        self._is_last = (
            head is None or not head.keep_alive or response.close or self._host.is_stopping
        )
        connection = b"\r\n"
        if self._is_last:
            connection = _CLOSE
        elif head is not None and head.is_http_1_0:
            connection = _KEEP_1_0
        return b"".join(
            (response.status_line, self._host.date_line(), response.encoded, connection)
        )

    def _is_short(self, response: Response) -> bool:
        return isinstance(response.body, bytes) or self._is_head_only

    def _append(self, out: list[bytes], response: Response) -> int:
        head = self._encode_head(response)
        out.append(head)
        body = response.body
        if not isinstance(body, bytes):
            response.discard()
            return len(head)
        if not body or self._is_head_only:
            return len(head)
        out.append(body)
        self._host.counters.delivered_bytes += len(body)
        return len(head) + len(body)

    def _refuse(self, status: int) -> None:
        self._host.counters.refused += 1
        self._head = None
        self._outlet.write([self._encode_head(Response(status, close=True))])
        self._end()

    def _end(self) -> None:
        """Close in such a way that the client can still read the answer."""
        has_unread = self._at < len(self._buffer)
        self._buffer = b""
        self._at = 0
        self._phase = Phase.LINGERING
        self._since = self._loop.time()
        is_clean = self._is_half_closed or (self._host.is_stopping and not has_unread)
        if is_clean or not self._transport.can_write_eof():
            self._transport.close()
            return
        with contextlib.suppress(OSError):
            self._transport.write_eof()
        self._resume_reading()

    def _pause_reading(self) -> None:
        if self._is_reading and not self._is_half_closed:
            self._is_reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._is_reading and not self._transport.is_closing():
            self._is_reading = True
            self._transport.resume_reading()

    # -- answers that take time ----------------------------------------------------------------

    def _begin(self, request: Request, answer: Answer) -> None:
        """Let a future or a task stand for the answer."""
        if isinstance(answer, Response):
            self._send_in_task(answer)
        elif isinstance(answer, asyncio.Future):
            self._await(answer)
        elif not isinstance(answer, Repeatable):
            self._await(self._loop.create_task(guarded(request, answer)))

    def _await(self, answer: asyncio.Future[Response]) -> None:
        self._is_handler_running = True
        self._task = answer
        answer.add_done_callback(self._answered)

    def _answered(self, answer: asyncio.Future[Response]) -> None:
        """Send what a handler's future or task has come to."""
        self._task = None
        self._is_handler_running = False
        if answer.cancelled():
            self._outlet.close()
            self.abort()
            return
        error = answer.exception()
        if error is not None:
            _LOG.error("the handler failed", exc_info=error)
        response = Response(500, close=True) if error is not None else answer.result()
        if self._is_gone():
            response.discard()
            self._outlet.close()
            self.abort()
        elif self._is_short(response):
            out: list[bytes] = []
            self._append(out, response)
            self._outlet.write(out)
            self._go_on()
        else:
            self._send_in_task(response)

    def _send_in_task(self, response: Response) -> None:
        task = self._loop.create_task(self._send(response))
        self._task = task
        task.add_done_callback(lambda done: self._sent(done, response))

    async def _send(self, response: Response) -> None:
        assert not isinstance(response.body, bytes)  # noqa: S101 (for the type checker)
        await self._outlet.send_file(self._encode_head(response), response.body)

    def _sent(self, task: asyncio.Task[None], response: Response) -> None:
        self._task = None
        response.discard()
        error = None if task.cancelled() else task.exception()
        if self._is_gone() or task.cancelled():
            self._outlet.close()
            self.abort()
        elif error is not None:
            if not isinstance(error, (OSError, EOFError, NetworkError)):
                _LOG.error("an answer broke off", exc_info=error)
            self._cut()
        else:
            self._go_on()

    def _is_gone(self) -> bool:
        return self._phase is Phase.LINGERING or self._transport.is_closing()

    def _go_on(self) -> None:
        if self._is_last:
            self._end()
        else:
            self._rest()
            self._plan_turn()
