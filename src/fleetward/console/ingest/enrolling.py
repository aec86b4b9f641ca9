"""Requests for enrolment that come together: verified aside, answered in one transaction.

Whoever cannot be believed, or has a token that is none of this console's, gets an error of his own
in place of an answer; nobody else's request is touched by it.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fleetward.adapters.clock import Clock
from fleetward.console.fleet.enrolment import Asked, answer_all, believe
from fleetward.console.ingest.batching import BatchLimits
from fleetward.console.ingest.rows import Delivery
from fleetward.errors import FleetwardError
from fleetward.identity.consoles import ConsoleKeys
from fleetward.identity.enrolment import VerifiedEnrolment

Believed = VerifiedEnrolment | FleetwardError
Answer = bytes | FleetwardError

AT_ONCE: Final = BatchLimits(open_at_once=50, calls=1, store_at_once=100, waiting=10_000)
"""A transaction of a hundred takes some 20 ms, which check-ins wait for."""


@dataclass(frozen=True, slots=True)
class Believer:
    """Verifies requests in threads of this process."""

    executor: Executor
    consoles: tuple[ConsoleKeys, ...]
    clock: Clock

    async def __call__(self, envelopes: Sequence[bytes]) -> Sequence[Believed]:
        """Return what each request says, or why it is not believed."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, self._believe_all, envelopes)

    def _believe_all(self, envelopes: Sequence[bytes]) -> list[Believed]:
        now = self.clock.now()
        return [self._believe(envelope, now) for envelope in envelopes]

    def _believe(self, envelope: bytes, now: datetime) -> Believed:
        try:
            return believe(envelope, self.consoles, now)
        except FleetwardError as error:
            return error


def answer_batch(
    batch: list[tuple[Delivery, Believed]], keys: ConsoleKeys, now: datetime
) -> list[Answer]:
    """Return the signed answer to each request, stored durably, or why it gets none.

    Args:
        batch: each request with what it says, in the order in which they came.
        keys: the console's present keys.
        now: the console's clock.
    """
    asked = [
        Asked(one, delivery.peer) for delivery, one in batch if not isinstance(one, FleetwardError)
    ]
    answers = iter(answer_all(asked, keys, now) if asked else ())
    return [one if isinstance(one, FleetwardError) else next(answers) for _, one in batch]
