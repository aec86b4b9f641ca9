"""What traffic on Symantec's old port is, by its first bytes and by how it was opened.

    class               verdict     by
    rtvscan-overflow    suspicious  the published signature of the worm's request (ET 2003250)
    nmap-probe          suspicious  the version probe of nmap, by TCP or UDP
    scan-raw-tool       suspicious  a SYN that no operating system makes, and no data
    savce-hello         unknown     the 16 bytes with which Symantec AntiVirus begins
    savce-answer        unknown     the 16 bytes with which it answers
    rtvscan-answer      unknown     what rtvscan answers to the probe
    gup-request         unknown     a request for Symantec content, as a client asks its GUP
    symantec-discovery  unknown     16 bytes on 38293/udp
    fleetward           expected    our paths, check-ins and announcements
    tls-client-hello    unknown     a TLS client
    http                unknown     another HTTP request
    http-answer         unknown     an HTTP answer, where the request was not seen
    other               unknown     data of no kind above
    scan-windows-stack  unknown     a Windows stack asked twice, 3 s apart, and got nothing
    no-data             unknown     a connection, or the attempt, without a byte
    client-port         expected    a client that got the port by chance: nothing listens there

Rows stand in the order of precedence: of several classes in one flow, the first one counts. A
class says what bytes look like, and anybody can send any bytes: `fleetward` is no proof of ours.

Near misses of each signature are in tests/core/test_portclass.py. The signatures recognise; none
of them is a request that does anything.

Deliberately not here: fan-out over many hosts (portwatch.report), who may speak (core.ports).
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fleetward.core.clienthello import is_client_hello, read_client_hello
from fleetward.core.ja4 import ja4
from fleetward.core.listeners import Transport
from fleetward.core.portrules import Verdict

PREFIX_BYTES: Final = 4_096
"""Of each direction: what is looked at, so that a flow costs a known amount of memory."""

MAX_DETAIL_CHARS: Final = 160
"""Of a detail: strangers choose it, and people read it."""

DISCOVERY_PORT: Final = 38_293
"""Symantec's and LANDesk's discovery service, by UDP."""

SYMANTEC_PORTS: Final = frozenset({2967, 2968, DISCOVERY_PORT})
"""Looked at unless others are named."""


class TrafficClass(StrEnum):
    """What traffic is; in the order of precedence."""

    RTVSCAN_OVERFLOW = "rtvscan-overflow"
    NMAP_PROBE = "nmap-probe"
    SCAN_RAW_TOOL = "scan-raw-tool"
    SAVCE_HELLO = "savce-hello"
    SAVCE_ANSWER = "savce-answer"
    RTVSCAN_ANSWER = "rtvscan-answer"
    GUP_REQUEST = "gup-request"
    SYMANTEC_DISCOVERY = "symantec-discovery"
    FLEETWARD = "fleetward"
    TLS_CLIENT_HELLO = "tls-client-hello"
    HTTP = "http"
    HTTP_ANSWER = "http-answer"
    OTHER = "other"
    SCAN_WINDOWS_STACK = "scan-windows-stack"
    NO_DATA = "no-data"
    CLIENT_PORT = "client-port"


PRECEDENCE: Final = {kind: place for place, kind in enumerate(TrafficClass)}


@dataclass(frozen=True, slots=True)
class ClassFact:
    """What is known of a class.

    Attributes:
        verdict: what is to be thought of it, before the operator's own knowledge.
        sentence: what it is.
        next_step: what to do about it.
        source: where the signature comes from.
    """

    verdict: Verdict
    sentence: str
    next_step: str
    source: str


_ET: Final = "Emerging Threats Open, sid 2003250; CVE-2006-2630"
_OBSERVED: Final = "scans of 2967 as they were recorded"
_SAVCE: Final = "recorded sessions of Symantec AntiVirus Corporate Edition"

FACTS: Final = {
    TrafficClass.RTVSCAN_OVERFLOW: ClassFact(
        Verdict.SUSPICIOUS,
        "it has the shape of the overflow of Symantec's rtvscan that the Sagevo worm used in 2006",
        "isolate the sender and look at it as infected; see whether the receiver runs rtvscan.exe "
        "(fleetward ports show 2967) and what it sent afterwards",
        _ET,
    ),
    TrafficClass.NMAP_PROBE: ClassFact(
        Verdict.SUSPICIOUS,
        "nmap asks which program listens",
        "ask who runs scans from this address; a scanner of yours belongs in the list of scanners",
        "nmap-service-probes, DNSVersionBindReq",
    ),
    TrafficClass.SCAN_RAW_TOOL: ClassFact(
        Verdict.SUSPICIOUS,
        "the SYN was made by a scanning tool, not by an operating system (source port 6000, "
        "IP id 256, window 16384, 40 bytes, may be fragmented)",
        "an address outside: close 2967 at the border; one inside: look at that host",
        _OBSERVED,
    ),
    TrafficClass.SAVCE_HELLO: ClassFact(
        Verdict.UNKNOWN,
        "a client of Symantec AntiVirus Corporate Edition speaks; TLS after it is ordinary",
        "no Symantec AntiVirus here: look at the sender; else plan its end, it is out of support",
        _SAVCE,
    ),
    TrafficClass.SAVCE_ANSWER: ClassFact(
        Verdict.UNKNOWN,
        "a server of Symantec AntiVirus Corporate Edition answers",
        "look at the listener: fleetward ports show 2967 on that host; it is out of support",
        _SAVCE,
    ),
    TrafficClass.RTVSCAN_ANSWER: ClassFact(
        Verdict.UNKNOWN,
        "rtvscan answers a probe, so Symantec AntiVirus runs there",
        "look at the listener: fleetward ports show 2967 on that host; it is out of support",
        "nmap-service-probes, symantec-av",
    ),
    TrafficClass.GUP_REQUEST: ClassFact(
        Verdict.UNKNOWN,
        "a client of Symantec Endpoint Protection asks a Group Update Provider for content",
        "the asked host should be a Group Update Provider of yours: ccSvcHst.exe or Smc.exe "
        "listens there; without Endpoint Protection, look at the sender",
        "Symantec, communication ports of Endpoint Protection",
    ),
    TrafficClass.SYMANTEC_DISCOVERY: ClassFact(
        Verdict.UNKNOWN,
        "Symantec's or LANDesk's discovery: who is there?",
        "find the old System Center console or LANDesk agent that asks",
        "datagrams of 16 bytes on 38293/udp",
    ),
    TrafficClass.FLEETWARD: ClassFact(
        Verdict.EXPECTED,
        "it reads as Fleetward's own; anybody could write the same bytes",
        "the asked host should be in the signed list of relays",
        "Fleetward, docs/formats.md",
    ),
    TrafficClass.TLS_CLIENT_HELLO: ClassFact(
        Verdict.UNKNOWN,
        "a TLS client begins",
        "a relay with TLS is asked so; else find out what listens: fleetward ports show",
        "RFC 8446, section 4.1.2",
    ),
    TrafficClass.HTTP: ClassFact(
        Verdict.UNKNOWN,
        "an HTTP request that is neither ours nor Symantec's",
        "see what it asks for: a scanner of web servers, or software that uses this port",
        "RFC 9112, section 3",
    ),
    TrafficClass.HTTP_ANSWER: ClassFact(
        Verdict.UNKNOWN,
        "an HTTP server answers; its request was not seen",
        "find out what listens: fleetward ports show",
        "RFC 9112, section 4",
    ),
    TrafficClass.OTHER: ClassFact(
        Verdict.UNKNOWN,
        "data that no signature knows",
        "look at both programs: fleetward ports show on the listener, and what the sender runs",
        "no signature",
    ),
    TrafficClass.SCAN_WINDOWS_STACK: ClassFact(
        Verdict.UNKNOWN,
        "a Windows stack asked and got nothing (48 bytes, not to be fragmented, again after 3 s)",
        "several hosts asked so is a bot; one is a client of a server that is gone",
        _OBSERVED,
    ),
    TrafficClass.NO_DATA: ClassFact(
        Verdict.UNKNOWN,
        "somebody knocked and sent nothing",
        "an agent whose relay is away looks the same: see whether the asked host is a relay",
        "no data in either direction",
    ),
    TrafficClass.CLIENT_PORT: ClassFact(
        Verdict.EXPECTED,
        "a client got the port by chance (old Windows gave 1025 to 5000): nothing listens on it",
        "nothing to do",
        "IANA; Windows XP and 2003 ephemeral ports",
    ),
}


@dataclass(frozen=True, slots=True)
class Classified:
    """What bytes or a flow are.

    Attributes:
        kind: the class.
        detail: what is worth a look in it, printable and short: a request, a server name.
    """

    kind: TrafficClass
    detail: str = ""

    @property
    def fact(self) -> ClassFact:
        """Return what is known of the class."""
        return FACTS[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynShape:
    """The outside of a flow's first SYN, by which tools and systems differ.

    Attributes:
        source_port: of the sender.
        ip_id: the identification of IPv4; 0 for IPv6.
        window: as it stands in the header.
        length: of the IP packet, in bytes.
        no_fragments: whether DF is set.
        repeated_after: seconds until the same SYN came again; None where it did not.
    """

    source_port: int
    ip_id: int
    window: int
    length: int
    no_fragments: bool
    repeated_after: float | None = None

    @property
    def is_raw_tool(self) -> bool:
        """Return whether a raw scanning tool made it."""
        shape = (self.source_port, self.ip_id, self.window, self.length, self.no_fragments)
        return shape == (6000, 256, 16_384, 40, False)

    @property
    def is_windows_stack(self) -> bool:
        """Return whether an old Windows stack made it and asked again after three seconds."""
        again = self.repeated_after
        is_shape = self.length == 48 and self.no_fragments
        return is_shape and again is not None and 2.5 <= again <= 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowShape:
    """A flow as far as its class depends on it.

    Attributes:
        is_watched: whether the asked port is one that is looked at; else only the client's is.
        client: what the first bytes of who opened it are; None where there are none.
        server: what the first bytes of who was asked are; None where there are none.
        syn: the first SYN, where it was seen.
        answered: whether a SYN was answered by another.
    """

    is_watched: bool = True
    client: Classified | None = None
    server: Classified | None = None
    syn: SynShape | None = None
    answered: bool = False


_HELLO: Final = bytes.fromhex("0110000014") + bytes(11)
_HELLO_ANSWER: Final = bytes.fromhex("01100000140101") + bytes(9)
_PROBE: Final = (
    bytes.fromhex("00060100000100000000000007") + b"version\x04bind" + bytes.fromhex("0000100003")
)
_STREAM_PROBE: Final = b"\x00\x1e" + _PROBE
_PROBE_ANSWER: Final = bytes.fromhex("000601010010")
_PROBE_ANSWER_BYTES: Final = 16

_MARKER: Final = b"\x00\x24\x00"
_MARKER_WITHIN: Final = 20
_OVERFLOW_BYTES: Final = 380

_GUP: Final = re.compile(
    rb"(?:GET|HEAD) (?:https?://[^/\s]{1,255})?/content/"
    rb"\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}/[0-9]{9}/"
)
_OWN_REQUEST: Final = re.compile(
    rb"(?:GET|HEAD|POST) /(?:"
    rb"metadata/(?:timestamp|[1-9][0-9]{0,9}\.[a-z0-9][a-z0-9._-]*)\.json"
    rb"|targets/(?:releases|channels|fleet)/[a-z0-9._/-]+\.json"
    rb"|blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}"
    rb"|v1/(?:watch|checkins|inbox/[0-9a-f]{64}|enroll|relay)"
    rb")(?:\?[^ ]*)? HTTP/1\.[01]\r\n"
)
_OWN_ENVELOPE: Final = b'{"payloadType":"application/vnd.fleetward.'
_ANNOUNCEMENT_STARTS: Final = (b'{"signatures":', b'{"signed":')
_ANNOUNCEMENT_MARK: Final = b'"_type":"timestamp"'
_REQUEST: Final = re.compile(rb"[A-Z][A-Z-]{1,19} [^\s]{1,2000} HTTP/1\.[01]\r?\n")
_ANSWER: Final = re.compile(rb"HTTP/1\.[01] [0-9]{3}[ \r\n]")
_HOST: Final = re.compile(rb"\r?\nhost:[ \t]*([^\s]{1,255})", re.IGNORECASE)


def is_overflow_shape(payload: bytes) -> bool:
    """Return whether bytes to a server have the shape of rtvscan's overflow.

    0x10 within the first two bytes, `00 24 00` within the next twenty, 0x5C anywhere after, and at
    least 380 bytes after that. Source: Emerging Threats Open, sid 2003250.
    """
    for at in (0, 1):
        if payload[at : at + 1] != b"\x10":
            continue
        marker = payload.find(_MARKER, at + 1, at + 1 + _MARKER_WITHIN)
        if marker < 0:
            continue
        slash = payload.find(b"\\", marker + len(_MARKER))
        if slash >= 0 and len(payload) - slash - 1 >= _OVERFLOW_BYTES:
            return True
    return False


def classify_payload(transport: Transport, payload: bytes, server_port: int = 2967) -> Classified:
    """Return what the first bytes to a server are.

    Args:
        transport: UDP: one datagram; TCP: the beginning of the stream.
        payload: at most `PREFIX_BYTES` of it are looked at.
        server_port: of who was asked.
    """
    payload = payload[:PREFIX_BYTES]
    if not payload:
        return Classified(TrafficClass.NO_DATA)
    if transport is Transport.UDP:
        found = _of_datagram(payload, server_port)
    else:
        found = _of_stream(payload)
    return found or _of_text(payload) or Classified(TrafficClass.OTHER, _hex(payload))


def classify_answer(payload: bytes) -> Classified:
    """Return what the first bytes from a server are."""
    payload = payload[:PREFIX_BYTES]
    if not payload:
        return Classified(TrafficClass.NO_DATA)
    if payload.startswith(_HELLO_ANSWER):
        return Classified(TrafficClass.SAVCE_ANSWER)
    if len(payload) == _PROBE_ANSWER_BYTES and payload.startswith(_PROBE_ANSWER):
        return Classified(TrafficClass.RTVSCAN_ANSWER)
    if _ANSWER.match(payload):
        return Classified(TrafficClass.HTTP_ANSWER, _line(payload))
    return Classified(TrafficClass.OTHER, _hex(payload))


def classify_flow(flow: FlowShape) -> Classified:
    """Return what a flow is: the class that stands first, of both directions and of its opening."""
    if not flow.is_watched:
        return Classified(TrafficClass.CLIENT_PORT)
    found = [one for one in (flow.client, flow.server) if one is not None]
    return worse(*found) if found else _of_silence(flow.syn, answered=flow.answered)


def worse(*found: Classified) -> Classified:
    """Return the one whose class stands first in the order of precedence."""
    return min(found, key=lambda one: PRECEDENCE[one.kind])


def _of_silence(syn: SynShape | None, *, answered: bool) -> Classified:
    if syn is not None and syn.is_raw_tool:
        return Classified(TrafficClass.SCAN_RAW_TOOL)
    if syn is not None and not answered and syn.is_windows_stack:
        return Classified(TrafficClass.SCAN_WINDOWS_STACK)
    return Classified(TrafficClass.NO_DATA)


def _of_datagram(payload: bytes, server_port: int) -> Classified | None:
    if payload == _PROBE:
        return Classified(TrafficClass.NMAP_PROBE, "by UDP")
    if server_port == DISCOVERY_PORT and len(payload) == 16:
        return Classified(TrafficClass.SYMANTEC_DISCOVERY, _hex(payload))
    if payload.startswith(_ANNOUNCEMENT_STARTS) and _ANNOUNCEMENT_MARK in payload:
        return Classified(TrafficClass.FLEETWARD, "an announcement")
    if payload.startswith(_OWN_ENVELOPE):
        return Classified(TrafficClass.FLEETWARD, "a check-in")
    return None


def _of_stream(payload: bytes) -> Classified | None:
    if is_overflow_shape(payload):
        return Classified(TrafficClass.RTVSCAN_OVERFLOW)
    if payload.startswith(_STREAM_PROBE):
        return Classified(TrafficClass.NMAP_PROBE, "by TCP")
    if payload.startswith(_HELLO):
        return _after_hello(payload[len(_HELLO) :])
    if is_client_hello(payload):
        return Classified(TrafficClass.TLS_CLIENT_HELLO, _hello_detail(payload))
    return None


def _after_hello(rest: bytes) -> Classified:
    if is_overflow_shape(rest):
        return Classified(TrafficClass.RTVSCAN_OVERFLOW, "after a hello")
    if is_client_hello(rest):
        return Classified(TrafficClass.SAVCE_HELLO, f"then TLS {_hello_detail(rest)}".rstrip())
    return Classified(TrafficClass.SAVCE_HELLO, "then data" if rest else "")


def _of_text(payload: bytes) -> Classified | None:
    if _GUP.match(payload):
        return Classified(TrafficClass.GUP_REQUEST, _line(payload))
    if _OWN_REQUEST.match(payload):
        return Classified(TrafficClass.FLEETWARD, _line(payload))
    if _REQUEST.match(payload):
        host = _HOST.search(payload)
        said = f" (host {_safe(host[1])})" if host else ""
        return Classified(TrafficClass.HTTP, (_line(payload) + said)[:MAX_DETAIL_CHARS])
    return None


def _hello_detail(payload: bytes) -> str:
    hello = read_client_hello(payload)
    fingerprint = ja4(hello)
    name = f"for {hello.server_name}" if hello.server_name else ""
    offered = f"offers {', '.join(hello.protocols)}" if hello.protocols else ""
    seen = f"ja4={fingerprint}" if fingerprint else ""
    return " ".join(filter(None, (seen, name, offered)))[:MAX_DETAIL_CHARS]


def _line(payload: bytes) -> str:
    return _safe(payload[:MAX_DETAIL_CHARS].partition(b"\n")[0].rstrip(b"\r"))


def _hex(payload: bytes) -> str:
    return payload[:16].hex(" ")


def _safe(text: bytes) -> str:
    """Return bytes of a stranger as text that a terminal may show."""
    return "".join(chr(c) if 0x20 <= c < 0x7F else "?" for c in text)
