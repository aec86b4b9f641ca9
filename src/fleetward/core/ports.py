"""What is to be thought of a listener: a verdict, and the reasons for it.

    verdict     where                                               wins over
    suspicious  any reason weighs `suspicious`                      everything
    unknown     any reason weighs `unknown`, or none `expected`     expected
    expected    a reason weighs `expected`, and nothing above       nothing

    id                    weighs       fires where
    operator-rule         as it says   the operator's first rule that matches
    symantec-program      expected     rtvscan.exe, ccSvcHst.exe or Smc.exe, on Windows, in a
                                       folder of Symantec's, on a port of theirs, and not signed
                                       by anybody else
    fleetward-program     expected     an interpreter runs a server of Fleetward's, or its agent
                                       hears announcements (UDP)
    own-sensor            expected     the agent that looks hears there itself, as its settings ask
    imitation             suspicious   a name that looks like one of those, at another place
    unprintable-name      suspicious   a name or path with control characters: it writes on terminals
    executable-deleted    suspicious   the executable's file is gone
    executable-in-memory  suspicious   the executable was never a file
    writable-by-anyone    suspicious   anybody on the host can replace the executable or script
    package-altered       suspicious   the package's digest of the executable is another
    signature-broken      suspicious   the executable is signed, and is not what was signed
    no-relay-role         suspicious   it is on 2967, the host is stated to be no relay, and nothing
                                       but a relay's own program speaks for it
    owner-unseen          unknown      nobody could see who holds the socket
    shared-port           unknown      programs from different files share the port (SO_REUSEPORT)
    interpreter-unpinned  unknown      an interpreter, and neither unit nor script was pinned
    executable-replaced   note         a newer file has the path: an update without a restart
    other-namespace       note         it is in another network namespace: a container, often
    socket-activation     note         a service manager made the socket
    inherited             note         several programs hold the socket
    serves-both           note         `::` takes IPv4 too
    reachable             note         other hosts can reach it, by its address
    ephemeral-range       note         the port lies where clients get theirs
    registry              note         what the registry says of the port
    nothing-expects-it    unknown      no reason weighs `expected`

Near misses are in the tests, one for each line.

Deliberately not here: how listeners are found (listeners), what changed (core.portchanges).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from fleetward.core.imitation import looks_like
from fleetward.core.interpreters import file_name, is_interpreter
from fleetward.core.listeners import (
    FileState,
    Listener,
    Owner,
    Platform,
    Reach,
    Script,
    Signature,
    Survey,
    Transport,
)
from fleetward.core.portregistry import OLD_WINDOWS_EPHEMERAL, fact_of
from fleetward.core.portrules import PortRule, Verdict

RELAY_PORT: Final = 2967
"""Where Fleetward's relays listen, and Symantec's programs did."""

_SYMANTEC_PORTS: Final = frozenset({2967, 2968, 38037, 38292, 38293})
_SYMANTEC_PROGRAMS: Final = ("rtvscan.exe", "ccsvchst.exe", "smc.exe")
_SYMANTEC_PLACES: Final = (
    r"?:\program files*\*symantec*\*",
    r"?:\program files*\*norton*\*",
    r"?:\program files*\navnt\*",
    r"?:\program files*\sav\*",
)
_SYMANTEC_SIGNERS: Final = ("symantec", "broadcom")
_FLEETWARD_NAMES: Final = ("fleetward", "fleetward-relay")
_FLEETWARD_SERVERS: Final[dict[tuple[str, ...], str]] = {
    ("relay", "run"): "relay",
    ("origin", "serve"): "origin",
    ("console", "run"): "console",
    ("ports", "sense"): "sensor",
}
_AGENT_MODULE: Final = "fleetward.cli.agentd"


class RelayRole(StrEnum):
    """Whether a host is meant to be a relay."""

    RELAY = "relay"
    NONE = "none"
    UNSTATED = "unstated"


class Weight(StrEnum):
    """What a reason does to the verdict."""

    NOTE = "note"
    EXPECTED = "expected"
    UNKNOWN = "unknown"
    SUSPICIOUS = "suspicious"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSensor:
    """The sensor of the agent that looks.

    Attributes:
        pid: of the agent itself: nobody else can have it while it looks.
        places: where it was told to hear.
    """

    pid: int
    places: frozenset[tuple[Transport, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the operator says of his hosts.

    Attributes:
        rules: the first that matches a listener decides.
        role: whether this host is meant to be a relay.
        sensor: of the agent that looks; None where it has none.
    """

    rules: tuple[PortRule, ...] = ()
    role: RelayRole = RelayRole.UNSTATED
    sensor: OwnSensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why a verdict is what it is.

    Attributes:
        id: a row of the table above.
        weight: what it does to the verdict.
        sentence: what was found, for people.
        next_step: what to do about it; empty where nothing is to be done.
    """

    id: str
    weight: Weight
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A listener with its verdict."""

    listener: Listener
    verdict: Verdict
    reasons: tuple[Reason, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the reasons that decide: notes left out."""
        return tuple(r.id for r in self.reasons if r.weight is not Weight.NOTE)


_NEXT: Final = {
    "imitation": "treat the host as compromised until the file at that path is explained",
    "unprintable-name": "look at it with --json alone: on a terminal it may hide or fake lines",
    "executable-deleted": "copy /proc/PID/exe away before you end the program; then ask who "
    "removed the file",
    "executable-in-memory": "copy /proc/PID/exe away before you end the program; honest services "
    "are started from files",
    "writable-by-anyone": "take the write permission away, then compare the file with its package",
    "package-altered": "reinstall the package, and find out who changed the file",
    "signature-broken": "install the program again, and find out who changed the file",
    "no-relay-role": 'stop it, or state the role: relay = "relay" in the port watch\'s settings',
    "owner-unseen": "look as root: sudo fleetward ports show; where root sees nobody, the owner is "
    "outside of this container",
    "shared-port": "find out which of the programs is meant to have the port, and stop the other",
    "interpreter-unpinned": "write a rule that names the unit, or script and script_sha256",
    "executable-replaced": "restart the program, so that it runs what is installed",
    "other-namespace": "look in that namespace: sudo nsenter --net=/proc/PID/ns/net ss -tulpn",
    "serves-both": "count it as reachable by IPv4 as well",
    "reachable": "narrow it with a firewall: fleetward ports rules",
    "ephemeral-range": "of a packet seen on the wire, look at who sent the first one (SYN)",
    "nothing-expects-it": "if it belongs there, write a rule for it (--config); else stop it",
}

REASON_IDS: Final = frozenset(
    {*_NEXT, "operator-rule", "symantec-program", "fleetward-program", "own-sensor"}
    | {"socket-activation", "inherited", "registry"}
)
"""Every id; closed, so that a rule's `despite` with a slip of the pen is refused."""


def next_step_for(reason: str) -> str:
    """Return what to do about the reason with that id; empty where there is nothing to do."""
    return _NEXT.get(reason, "")


def judge(survey: Survey, expectations: Expectations) -> tuple[Judged, ...]:
    """Return a survey's listeners with their verdicts, in the survey's order."""
    programs = _programs_by_port(survey.listeners)
    return tuple(
        _Case(listener, survey, expectations, programs[_place(listener)]).judged()
        for listener in survey.listeners
    )


def _place(listener: Listener) -> tuple[int, Transport, str, int]:
    socket = listener.socket
    return socket.namespace, socket.protocol, socket.address, socket.port


def _programs_by_port(listeners: Sequence[Listener]) -> dict[tuple[object, ...], set[str]]:
    found: dict[tuple[object, ...], set[str]] = {}
    for listener in listeners:
        first = listener.principal
        file = first.executable if first else None
        paths = found.setdefault(_place(listener), set())
        if file is not None:
            paths.add(file.sha256 or file.path)
    return found


@dataclass(frozen=True, slots=True)
class _Case:
    """One listener before its judge."""

    listener: Listener
    survey: Survey
    expectations: Expectations
    sharing: set[str] = field(default_factory=set)

    def judged(self) -> Judged:
        rule = self._rule()
        found = list(self._speaking_for_it(rule))
        found += self._suspicions()
        if self._lacks_role(found):
            found.append(_reason("no-relay-role", Weight.SUSPICIOUS, _NO_ROLE))
        found += self._doubts(rule)
        if rule is not None:
            found = [_excused(reason, rule) for reason in found]
        if not any(reason.weight is Weight.EXPECTED for reason in found):
            found.append(_reason("nothing-expects-it", Weight.UNKNOWN, "no rule expects it"))
        reasons = (*found, *self._notes())
        return Judged(listener=self.listener, verdict=verdict_of(reasons), reasons=reasons)

    # -- what speaks for it --------------------------------------------------------------------

    def _rule(self) -> PortRule | None:
        platform = self.survey.platform
        rules = self.expectations.rules
        return next((rule for rule in rules if rule.matches(self.listener, platform)), None)

    def _speaking_for_it(self, rule: PortRule | None) -> Iterator[Reason]:
        if rule is not None:
            sentence = f"the operator's rule {rule.name!r} says {rule.verdict.value}"
            yield Reason(id="operator-rule", weight=Weight(rule.verdict.value), sentence=sentence)
        owner = self.listener.principal
        if owner is None:
            return
        port, protocol = self.listener.socket.port, self.listener.socket.protocol
        if self._is_own_sensor():
            yield _reason("own-sensor", Weight.EXPECTED, "this host's agent hears there itself")
        if port in _SYMANTEC_PORTS and self._is_symantec(owner):
            sentence = f"{owner.name} is Symantec's, at its place, on a port of Symantec's"
            yield _reason("symantec-program", Weight.EXPECTED, sentence)
        if own := fleetward_program(owner.script, protocol):
            sentence = (
                f"its command line is that of Fleetward's {own}; a program can forge it, so a rule "
                "that names its unit or script_sha256 says more"
            )
            yield _reason("fleetward-program", Weight.EXPECTED, sentence)

    def _is_own_sensor(self) -> bool:
        """Return whether the agent that looks holds the socket, and nobody beside it."""
        sensor, socket = self.expectations.sensor, self.listener.socket
        return (
            sensor is not None
            and (socket.protocol, socket.port) in sensor.places
            and [owner.pid for owner in self.listener.owners] == [sensor.pid]
        )

    def _is_symantec(self, owner: Owner) -> bool:
        if self.survey.platform is not Platform.WINDOWS or owner.executable is None:
            return False
        path = owner.executable.path.casefold()
        at_place = any(fnmatchcase(path, place) for place in _SYMANTEC_PLACES)
        is_named = file_name(path) in _SYMANTEC_PROGRAMS
        return at_place and is_named and not _is_signed_by_others(owner.executable.signature)

    # -- what looks like an attack -------------------------------------------------------------

    def _suspicions(self) -> Iterator[Reason]:
        seen: set[str] = set()
        for owner in self.listener.owners:
            for reason in (*self._imitations(owner), *_unprintable(owner), *_of_file(owner)):
                if reason.id not in seen:
                    seen.add(reason.id)
                    yield reason

    def _imitations(self, owner: Owner) -> Iterator[Reason]:
        if self._is_symantec(owner) or self._is_windows_unseen(owner):
            return
        for name in _names_of(owner):
            genuine = _imitated(name)
            if genuine is not None:
                sentence = f"{name!r} looks like {genuine}, which is not what runs here"
                yield _reason("imitation", Weight.SUSPICIOUS, sentence)
                return

    def _is_windows_unseen(self, owner: Owner) -> bool:
        """Return whether the name may be genuine, since the path could not be seen."""
        return self.survey.platform is Platform.WINDOWS and owner.executable is None

    def _lacks_role(self, found: Sequence[Reason]) -> bool:
        if self.listener.socket.port != RELAY_PORT or self.expectations.role is not RelayRole.NONE:
            return False
        owner = self.listener.principal
        script = owner.script if owner else None
        is_relay = fleetward_program(script, self.listener.socket.protocol) == "relay"
        expected = [reason.id for reason in found if reason.weight is Weight.EXPECTED]
        return not expected or (is_relay and expected == ["fleetward-program"])

    # -- what leaves doubts --------------------------------------------------------------------

    def _doubts(self, rule: PortRule | None) -> Iterator[Reason]:
        owner = self.listener.principal
        if owner is None or owner.executable is None:
            who = f"user {self.listener.user}" if self.listener.user else "an unknown user"
            unit = f", unit {self.listener.unit}" if self.listener.unit else ""
            sentence = f"the program could not be seen; the socket is of {who}{unit}"
            if self.survey.platform is Platform.LINUX and not self.listener.socket.inode:
                sentence = "no program holds it: it is the kernel's own (NFS, WireGuard)"
            yield _reason("owner-unseen", Weight.UNKNOWN, sentence)
        if len(self.sharing) > 1:
            sentence = f"programs from {len(self.sharing)} different files share this port"
            yield _reason("shared-port", Weight.UNKNOWN, sentence)
        if owner is not None and self._is_unpinned(owner, rule):
            what = owner.script.name or owner.script.kind if owner.script else "its input"
            sentence = f"an interpreter runs {what}; its own path says nothing of that"
            yield _reason("interpreter-unpinned", Weight.UNKNOWN, sentence)

    def _is_unpinned(self, owner: Owner, rule: PortRule | None) -> bool:
        if owner.executable is None or not is_interpreter(owner.executable.path):
            return False
        is_own = fleetward_program(owner.script, self.listener.socket.protocol) is not None
        return not (is_own or self._is_own_sensor()) and (rule is None or not rule.pins_script)

    # -- what is good to know ------------------------------------------------------------------

    def _notes(self) -> Iterator[Reason]:
        listener, socket = self.listener, self.listener.socket
        if not listener.in_own_namespace:
            where = listener.container or f"namespace {socket.namespace}"
            yield _note("other-namespace", f"it is in another network namespace ({where})")
        if listener.activated:
            yield _note("socket-activation", "a service manager made the socket and passed it on")
        elif len(listener.owners) > 1:
            yield _note("inherited", f"{len(listener.owners)} programs hold the socket")
        if listener.serves_both:
            yield _note("serves-both", "the address :: takes IPv4 connections as well")
        if listener.reach is not Reach.LOOPBACK:
            yield _note("reachable", "other hosts can reach it, unless a firewall stops them")
        if sentence := self._ephemeral():
            yield _note("ephemeral-range", sentence)
        if fact := fact_of(socket.protocol, socket.port):
            yield _note("registry", fact.sentence())

    def _ephemeral(self) -> str:
        port = self.listener.socket.port
        own = self.survey.ephemeral
        if own is not None and own[0] <= port <= own[1]:
            return f"this host gives the ports {own[0]} to {own[1]} to clients"
        first, last = OLD_WINDOWS_EPHEMERAL
        if first <= port <= last:
            return f"old Windows gave the ports {first} to {last} to clients"
        return ""


_NO_ROLE: Final = "this host is stated to be no relay, and something listens on 2967"


def verdict_of(reasons: Sequence[Reason]) -> Verdict:
    """Return what the weights make together; see the module's first table."""
    weights = {reason.weight for reason in reasons}
    if Weight.SUSPICIOUS in weights:
        return Verdict.SUSPICIOUS
    if Weight.UNKNOWN in weights or Weight.EXPECTED not in weights:
        return Verdict.UNKNOWN
    return Verdict.EXPECTED


def fleetward_program(script: Script | None, protocol: Transport) -> str | None:
    """Return which of Fleetward's programs a script is; None for others.

    Args:
        script: what an interpreter runs.
        protocol: of the listener: the agent may hear by UDP, and listens by nothing else.
    """
    if script is None:
        return None
    if (script.kind, script.name) == ("module", _AGENT_MODULE):
        return "agent" if protocol is Transport.UDP else None
    is_file = script.kind == "file" and file_name(script.name) in _FLEETWARD_NAMES
    if not is_file and (script.kind, script.name) != ("module", "fleetward"):
        return None
    return _FLEETWARD_SERVERS.get(script.arguments[:2])


def _names_of(owner: Owner) -> Iterator[str]:
    if owner.executable is not None:
        yield file_name(owner.executable.path)
    yield owner.name
    if owner.command:
        yield file_name(owner.command[0])
    if owner.script is not None and owner.script.kind == "file":
        yield file_name(owner.script.name)


@lru_cache(maxsize=1_024)
def _imitated(name: str) -> str | None:
    for genuine in _SYMANTEC_PROGRAMS:
        if looks_like(name, genuine) or looks_like(name, genuine.removesuffix(".exe")):
            return genuine
    if name in _FLEETWARD_NAMES:
        return None
    return next((own for own in _FLEETWARD_NAMES if looks_like(name, own)), None)


def _unprintable(owner: Owner) -> Iterator[Reason]:
    for name in _names_of(owner):
        if not name.isprintable():
            sentence = f"the name {name!r} has control characters in it"
            yield _reason("unprintable-name", Weight.SUSPICIOUS, sentence)
            return


_STATES: Final = {
    FileState.DELETED: (
        "executable-deleted",
        Weight.SUSPICIOUS,
        "was deleted while the program runs",
    ),
    FileState.NEVER_A_FILE: (
        "executable-in-memory",
        Weight.SUSPICIOUS,
        "is no file: the program runs from memory",
    ),
    FileState.REPLACED: (
        "executable-replaced",
        Weight.NOTE,
        "was replaced while the program runs",
    ),
}


def _of_file(owner: Owner) -> Iterator[Reason]:
    file = owner.executable
    if file is None:
        return
    if file.state in _STATES:
        which, weight, what = _STATES[file.state]
        yield _reason(which, weight, f"{file.path} {what}")
    writable = file.writable or (owner.script.writable if owner.script else None)
    if writable is not None:
        sentence = f"anybody on this host may write {writable}"
        yield _reason("writable-by-anyone", Weight.SUSPICIOUS, sentence)
    is_there = file.state is FileState.PRESENT  # an old program is not the new package's
    if is_there and file.package is not None and file.package.intact is False:
        sentence = f"{file.path} is not what the package {file.package.name} installed"
        yield _reason("package-altered", Weight.SUSPICIOUS, sentence)

    if file.signature is not None and file.signature.signer and file.signature.intact is False:
        sentence = f"{file.path} is not what {file.signature.signer} has signed"
        yield _reason("signature-broken", Weight.SUSPICIOUS, sentence)


def _is_signed_by_others(found: Signature | None) -> bool:
    """Return whether somebody but Symantec and its heirs signed; old versions are not signed."""
    if found is None or not found.signer:
        return False
    return not any(name in found.signer.casefold() for name in _SYMANTEC_SIGNERS)


def _excused(reason: Reason, rule: PortRule) -> Reason:
    if reason.id not in rule.despite:
        return reason
    sentence = f"{reason.sentence} (excused by the rule {rule.name!r})"
    return replace(reason, weight=Weight.NOTE, sentence=sentence)


def _note(which: str, sentence: str) -> Reason:
    return _reason(which, Weight.NOTE, sentence)


def _reason(which: str, weight: Weight, sentence: str) -> Reason:
    return Reason(id=which, weight=weight, sentence=sentence, next_step=_NEXT.get(which, ""))
