"""What a capture shows: who asked whom for what, what is suspicious in it, and when it was.

Invariants: every table is bounded (`CaptureLimits`), and what found no place is counted in the
report, so that "and N more" is true; conversations are bounded for each class apart, so that a scan
of a million flows hides no other class.

Two findings are no class of a single flow: `fan-out`, one source that asks many hosts and says
nothing to them, and `contradiction`, segments that say something else of bytes already sent.

Deliberately not here: reading captures (portwatch.capture), pages and pictures (portwatch.page).
"""

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

from fleetward.core.portclass import FACTS, PRECEDENCE, TrafficClass
from fleetward.core.portrules import Verdict
from fleetward.portwatch.capture.frames import LINK_NAMES, ReadLog
from fleetward.portwatch.flows import Flow, FlowTable
from fleetward.portwatch.limits import CAPTURES, FAN_OUT_HOSTS, CaptureLimits
from fleetward.portwatch.timeline import Bin, Timeline

SCHEMA: Final = "fleetward.capture/1"
_SEVERITY: Final = {Verdict.EXPECTED: 0, Verdict.UNKNOWN: 1, Verdict.SUSPICIOUS: 2}
_SILENT: Final = frozenset(
    {TrafficClass.NO_DATA, TrafficClass.SCAN_RAW_TOOL, TrafficClass.SCAN_WINDOWS_STACK}
)
_SHOWN_SOURCES: Final = 5
"""Sources that a finding names; the table has all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Flows of one class from one source to one server.

    Attributes:
        transport: tcp or udp.
        client: the address of who opened.
        server: the address of who was asked.
        port: that was asked.
        kind: the class.
        verdict: of the class.
        opened_by: how it is known who opened, with how often.
        flows: how many.
        answered: to how many the server sent something but a reset.
        packets: from client and server.
        octets: on the wire, of both.
        first: when the first one began.
        last: when the last one ended.
        detail: of the first one that has one.
    """

    transport: str
    client: str
    server: str
    port: int
    kind: TrafficClass
    verdict: Verdict
    opened_by: dict[str, int]
    flows: int
    answered: int
    packets: tuple[int, int]
    octets: tuple[int, int]
    first: datetime
    last: datetime
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who opened flows.

    Attributes:
        address: see there.
        flows: how many.
        silent: how many of them had no byte in either direction.
        servers: different hosts that were asked.
        servers_are_all: False where more were than could be told apart.
        classes: flows by class.
        fans_out: whether it looks like a scan.
        first: when the first one began.
        last: when the last one ended.
    """

    address: str
    flows: int
    silent: int
    servers: int
    servers_are_all: bool
    classes: dict[str, int]
    fans_out: bool
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that the capture shows, for people.

    Attributes:
        id: a class, `fan-out` or `contradiction`.
        verdict: what is to be thought of it.
        sentence: what it is.
        next_step: what to do about it.
        source: where the signature comes from.
        flows: how many show it.
        from_addresses: some of the sources.
        from_more: further sources.
    """

    id: str
    verdict: Verdict
    sentence: str
    next_step: str
    source: str
    flows: int
    from_addresses: tuple[str, ...]
    from_more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureReport:
    """What a capture shows; the document `fleetward.capture/1`.

    Attributes:
        file: its name.
        ports: that were looked for.
        verdict: the worst of the findings; expected where there is none.
        truncated: whether the file ends early or is damaged.
        notes: what the reader noticed, with how often.
        packets: in the file.
        octets: captured bytes of them.
        links: packets by link type.
        packets_on_ports: that belong to flows on the ports.
        flows: on the ports.
        first: when the first flow began; None where there is none.
        last: when the last one ended.
        findings: the worst first.
        conversations: the worst first, then by flows.
        more_flows: by class: flows of conversations that found no place.
        sources: by flows.
        more_source_flows: flows of sources that found no place.
        bin_seconds: width of a bin of the timeline.
        timeline: flows by class and when they began.
    """

    file: str
    ports: tuple[int, ...]
    verdict: Verdict
    truncated: bool
    notes: dict[str, int]
    packets: int
    octets: int
    links: dict[str, int]
    packets_on_ports: int
    flows: int
    first: datetime | None
    last: datetime | None
    findings: tuple[Finding, ...]
    conversations: tuple[Conversation, ...]
    more_flows: dict[str, int]
    sources: tuple[Source, ...]
    more_source_flows: int
    bin_seconds: float
    timeline: tuple[Bin, ...]


@dataclass(slots=True)
class _Talk:
    opened_by: Counter[str] = field(default_factory=Counter)
    flows: int = 0
    answered: int = 0
    packets: tuple[int, int] = (0, 0)
    octets: tuple[int, int] = (0, 0)
    first: float = float("inf")
    last: float = float("-inf")
    detail: str = ""

    def add(self, flow: Flow) -> None:
        self.opened_by[flow.opened.value] += 1
        self.flows += 1
        self.answered += flow.answered
        self.packets = self.packets[0] + flow.from_client[0], self.packets[1] + flow.from_server[0]
        self.octets = self.octets[0] + flow.from_client[1], self.octets[1] + flow.from_server[1]
        self.first, self.last = min(self.first, flow.first), max(self.last, flow.last)
        self.detail = self.detail or flow.classified.detail


@dataclass(slots=True)
class _Asker:
    flows: int = 0
    silent: int = 0
    peers: set[bytes] = field(default_factory=set)
    has_more_peers: bool = False
    classes: Counter[TrafficClass] = field(default_factory=Counter)
    first: float = float("inf")
    last: float = float("-inf")

    @property
    def fans_out(self) -> bool:
        return len(self.peers) >= FAN_OUT_HOSTS and 2 * self.silent >= self.flows


_TalkKey = tuple[str, bytes, bytes, int]


class CaptureSummary:
    """Takes flows as they end, and makes the report of them.

    Args:
        limits: see there.
    """

    def __init__(self, limits: CaptureLimits = CAPTURES) -> None:
        self.flows = 0
        self._limits = limits
        self._talks: dict[TrafficClass, dict[_TalkKey, _Talk]] = {}
        self._more_flows: Counter[TrafficClass] = Counter()
        self._classes: Counter[TrafficClass] = Counter()
        self._askers: dict[bytes, _Asker] = {}
        self._more_source_flows = 0
        self._peers = 0
        self._contradictions: Counter[bytes] = Counter()
        self._contradicting = 0
        self._dropped = 0
        self._timeline = Timeline(limits.timeline_bins)

    def add(self, flow: Flow) -> None:
        """Take a flow."""
        kind = flow.classified.kind
        self.flows += 1
        self._classes[kind] += 1
        self._timeline.add(flow.first, kind.value)
        self._dropped += flow.dropped
        if flow.contradictions:
            self._contradicting += 1
            if len(self._contradictions) < self._limits.sources:
                self._contradictions[flow.client] += 1
        self._add_talk(flow, kind)
        if kind is not TrafficClass.CLIENT_PORT:
            self._add_asker(flow, kind)

    def _add_talk(self, flow: Flow, kind: TrafficClass) -> None:
        talks = self._talks.setdefault(kind, {})
        key = (flow.transport.value, flow.client, flow.server, flow.server_port)
        talk = talks.get(key)
        if talk is None:
            if len(talks) >= self._limits.conversations:
                self._more_flows[kind] += 1
                return
            talk = talks[key] = _Talk()
        talk.add(flow)

    def _add_asker(self, flow: Flow, kind: TrafficClass) -> None:
        asker = self._askers.get(flow.client)
        if asker is None:
            if len(self._askers) >= self._limits.sources:
                self._more_source_flows += 1
                return
            asker = self._askers[flow.client] = _Asker()
        asker.flows += 1
        asker.silent += kind in _SILENT
        asker.classes[kind] += 1
        asker.first, asker.last = min(asker.first, flow.first), max(asker.last, flow.last)
        if flow.server not in asker.peers:
            is_room = len(asker.peers) < self._limits.peers and self._peers < self._limits.all_peers
            if is_room:
                asker.peers.add(flow.server)
                self._peers += 1
            else:
                asker.has_more_peers = True

    # -- the report ----------------------------------------------------------------------------

    def report(
        self, name: str, ports: Iterable[int], log: ReadLog, table: FlowTable
    ) -> CaptureReport:
        """Return what the capture shows.

        Args:
            name: of the file.
            ports: that were looked for.
            log: of its reader, which is at its end.
            table: that gave the flows, finished.
        """
        findings = sorted(self._findings(), key=lambda one: -_SEVERITY[one.verdict])
        talks = [talk for kind in self._talks.values() for talk in kind.values()]
        return CaptureReport(
            file=name,
            ports=tuple(sorted(ports)),
            verdict=findings[0].verdict if findings else Verdict.EXPECTED,
            truncated=log.truncated,
            notes=dict(log.notes) | self._own_notes(table),
            packets=log.packets,
            octets=log.octets,
            links={LINK_NAMES.get(link, str(link)): n for link, n in log.links.items()},
            packets_on_ports=table.packets,
            flows=self.flows,
            first=instant(min(talk.first for talk in talks)) if talks else None,
            last=instant(max(talk.last for talk in talks)) if talks else None,
            findings=tuple(findings),
            conversations=tuple(sorted(self._conversations(), key=_worst_first)),
            more_flows={kind.value: n for kind, n in self._more_flows.items()},
            sources=tuple(sorted(self._sources(), key=lambda one: (-one.flows, one.address))),
            more_source_flows=self._more_source_flows,
            bin_seconds=self._timeline.width,
            timeline=tuple(self._timeline.bins()),
        )

    def _own_notes(self, table: FlowTable) -> dict[str, int]:
        network = table.network
        notes = {
            "fragments were put together": network.fragments,
            "fragmented datagrams never became whole": network.unfinished,
            "fragments contradict what came before": network.contradictions,
            "flows were summed up before their end, to keep memory bounded": table.early,
            "segments were too many to be put in order": self._dropped,
        }
        return {note: count for note, count in notes.items() if count}

    def _findings(self) -> Iterator[Finding]:
        scanners = [address for address, asker in self._askers.items() if asker.fans_out]
        if scanners:
            flows = sum(self._askers[address].flows for address in scanners)
            yield _finding("fan-out", _FAN_OUT, flows, scanners)
        if self._contradicting:
            yield _finding(
                "contradiction", _CONTRADICTION, self._contradicting, list(self._contradictions)
            )
        for kind in sorted(self._classes, key=PRECEDENCE.__getitem__):
            fact = FACTS[kind]
            clients = list(dict.fromkeys(key[1] for key in self._talks[kind]))
            texts = (fact.verdict, fact.sentence, fact.next_step, fact.source)
            yield _finding(kind.value, texts, self._classes[kind], clients)

    def _conversations(self) -> Iterator[Conversation]:
        for kind, talks in self._talks.items():
            for (transport, client, server, port), talk in talks.items():
                yield Conversation(
                    transport=transport,
                    client=address_text(client),
                    server=address_text(server),
                    port=port,
                    kind=kind,
                    verdict=FACTS[kind].verdict,
                    opened_by=dict(talk.opened_by),
                    flows=talk.flows,
                    answered=talk.answered,
                    packets=talk.packets,
                    octets=talk.octets,
                    first=instant(talk.first),
                    last=instant(talk.last),
                    detail=talk.detail,
                )

    def _sources(self) -> Iterator[Source]:
        for address, asker in self._askers.items():
            yield Source(
                address=address_text(address),
                flows=asker.flows,
                silent=asker.silent,
                servers=len(asker.peers),
                servers_are_all=not asker.has_more_peers,
                classes={kind.value: count for kind, count in asker.classes.items()},
                fans_out=asker.fans_out,
                first=instant(asker.first),
                last=instant(asker.last),
            )


_Texts = tuple[Verdict, str, str, str]

_FAN_OUT: Final[_Texts] = (
    Verdict.SUSPICIOUS,
    f"one source asked {FAN_OUT_HOSTS} hosts or more, most of them without saying a word: a scan",
    (
        "ask who runs scans from there; an old System Center console that polls its clients looks "
        "the same, and should be gone"
    ),
    "counted over the whole capture",
)
_CONTRADICTION: Final[_Texts] = (
    Verdict.SUSPICIOUS,
    "bytes of a stream were sent again with other content: two readers may see two streams",
    "look at these flows packet by packet; the first content is what was classified",
    "RFC 9293, section 3.10: a receiver may keep either",
)


def _finding(which: str, texts: _Texts, flows: int, clients: list[bytes]) -> Finding:
    verdict, sentence, next_step, source = texts
    return Finding(
        id=which,
        verdict=verdict,
        sentence=sentence,
        next_step=next_step,
        source=source,
        flows=flows,
        from_addresses=tuple(address_text(one) for one in clients[:_SHOWN_SOURCES]),
        from_more=max(0, len(clients) - _SHOWN_SOURCES),
    )


def _worst_first(one: Conversation) -> tuple[int, int, int, str, str, int]:
    severity, place = -_SEVERITY[one.verdict], PRECEDENCE[one.kind]
    return severity, place, -one.flows, one.client, one.server, one.port


@lru_cache(maxsize=4_096)
def address_text(address: bytes) -> str:
    """Return an address of 4 or 16 bytes as text; IPv4 inside IPv6 as IPv4."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(found)


def instant(seconds: float) -> datetime:
    """Return an instant, whatever number stands in a file; at the edge where none can be."""
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime.min.replace(tzinfo=UTC)
