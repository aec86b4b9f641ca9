"""Sends what the spool holds to the console, or to the upstream relay of a chain.

A batch leaves the spool only after a 2xx; so a check-in may arrive twice and is never lost between
the two, and the console keeps one. Answers mean:

    2xx                  taken
    400, 413, 422        something in it is refused for good: the batch is halved until that one
                         is found, set aside and counted, and the others go on
    everything else      the console is away: wait (doubling, with jitter, or what Retry-After
                         says), and send the same again

A console that refuses everything is more likely broken than right: its refusals are believed only
after some attempts, and only while it takes an empty batch. One batch is under way at a time, so each host's check-ins keep their order.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final

from fleetward.adapters.compression import compress
from fleetward.adapters.entropy import Entropy
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import KIB, STATUS
from fleetward.errors import DiskError, NetworkError
from fleetward.relay.carrier import Carrier, Reply
from fleetward.relay.commits import Commits
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.segments import Record
from fleetward.relay.settings import CarryLimits
from fleetward.relay.spool import Taken
from fleetward.wire.checkins import BATCH_MEDIA_TYPE, CHECKINS_PATH, Carried, encode_batch

_ANSWER_BYTES: Final = 64 * KIB
_FRAMING_BYTES: Final = 64
_REFUSED: Final = frozenset({400, 413, 422})
_NOT_CARRIED: Final = frozenset({404, 405, 501, 508})
"""No such path; or relays name each other in a circle (relay.loops), and none has a console."""

_SUSPECTS: Final = 8
"""So many refused ones, and none taken: whoever refuses is broken, and is asked again later."""


class Verdict(Enum):
    """What an answer means."""

    TAKEN = "taken"
    REFUSED = "refused"
    LATER = "later"


def verdict_of(status: int) -> Verdict:
    """Return what a status means."""
    if 200 <= status < 300:
        return Verdict.TAKEN
    return Verdict.REFUSED if status in _REFUSED else Verdict.LATER


class _LaterError(Exception):
    """The console is away.

    Attributes:
        seconds: that it asks to wait.
    """

    def __init__(self, reason: str, seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(slots=True)
class ForwardCounters:
    """Only ever counted up.

    Attributes:
        forwarded: check-ins that the console took.
        batches: requests that it took.
        sent_bytes: of their compressed bodies.
        failures: requests after which it was left alone for a while.
        refusals: requests that it refused for good.
    """

    forwarded: int = 0
    batches: int = 0
    sent_bytes: int = 0
    failures: int = 0
    refusals: int = 0


class ForwardingPart:
    """Sends batches; a `Part`.

    Attributes:
        counters: what was sent so far.
    """

    def __init__(
        self,
        commits: Commits,
        carrier: Carrier,
        settings: SpoolSettings,
        limits: CarryLimits,
        entropy: Entropy,
    ) -> None:
        """Take from where, to whom and how fast."""
        self.counters = ForwardCounters()
        self._has_place = True
        self._commits = commits
        self._spool = commits.spool
        self._carrier = carrier
        self._settings = settings
        self._limits = limits
        self._entropy = entropy
        self._failures = 0
        self._refused_wholly = 0
        self._problem = ""

    @property
    def is_carried(self) -> bool:
        """Return whether whoever is asked has a place for check-ins, as far as is known.

        What waits is offered again and again; once nothing waits, nothing is known.
        """
        return self._has_place or self._spool.waiting == 0

    def routes(self) -> Iterable[Route]:
        """Return none."""
        return ()

    async def run(self) -> None:
        """Send until cancelled."""
        await self._commits.opened.wait()
        try:
            while True:
                try:
                    await self._send_next()
                except (_LaterError, DiskError, FileNotFoundError) as error:
                    await self._pause(error)
        finally:
            self._carrier.close()

    async def _pause(self, error: Exception) -> None:
        self.counters.failures += 1
        self._problem = str(error)
        limits = self._limits
        longest = min(limits.first_pause * 2 ** min(self._failures, 20), limits.max_pause)
        self._failures += 1
        seconds = longest.total_seconds() * (1 + self._entropy.share()) / 2
        if isinstance(error, _LaterError):
            seconds = max(seconds, min(error.seconds, limits.max_pause.total_seconds()))
        await asyncio.sleep(seconds)

    async def _send_next(self) -> None:
        """Send the oldest check-ins; wait for some where there are none.

        Raises:
            _LaterError: the console is away.
            DiskError: the spool cannot be read, or its cursor not written.
        """
        self._commits.kept.clear()
        most = STATUS.batch_bytes - _FRAMING_BYTES
        taken = await asyncio.to_thread(self._spool.take, self._settings.batch, most)
        if taken is None:
            await self._commits.kept.wait()
            await self._gather()
            return
        if taken.records:
            await self._deliver(taken)
        await asyncio.to_thread(self._spool.remove, taken)
        await self._gather()

    async def _gather(self) -> None:
        """Let what waits become a batch, where it is less than one."""
        if 0 < self._spool.waiting < self._settings.batch:
            await asyncio.sleep(self._settings.delay.total_seconds())

    async def _deliver(self, taken: Taken) -> None:
        """Return once each check-in is with the console, or set aside.

        Raises:
            _LaterError: the console is away, or refuses everything.
            DiskError: nothing can be set aside.
        """
        refused: list[Record] = []
        before = self.counters.forwarded
        await self._offer(taken.records, refused, before)
        if refused:
            has_taken = self.counters.forwarded > before
            await self._judge(refused, has_taken=has_taken)
            certain = await self._offered_again(refused) if has_taken else refused
            await asyncio.to_thread(self._spool.set_aside, certain)
        self._refused_wholly = 0

    async def _offered_again(self, refused: Sequence[Record]) -> list[Record]:
        """Return which are refused a second time: who was asked may have changed in between."""
        certain: list[Record] = []
        await self._offer(refused, certain, -1)
        return certain

    async def _judge(self, refused: Sequence[Record], *, has_taken: bool) -> None:
        """Return where refusals are to be believed.

        Where nothing was taken, an empty batch is offered: who refuses that one too has no place
        for check-ins (an origin takes no bodies at all).

        Raises:
            _LaterError: not yet.
        """
        if has_taken:
            return
        if await self._post(()) is Verdict.REFUSED:
            self._has_place = False
            raise _LaterError("whoever is asked takes no check-ins, not even none")
        self._refused_wholly += 1
        if self._refused_wholly < self._limits.refusals:
            raise _LaterError(f"the console refuses everything ({len(refused)} check-ins)")

    async def _offer(self, records: Sequence[Record], refused: list[Record], before: int) -> None:
        """Send `records` in order, halved where need be; add to `refused` what nobody takes."""
        verdict = await self._post(records)
        if verdict is Verdict.TAKEN:
            self.counters.forwarded += len(records)
            return
        if len(records) > 1:
            middle = len(records) // 2
            await self._offer(records[:middle], refused, before)
            await self._offer(records[middle:], refused, before)
            return
        refused += records
        is_last_attempt = self._refused_wholly + 1 >= self._limits.refusals
        if len(refused) >= _SUSPECTS and self.counters.forwarded == before and not is_last_attempt:
            await self._judge(refused, has_taken=False)

    async def _post(self, records: Sequence[Record]) -> Verdict:
        """Send one batch.

        Raises:
            _LaterError: it was neither taken nor refused.
        """
        body = await asyncio.to_thread(_body_of, records)
        headers = (("Content-Type", BATCH_MEDIA_TYPE),)
        try:
            reply = await self._carrier.ask(
                "POST", CHECKINS_PATH, max_bytes=_ANSWER_BYTES, headers=headers, body=body
            )
        except NetworkError as error:
            raise _LaterError(str(error)) from error
        if reply.status in _NOT_CARRIED:
            self._has_place = False
        return self._verdict_of(reply, len(body))

    def _verdict_of(self, reply: Reply, sent: int) -> Verdict:
        verdict = verdict_of(reply.status)
        if verdict is Verdict.LATER:
            raise _LaterError(f"check-ins were answered {reply.status}", reply.retry_after)
        if verdict is Verdict.REFUSED:
            self.counters.refusals += 1
            return verdict
        self._has_place = True
        self._failures = 0
        self._problem = ""
        self.counters.batches += 1
        self.counters.sent_bytes += sent
        return verdict

    def status(self) -> Mapping[str, object]:
        """Return to whom, how much, and what keeps it from going on."""
        return {
            "forwarding": {
                "to": list(self._carrier.names),
                "is_carried": self.is_carried,
                "problem": self._problem,
                **asdict(self.counters),
            }
        }

    def metrics(self) -> Iterable[Metric]:
        """Return the same as metrics."""
        counters = self.counters
        yield Metric("forwarded_total", counters.forwarded, "Check-ins that the console took.")
        yield Metric("forward_batches_total", counters.batches, "Batches that the console took.")
        yield Metric("forward_bytes_total", counters.sent_bytes, "Bytes of those batches.")
        yield Metric("forward_failures_total", counters.failures, "Times the console was away.")
        yield Metric("forward_refusals_total", counters.refusals, "Batches refused for good.")
        yield Metric("forward_carried", self.is_carried, "Whether anybody takes them.", Kind.GAUGE)


def _body_of(records: Sequence[Record]) -> bytes:
    return compress(encode_batch(_one_hop_on(record.carried) for record in records))


def _one_hop_on(carried: Carried) -> Carried:
    return Carried(carried.received, carried.peer, carried.envelope, carried.hops + 1)
