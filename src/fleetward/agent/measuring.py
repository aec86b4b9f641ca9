"""How fast sources answer: noted while an agent asks them for what it needs anyway.

Deliberately not here: probes. Nothing is asked for the sake of a measurement.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from fleetward.adapters.clock import Clock
from fleetward.adapters.http import Answer, HttpSession, HttpSettings
from fleetward.core.limits import KIB
from fleetward.errors import NotFoundError

MAX_SAMPLES: Final = 512
"""Requests of one run that are noted."""

LONG_BODY: Final = 64 * KIB
"""Bytes from which on a body tells of throughput rather than of the round trip."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        url: what was asked for.
        first_byte: from the request to the answer's header, with connecting where it had to.
        received: bytes of the body, as it came over the connection.
        took: the time that they took.
    """

    url: str
    first_byte: timedelta
    received: int = 0
    took: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Measured:
    """What the requests to one source say of it; None where they say nothing.

    Attributes:
        first_byte: seconds, of the run's first request: it had to connect, as with every source.
        rate: bytes per second of long bodies.
    """

    first_byte: float | None = None
    rate: float | None = None


def measured(samples: list[Sample], source: str) -> Measured:
    """Return what the samples say of the source with that base URL; long polls say nothing."""
    own = [sample for sample in samples if sample.url.startswith(f"{source}/")]
    own = [sample for sample in own if not sample.url.startswith(f"{source}/v1/")]
    long = [sample for sample in own if sample.received >= LONG_BODY and sample.took]
    seconds = sum(sample.took.total_seconds() for sample in long)
    return Measured(
        own[0].first_byte.total_seconds() if own else None,
        sum(sample.received for sample in long) / seconds if seconds else None,
    )


class MeasuredSession(HttpSession):
    """An HTTP session that notes how long its requests took.

    Attributes:
        samples: one for each request that was answered, in order; the first 512.
    """

    def __init__(self, clock: Clock, settings: HttpSettings | None = None) -> None:
        super().__init__(clock, settings)
        self.samples: list[Sample] = []
        self._watch = clock

    @contextmanager
    def get(self, url: str, **options: Any) -> Generator[Answer]:  # noqa: ANN401 (as HttpSession.get)
        """Ask for `url`, as `HttpSession.get`."""
        began = self._watch.monotonic()
        try:
            with super().get(url, **options) as answer:
                answered, before = self._watch.monotonic(), self.traffic.received
                try:
                    yield answer
                finally:
                    took = self._watch.monotonic() - answered
                    received = self.traffic.received - before
                    self._note(Sample(url, answered - began, received, took))
        except NotFoundError:
            self._note(Sample(url, self._watch.monotonic() - began))
            raise

    def _note(self, sample: Sample) -> None:
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(sample)
