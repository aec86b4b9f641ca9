"""What the tests of captures share: from bytes to flows."""

import io

from fleetward.core.portclass import SYMANTEC_PORTS
from fleetward.portwatch.capture.frames import CaptureReader
from fleetward.portwatch.capture.opening import open_capture
from fleetward.portwatch.flows import Flow, FlowTable
from fleetward.portwatch.limits import CAPTURES, CaptureLimits


class Grudging:
    """A stream that gives a few bytes at a time, whatever is asked for."""

    def __init__(self, content: bytes, most: int) -> None:
        self._stream = io.BytesIO(content)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._most))


def flows_of(
    content: bytes,
    *,
    ports: frozenset[int] = SYMANTEC_PORTS,
    limits: CaptureLimits = CAPTURES,
    most: int = 1 << 20,
) -> tuple[list[Flow], CaptureReader, FlowTable]:
    """Return the flows of a capture, with its reader and table."""
    flows: list[Flow] = []
    reader = open_capture(Grudging(content, most), ports, limits)
    table = FlowTable(ports, flows.append, limits)
    for frame in reader.frames():
        table.feed(frame)
    table.finish()
    return flows, reader, table


def kinds_of(content: bytes) -> list[str]:
    return sorted(flow.classified.kind.value for flow in flows_of(content)[0])
