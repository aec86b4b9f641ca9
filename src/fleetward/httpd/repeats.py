"""The short path: a request whose very bytes were answered before gets the same answer again.

Hosts that poll send the same head over and over. Where a handler returns a `Repeatable` for such a
head, the whole answer (head and body joined) is kept under the request's bytes. When they come
again on a connection at rest, nothing is parsed and no object is made: one look-up, one write.

    bytes of a head -> Repeat(wire, still valid in this turn?)

Invariants: an answer is repeated only while its handler's `holds` says so, asked after the turn of
the event loop began in which the request was read; so what was replaced on the disk before the
request was sent is never repeated. (A turn reads what is there when it begins, so one look at the
disk serves all of it.) The Date line is renewed each second. Only whole HTTP/1.1 requests without
body, on connections that stay, are kept; all counters count as on the long path.

Deliberately not here: what an answer depends on. A handler that counts its answers gives
`on_repeat`; one whose answer depends on more than the request's bytes (its peer, say) must not
return a `Repeatable`.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from fleetward.httpd.limits import ServerLimits
from fleetward.httpd.message import Repeatable

_BLANK: Final = b"\r\n"


class Repeat:
    """One remembered answer.

    Attributes:
        wire: all of its bytes.
        size: how many.
        body_bytes: how many of them are body.
        turn: the turn of the loop in which it was last found valid.
        now: that turn's time, by the loop's clock.
        on_repeat: called each time it is sent again, if set.
    """

    __slots__ = (
        "_answer",
        "_body",
        "_date",
        "body_bytes",
        "now",
        "on_repeat",
        "size",
        "turn",
        "wire",
    )

    def __init__(self, answer: Repeatable, body: bytes) -> None:
        self._answer = answer
        self._body = body
        self._date: bytes | None = None
        self.wire = b""
        self.size = 0
        self.body_bytes = len(body)
        self.turn = -1
        self.now = 0.0
        self.on_repeat: Callable[[], None] | None = answer.on_repeat

    def holds(self) -> bool:
        """Ask the handler whether the answer is still right."""
        return self._answer.holds()

    def date(self, line: bytes) -> None:
        """Put the Date header into `wire`, unless it is there already."""
        if line is not self._date:
            response = self._answer.response
            self.wire = b"".join((response.status_line, line, response.encoded, _BLANK, self._body))
            self.size = len(self.wire)
            self._date = line


class Repeats:
    """The answers that one server may repeat.

    Attributes:
        entries: by the whole head; looked up by connections directly, since each call counts.
        turn: the number of this turn of the loop; `Repeat.turn` is compared with it.
        counts_turns: whether `begin_turn` is called before each turn's requests are read; else
            the loop is asked for a call after the turn, which costs more.
    """

    def __init__(self, limits: ServerLimits, date_line: Callable[[], bytes]) -> None:
        self.entries: dict[bytes, Repeat] = {}
        self.turn = 0
        self.counts_turns = False
        self._limits = limits
        self._date_line = date_line
        self._bytes = 0
        self._is_turn_planned = False
        self._is_closed = False

    def renew(self, raw: bytes, repeat: Repeat, loop: asyncio.AbstractEventLoop) -> bool:
        """Return whether the answer may be repeated in this turn; forget it where not."""
        if not repeat.holds():
            self._forget(raw)
            return False
        repeat.date(self._date_line())
        repeat.turn = self.turn
        repeat.now = loop.time()
        if not self.counts_turns and not self._is_turn_planned:
            self._is_turn_planned = True
            loop.call_soon(self.begin_turn)
        return True

    def begin_turn(self) -> None:
        """Note that what is read from now on was perhaps sent after the last look at the disk."""
        self._is_turn_planned = False
        self.turn += 1

    def remember(self, raw: bytes, method: str, answer: Repeatable) -> None:
        """Keep an answer for the same bytes, where it is small enough.

        Args:
            raw: the request's head, all that was read.
            method: for HEAD no body is kept.
            answer: what the handler returned; its body is bytes.
        """
        body = b"" if method == "HEAD" else answer.response.body
        limits = self._limits
        if self._is_closed or not isinstance(body, bytes) or answer.response.close:
            return
        cost = len(raw) + len(body)
        if len(raw) > limits.max_repeat_head_bytes or cost > limits.max_repeat_bytes:
            return
        self._forget(raw)
        if len(self.entries) >= limits.max_repeats or self._bytes + cost > limits.max_repeat_bytes:
            self.entries.clear()
            self._bytes = 0
        self.entries[raw] = Repeat(answer, body)
        self._bytes += cost

    def _forget(self, raw: bytes) -> None:
        known = self.entries.pop(raw, None)
        if known is not None:
            self._bytes -= len(raw) + known.body_bytes

    def close(self) -> None:
        """Forget all, and keep nothing more: each answer is now its connection's last."""
        self._is_closed = True
        self.entries.clear()
        self._bytes = 0
