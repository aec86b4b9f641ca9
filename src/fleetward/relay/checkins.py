"""Check-ins, as they come: from hosts and from relays downstream, over TCP and UDP.

    POST /v1/checkins   application/json                           one envelope
                        application/vnd.fleetward.checkins+zstd    a batch (wire.checkins)

    202  carried: on this relay's disk; nothing more is promised
    400  malformed, or not signed by the host that it names; in a batch, one such is enough, and
         the sender finds it by halving
    413, 415  too long, or another type
    503  over a limit, or nobody carries it on: try again, or try another relay

The signature is verified first, against the key whose digest is the host's id: a relay cannot know
who is enrolled, but a check-in in another's name costs nobody else's share. A batch in which one
host is over its share is carried without that host's, since else one flooding host would stop a
whole site. A datagram gets the same checks and never an answer.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.compression import decompress
from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import KIB, STATUS
from fleetward.core.status import HostId
from fleetward.errors import DocumentError, SignatureError
from fleetward.httpd.message import Answer, Request, Response
from fleetward.identity.checkins import verify_check_in
from fleetward.relay.bucket import Bucket, Buckets, client_of, retry_after
from fleetward.relay.commits import Commits
from fleetward.relay.downstream import Downstream, address_of
from fleetward.relay.part import Kind, Metric, Route
from fleetward.relay.segments import Record, Way
from fleetward.relay.settings import CarryLimits
from fleetward.relay.shares import Fate
from fleetward.wire.checkins import (
    BATCH_MEDIA_TYPE,
    CHECKINS_PATH,
    ENVELOPE_MEDIA_TYPE,
    Carried,
    decode_batch,
    milliseconds_of,
)

_FRAME_OVERHEAD: Final = 64 * KIB
"""Compression may make a batch longer by this, at most."""

_BURST: Final = 10.0
"""Seconds of its rate that one address may save up."""

_LOST_IN_A_BATCH: Final = frozenset({Fate.HOST_SHARE})
_ACCEPTED: Final = Response(202)
_MALFORMED: Final = Response(400)
_TOO_LONG: Final = Response(413)
_UNSUPPORTED: Final = Response(415)

RESULTS: Final = (
    *(fate.value for fate in Fate),
    "malformed",
    "forged",
    "too-long",
    "unsupported",
    "rate",
    "queue",
    "looped",
    "not-carried",
)
"""What may become of a check-in; the labels of the metric, a closed list."""


class CheckInPart:
    """Takes check-ins; a `Part`.

    Attributes:
        results: how many check-ins (or requests, where none could be read) came to what end.
    """

    def __init__(
        self,
        commits: Commits,
        settings: SpoolSettings,
        limits: CarryLimits,
        clock: Clock,
        is_carried: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take where they go.

        Args:
            commits: keeps them.
            settings: rates, and who is downstream.
            limits: see there.
            clock: the time of receipt; its monotonic time measures rates.
            is_carried: whether anybody is known to take them on.
        """
        self.results: Counter[str] = Counter()
        self._commits = commits
        self._limits = limits
        self._clock = clock
        self._is_carried = is_carried
        self._downstream = Downstream(settings.downstream)
        rate, datagrams = settings.check_ins_per_second, settings.datagrams_per_second
        self._requests = Buckets(rate, rate * _BURST, limits.max_clients)
        self._senders = Buckets(datagrams, datagrams * _BURST, limits.max_clients)
        every = limits.all_datagrams_per_second
        self._all_datagrams = Bucket(every, every, self._now())
        self._queue: deque[tuple[bytes, str]] = deque()
        self._queued = asyncio.Event()

    def routes(self) -> Iterable[Route]:
        """Answer POST of check-ins."""
        most = STATUS.batch_bytes + _FRAME_OVERHEAD
        return (Route(CHECKINS_PATH, self._answer, frozenset({"POST"}), most),)

    def _now(self) -> float:
        return self._clock.monotonic().total_seconds()

    # -- over TCP -----------------------------------------------------------------------------------

    def _answer(self, request: Request) -> Answer:
        if not self._is_carried():
            return self._refused("not-carried", self._busy())
        media_type = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type == ENVELOPE_MEDIA_TYPE.encode():
            return self._answer_envelope(request)
        if media_type == BATCH_MEDIA_TYPE.encode():
            return self._answer_batch(request)
        return self._refused("unsupported", _UNSUPPORTED)

    def _refused(self, result: str, response: Response) -> Response:
        self.results[result] += 1
        return response

    def _busy(self, seconds: float = 0.0) -> Response:
        wait = seconds or self._limits.retry.total_seconds()
        return Response(503, (retry_after(wait),))

    def _wait_of(self, peer: str) -> float:
        """Return how long an address has to wait, or 0 where it may send something now."""
        if peer in self._downstream:
            return 0.0
        return self._requests.of(peer, self._now()).wait(self._now())

    def _charge(self, peer: str, count: int) -> None:
        """Take what came off an address's rate; a batch may go into debt, and the next one waits."""
        if peer not in self._downstream:
            self._requests.of(peer, self._now()).spend(count, self._now())

    def _answer_envelope(self, request: Request) -> Answer:
        wait = self._wait_of(request.peer)
        if wait:
            return self._refused("rate", self._busy(wait))
        self._charge(request.peer, 1)
        if len(request.body) > STATUS.envelope_bytes:
            return self._refused("too-long", _TOO_LONG)
        if not request.body:
            return self._refused("malformed", _MALFORMED)
        carried = Carried(self._received(), address_of(request.peer), request.body)
        host = self._verified(carried)
        if host is None:
            return _MALFORMED
        record = self._record(host, carried, request.peer, Way.STREAM)
        return self._keep([record], frozenset())

    def _received(self) -> int:
        return milliseconds_of(self._clock.now())

    def _verified(self, carried: Carried, max_bytes: int = STATUS.envelope_bytes) -> HostId | None:
        """Return who signed an envelope; None, counted, where nobody did."""
        try:
            return verify_check_in(carried.envelope, max_bytes).host
        except DocumentError:
            self.results["malformed"] += 1
        except SignatureError:
            self.results["forged"] += 1
        return None

    def _record(self, host: HostId, carried: Carried, peer: str, way: Way) -> Record:
        source = "" if peer in self._downstream else client_of(address_of(peer))
        return Record(host, source, way, self._received(), carried)

    async def _keep(self, records: Sequence[Record], lost: frozenset[Fate]) -> Response:
        """Keep check-ins; `lost` are the fates with which one may be lost and the rest carried."""
        fates = await self._commits.append(records)
        self.results.update(fate.value for fate in fates)
        is_carried = all(fate.is_durable or fate in lost for fate in fates)
        return _ACCEPTED if is_carried else self._busy()

    async def _answer_batch(self, request: Request) -> Response:
        wait = self._wait_of(request.peer)
        if wait:
            return self._refused("rate", self._busy(wait))
        self._charge(request.peer, 1)
        try:
            batch = await asyncio.to_thread(_open_batch, request.body)
        except DocumentError:
            return self._refused("malformed", _MALFORMED)
        self._charge(request.peer, len(batch))
        records = await self._verified_batch(batch, request.peer)
        if records is None:
            return _MALFORMED
        return await self._keep(records, _LOST_IN_A_BATCH) if records else _ACCEPTED

    async def _verified_batch(self, batch: Sequence[Carried], peer: str) -> list[Record] | None:
        """Return a batch's records; None where one of them is malformed or forged."""
        records: list[Record] = []
        for place, carried in enumerate(batch):
            if place % self._limits.verified_per_turn == 0:
                await asyncio.sleep(0)
            if carried.hops >= self._limits.max_hops:
                self.results["looped"] += 1
                continue
            host = self._verified(carried)
            if host is None:
                return None
            records.append(self._record(host, carried, peer, Way.STREAM))
        return records

    # -- over UDP -----------------------------------------------------------------------------------

    def accept_datagram(self, datagram: bytes, peer: str) -> None:
        """Take a check-in that came as a datagram; never answers, never raises, never blocks.

        Args:
            datagram: its bytes; more than `STATUS.datagram_bytes` are refused.
            peer: the sender's address, without port, which may be forged.
        """
        now = self._now()
        if not self._is_carried():
            self.results["not-carried"] += 1
        elif not 0 < len(datagram) <= STATUS.datagram_bytes:
            self.results["too-long"] += 1
        elif peer not in self._downstream and self._senders.of(peer, now).take(1, now):
            self.results["rate"] += 1
        elif len(self._queue) >= self._limits.max_datagrams:
            self.results["queue"] += 1
        elif self._all_datagrams.take(1, now):
            self.results["rate"] += 1
        else:
            self._queue.append((datagram, peer))
            self._queued.set()

    async def run(self) -> None:
        """Commit what comes, and verify datagrams, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._commits.run())
            group.create_task(self._verify_datagrams())

    async def _verify_datagrams(self) -> None:
        while True:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                records = await self._next_datagrams()
                if records:
                    fates = await self._commits.append(records)
                    self.results.update(fate.value for fate in fates)

    async def _next_datagrams(self) -> list[Record]:
        """Return what is signed of the next datagrams: some turns' worth, to share one commit."""
        records: list[Record] = []
        for place in range(8 * self._limits.verified_per_turn):
            if not self._queue:
                break
            if place % self._limits.verified_per_turn == 0:
                await asyncio.sleep(0)
            datagram, peer = self._queue.popleft()
            carried = Carried(self._received(), address_of(peer), datagram)
            host = self._verified(carried, STATUS.datagram_bytes)
            if host is not None:
                records.append(self._record(host, carried, peer, Way.DATAGRAM))
        return records

    # -- what it tells ------------------------------------------------------------------------------

    def status(self) -> Mapping[str, object]:
        """Return what came, by what became of it, and what waits."""
        results = {result: self.results[result] for result in RESULTS}
        return {"spool": self._commits.spool.summary(), "check_ins": results}

    def metrics(self) -> Iterable[Metric]:
        """Return the same as metrics."""
        for result in RESULTS:
            yield Metric(
                "checkins_received_total",
                self.results[result],
                "Check-ins that came, by what became of them.",
                labels=(("result", result),),
            )
        spool = self._commits.spool
        yield Metric("spool_bytes", spool.waiting_bytes, "Bytes that wait.", Kind.GAUGE)
        yield Metric("spool_checkins", spool.waiting, "Check-ins that wait.", Kind.GAUGE)
        yield Metric("spool_damaged_total", spool.counters.damaged, "Stretches that were damaged.")
        yield Metric("spool_expired_total", spool.counters.expired, "Check-ins that were too old.")
        yield Metric("spool_aside_total", spool.counters.aside, "Refused by the console for good.")
        yield Metric("spool_disk_errors_total", spool.counters.disk_errors, "Errors of the disk.")


def _open_batch(body: bytes) -> tuple[Carried, ...]:
    return decode_batch(decompress(body, STATUS.batch_bytes))
