"""A capture from its first byte to its report, in one pass."""

from collections.abc import Callable

from fleetward.core.portclass import SYMANTEC_PORTS
from fleetward.portwatch.capture.opening import Stream, open_capture
from fleetward.portwatch.flows import FlowTable
from fleetward.portwatch.limits import CAPTURES, CaptureLimits
from fleetward.portwatch.report import CaptureReport, CaptureSummary


class CountingStream:
    """A stream that says how far it was read.

    Args:
        stream: that is read.
        seen: called with the bytes that were read so far.
    """

    def __init__(self, stream: Stream, seen: Callable[[int], None]) -> None:
        self._stream = stream
        self._seen = seen
        self._read = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        content = self._stream.read(size)
        self._read += len(content)
        self._seen(self._read)
        return content


def inspect_capture(
    stream: Stream,
    name: str,
    ports: frozenset[int] = SYMANTEC_PORTS,
    limits: CaptureLimits = CAPTURES,
) -> CaptureReport:
    """Return what a capture shows.

    Args:
        stream: pcap or pcapng, plain, gzip or zstd, at its beginning.
        name: of the file, for the report.
        ports: that are looked for.
        limits: see there.

    Raises:
        UsageError: it is no capture of these formats.
    """
    reader = open_capture(stream, ports, limits)
    summary = CaptureSummary(limits)
    table = FlowTable(ports, summary.add, limits)
    for frame in reader.frames():
        table.feed(frame)
    table.finish()
    return summary.report(name, ports, reader.log, table)
