"""What the port watch says to others: the document of `ports show --json`, events, the summary.

    fleetward.ports/1    all that is known of the listeners that were asked for, with verdicts
    an event's subject   `tcp/2967 rtvscan.exe`
    an event's detail    `suspicious every-address sha256=… unit=… reasons=a,b path=…`; words, the
                         path last since it may have spaces; what does not fit is cut at its end
    the summary          in each check-in: how many, how many unexpected, and a digest of the list

A reader passes over words that it does not know. Everything in an event that a program chooses
(its name, its path) is for people; what machines join by is the digest and the ids of reasons.

Deliberately not here: verdicts (core.ports), what is an event (core.portchanges).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from fleetward.core.digest import sha256_of
from fleetward.core.limits import STATUS
from fleetward.core.listeners import Owner, Platform, Reach, Survey, Transport, Unseen
from fleetward.core.portchanges import Change, Known, Observation, Watched
from fleetward.core.portregistry import FACTS
from fleetward.core.portrules import Verdict
from fleetward.core.ports import Judged, Reason
from fleetward.core.status import EventKind, PortsSummary
from fleetward.errors import DocumentError
from fleetward.wire.documents import decode_json, encode_json

PORTS_SCHEMA: Final = "fleetward.ports/1"
SHOWN_DIGITS: Final = 32
"""Of an executable's digest, in an event; hosts shorten trees so, too."""

_SHOWN_REASONS: Final = 4
_SHOWN_UNIT_CHARS: Final = 40
_BADNESS: Final = (Verdict.EXPECTED, Verdict.UNKNOWN, Verdict.SUSPICIOUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerRow:
    """One listener of the document.

    Attributes:
        protocol: tcp or udp.
        address: that it is bound to.
        port: the port.
        families: `ipv4`, `ipv6`; of an IPv6 socket whose flag could not be seen, `ipv6` alone.
        reach: who can reach it.
        reachable: whether other hosts can, by its address.
        namespace: inode of its network namespace; 0 where the platform has none.
        in_own_namespace: whether that is the namespace of whoever looked.
        user: who made the socket.
        unit: systemd unit.
        container: runtime and id.
        activated: whether a service manager made the socket.
        owners: who holds it.
        verdict: what to think of it.
        reasons: why.
    """

    protocol: Transport
    address: str
    port: int
    families: tuple[str, ...]
    reach: Reach
    reachable: bool
    namespace: int
    in_own_namespace: bool
    user: str
    unit: str
    container: str
    activated: bool
    owners: tuple[Owner, ...]
    verdict: Verdict
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortsDocument:
    """`fleetward.ports/1`.

    Attributes:
        made: when.
        host: the host's name.
        platform: linux, macos or windows.
        method: how sockets were listed.
        ports: that were asked for; empty for all.
        verdict: the worst of the listeners'; `expected` where there are none.
        listeners: by protocol, port and address.
        unseen: what could not be seen, and the command that would show it.
        registry: what is known of the ports that were asked for, as sentences.
    """

    made: datetime
    host: str
    platform: Platform
    method: str
    ports: tuple[int, ...]
    verdict: Verdict
    listeners: tuple[ListenerRow, ...]
    unseen: tuple[Unseen, ...]
    registry: tuple[str, ...]


def ports_document(
    survey: Survey, judged: Iterable[Judged], *, ports: Iterable[int], host: str, made: datetime
) -> PortsDocument:
    """Return what `ports show` found, as a document.

    Args:
        survey: how it was found.
        judged: its listeners with their verdicts.
        ports: that were asked for; none for all.
        host: the host's name.
        made: when, in UTC.
    """
    rows = tuple(_row_of(one) for one in judged)
    asked = tuple(sorted(ports))
    shown = set(asked) or {row.port for row in rows}
    return PortsDocument(
        made=made,
        host=host,
        platform=survey.platform,
        method=survey.method,
        ports=asked,
        verdict=max((row.verdict for row in rows), key=_BADNESS.index, default=Verdict.EXPECTED),
        listeners=rows,
        unseen=survey.unseen,
        registry=tuple(f"{fact.port}: {fact.sentence()}" for fact in FACTS if fact.port in shown),
    )


def _row_of(judged: Judged) -> ListenerRow:
    listener, socket = judged.listener, judged.listener.socket
    is_v6 = ":" in socket.address
    return ListenerRow(
        protocol=socket.protocol,
        address=socket.address,
        port=socket.port,
        families=("ipv4", "ipv6") if listener.serves_both else ("ipv6",) if is_v6 else ("ipv4",),
        reach=listener.reach,
        reachable=listener.reach is not Reach.LOOPBACK,
        namespace=socket.namespace,
        in_own_namespace=listener.in_own_namespace,
        user=listener.user,
        unit=listener.unit,
        container=listener.container,
        activated=listener.activated,
        owners=listener.owners,
        verdict=judged.verdict,
        reasons=judged.reasons,
    )


def encode_ports(document: PortsDocument) -> bytes:
    """Return a document's JSON, `schema` first."""
    return encode_json(PORTS_SCHEMA, document)


def decode_ports(content: bytes) -> PortsDocument:
    """Return a document.

    Raises:
        DocumentError: another schema, or a field that is missing or out of range.
    """
    return decode_json(PORTS_SCHEMA, PortsDocument, content)


# -- check-ins ---------------------------------------------------------------------------------


def summary_of(watched: Watched) -> PortsSummary:
    """Return the port watch in three values; the digest changes when an identity or verdict does."""
    rows = [(*msgspec.to_builtins(one.identity).values(), one.verdict) for one in watched.known]
    return PortsSummary(
        listeners=len(watched.known),
        unexpected=watched.unexpected,
        digest=sha256_of(msgspec.json.encode(rows))[:SHOWN_DIGITS],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerNote:
    """What an event says of a listener, as the console stores it.

    Attributes:
        protocol: tcp or udp.
        port: the port.
        name: of the program.
        verdict: what the host thinks of it.
        reach: who can reach it.
        sha256: the first 32 digits of the executable's digest; empty for unknown.
        unit: systemd unit, cut after 40 characters.
        container: where it is in another network namespace.
        reasons: ids, at most four.
        was: of a change, the first 32 digits of the digest before, or the verdict before.
        path: of the executable or script, as far as it fits.
    """

    protocol: Transport
    port: int
    name: str
    verdict: Verdict
    reach: Reach
    sha256: str = ""
    unit: str = ""
    container: str = ""
    reasons: tuple[str, ...] = ()
    was: str = ""
    path: str = ""


_KINDS: Final = {
    Change.OPENED: EventKind.LISTENER_OPENED,
    Change.CLOSED: EventKind.LISTENER_CLOSED,
    Change.CHANGED: EventKind.LISTENER_CHANGED,
    Change.MUTED: EventKind.LISTENER_CHANGED,
}


def event_of(observation: Observation) -> tuple[EventKind, str, str]:
    """Return kind, subject and detail of the event that tells an observation."""
    kind = _KINDS[observation.change]
    if observation.now is None:
        return kind, "", f"{observation.muted} more changes were not told one by one"
    one = observation.now
    subject = f"{one.identity.protocol}/{one.identity.port} {one.name}".rstrip()
    return kind, subject, _detail(one, observation.before)


def _detail(one: Known, before: Known | None) -> str:
    identity = one.identity
    words: list[str] = [one.verdict, identity.reach]
    named = {
        "sha256": _digest(one),
        "was": _was(one, before),
        "unit": identity.unit[:_SHOWN_UNIT_CHARS],
        "container": identity.elsewhere.replace(" ", ":"),
        "reasons": ",".join(one.reasons[:_SHOWN_REASONS]),
    }
    words += [f"{name}={value}" for name, value in named.items() if value]
    words += [f"path={one.path}"] if one.path else []
    return " ".join(words)[: STATUS.text_chars]


def _digest(one: Known) -> str:
    executable = one.identity.executable
    is_digest = len(executable) == 64 and "/" not in executable
    return executable[:SHOWN_DIGITS] if is_digest else ""


def _was(one: Known, before: Known | None) -> str:
    if before is None:
        return ""
    return before.verdict if before.identity == one.identity else _digest(before)


def parse_listener_event(subject: str, detail: str) -> ListenerNote:
    """Return what `event_of` wrote of a listener.

    Raises:
        DocumentError: another form; show the texts as they are.
    """
    place, _, name = subject.partition(" ")
    protocol, _, port = place.partition("/")
    words, _, path = detail.partition(" path=")
    verdict, _, rest = words.partition(" ")
    reach, *pairs = rest.split(" ")
    named = dict(pair.partition("=")[::2] for pair in pairs)
    try:
        return ListenerNote(
            protocol=Transport(protocol),
            port=int(port),
            name=name,
            verdict=Verdict(verdict),
            reach=Reach(reach),
            sha256=named.get("sha256", ""),
            unit=named.get("unit", ""),
            container=named.get("container", ""),
            reasons=tuple(filter(None, named.get("reasons", "").split(","))),
            was=named.get("was", ""),
            path=path,
        )
    except ValueError as error:
        raise DocumentError(f"not an event of a listener: {subject[:80]!r}") from error
