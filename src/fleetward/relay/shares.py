"""Who has how much of the spool, and so who may still add to it: pure.

A spool is shared by hosts that do not trust each other. Keys cost nothing, so a flood may come in
the name of one host or of a million; addresses cost something over TCP, and nothing over UDP. So
one host has a share, one address has a share whatever it names, and all datagrams together have
one. What no share stops stops at the whole.
"""

import hashlib
from enum import Enum
from typing import Final, TypeVar

from fleetward.config.relay import SpoolSettings
from fleetward.core.limits import STATUS
from fleetward.relay.segments import Record, Way

_Name = TypeVar("_Name", int, str)


class Fate(Enum):
    """What became of a check-in that was to be kept."""

    KEPT = "kept"
    REPEATED = "repeated"
    FULL = "full"
    HOST_SHARE = "host-share"
    SOURCE_SHARE = "source-share"
    DATAGRAM_SHARE = "datagram-share"
    DISK = "disk"

    @property
    def is_durable(self) -> bool:
        """Return whether the check-in is on the disk."""
        return self in _DURABLE


_DURABLE: Final = frozenset({Fate.KEPT, Fate.REPEATED})


class Shares:
    """What waits, by host, by address and by way.

    Attributes:
        bytes: of all that waits.
        count: check-ins that wait.
        hosts: bytes by the first 8 bytes of a host's id, as a number: a flood of new keys may bring
            hundreds of thousands, and nobody makes a key for another's 8 bytes.
    """

    def __init__(self, settings: SpoolSettings) -> None:
        self.bytes = 0
        self.count = 0
        self.hosts: dict[int, int] = {}
        self._settings = settings
        self._sources: dict[str, int] = {}
        self._datagrams = 0
        self._known: set[int] = set()

    def fate_of(self, record: Record) -> Fate:
        """Return KEPT where there is room for `record`, REPEATED where it waits already, or why not."""
        settings, size = self._settings, record.size
        if _mark_of(record) in self._known:
            return Fate.REPEATED
        if self.bytes + size > settings.max_bytes:
            return Fate.FULL
        if self.hosts.get(_host_of(record), 0) + size > self._part(settings.max_share):
            return Fate.HOST_SHARE
        of_source = self._sources.get(record.source, 0) + size if record.source else 0
        if of_source > self._part(settings.max_peer_share):
            return Fate.SOURCE_SHARE
        of_datagrams = self._datagrams + size if record.way is Way.DATAGRAM else 0
        if of_datagrams > self._part(settings.max_datagram_share):
            return Fate.DATAGRAM_SHARE
        return Fate.KEPT

    def _part(self, share: float) -> float:
        """Return a share in bytes: never so little that a check-in of any size does not fit."""
        return max(share * self._settings.max_bytes, 2 * STATUS.envelope_bytes)

    def add(self, record: Record) -> None:
        """Count a check-in that is kept; nothing where it is counted already."""
        mark = _mark_of(record)
        if mark not in self._known:
            self._known.add(mark)
            self._change(record, record.size)
            self.count += 1

    def drop(self, record: Record) -> None:
        """Take off what `add` put on; nothing where it is not counted."""
        mark = _mark_of(record)
        if mark in self._known:
            self._known.remove(mark)
            self._change(record, -record.size)
            self.count -= 1

    def _change(self, record: Record, by: int) -> None:
        self.bytes += by
        if record.way is Way.DATAGRAM:
            self._datagrams += by
        _change(self.hosts, _host_of(record), by)
        if record.source:
            _change(self._sources, record.source, by)


def _host_of(record: Record) -> int:
    return int(record.host[:16], 16)


def _change(shares: dict[_Name, int], name: _Name, by: int) -> None:
    share = shares.get(name, 0) + by
    if share > 0:
        shares[name] = share
    else:
        shares.pop(name, None)


def _mark_of(record: Record) -> int:
    """Return what tells an envelope from others: 8 bytes of its digest.

    An accident in 64 bits does not happen in a spool of a million; whoever makes one on purpose
    makes it of two envelopes of his own, and loses one.
    """
    return int.from_bytes(hashlib.sha256(record.carried.envelope).digest()[:8], "big")
