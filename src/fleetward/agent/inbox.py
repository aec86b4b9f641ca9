"""What the console has signed for this host: acknowledgements, and directives, each done once.

    HOME/reports/inbox.json    the greatest number seen, directives begun and done, the pause

Invariants: nothing is believed that the console did not sign for this host; an inbox whose number
went back, or that has expired, is refused (a relay replays an old one); a directive is noted as
begun before it is done, so a stop in the middle never does it twice, and is reported; there is no
directive but those of `core.inbox.DirectiveKind`, and a pause ends within a day whatever happens.

Deliberately not here: fetching (agent.carrying), doing (an `Acts` of the caller's).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from fleetward.adapters.atomicfile import write_file
from fleetward.adapters.disk import Disk
from fleetward.agent.noticing import Happening, happening
from fleetward.core.inbox import Directive, DirectiveKind, Inbox
from fleetward.core.limits import STATUS
from fleetward.core.names import ProductName, parse_product
from fleetward.core.status import ConsoleId, EventKind, HostId
from fleetward.errors import DocumentError, FleetwardError
from fleetward.identity.checkins import verify_inbox
from fleetward.identity.consoles import ConsolePublic
from fleetward.wire.documents import decode_json, encode_json

_SCHEMA: Final = "fleetward.inbox-state/1"

_REMEMBERED: Final = 256
"""Ids of directives that are remembered; an inbox holds at most 32, and old ones are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """An installed tree that was compared with the signed one.

    Attributes:
        product: whose.
        release: that is installed; empty where there is none.
        drift: what differs, in words; empty where it is intact.
    """

    product: ProductName
    release: str = ""
    drift: str = ""


class Acts(Protocol):
    """What a directive may make this host do; each returns a line for people, or what it found.

    Raises FleetwardError where it cannot be done: the directive is then reported as refused.
    """

    def update_now(self, product: ProductName | None) -> str:
        """Check at once, whatever the poll says."""
        ...

    def verify_tree(self, product: ProductName | None) -> tuple[Tree, ...]:
        """Compare installed trees with the signed ones."""
        ...

    def list_ports(self) -> str:
        """Report every listener anew."""
        ...

    def roll_back(self, product: ProductName) -> str:
        """Go back to the previous release, unless it was revoked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Until when products are not updated; of one product, or of all where it is empty."""

    product: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    console: str = ""
    seq: int = 0
    begun: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    pauses: tuple[Pause, ...] = ()


class Orders:
    """The directives of one host: which were done, and what is paused."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        """Read what was noted.

        Args:
            disk: where it lies.
            folder: HOME/reports, which exists.
        """
        self._disk = disk
        self._path = folder / "inbox.json"
        try:
            self._state = decode_json(_SCHEMA, _State, disk.read(self._path))
        except (FileNotFoundError, DocumentError):
            self._state = _State()

    def seq(self, console: ConsoleId) -> int:
        """Return the greatest number of an inbox of `console` that was accepted; 0 for none."""
        return self._of(console).seq

    def hand_over(self, console: ConsoleId) -> None:
        """Let `console` go on from the numbers and directives of the one before.

        For a console that the fleet keys have named in its place: an inbox that the old key signed
        stays old, and no directive is done twice because the key is new.

        Raises:
            DiskError: it could not be made durable.
        """
        if self._state.console not in {"", console}:
            self._save(replace(self._state, console=console))

    def accept(
        self,
        content: bytes,
        host: HostId,
        console: ConsolePublic,
        keys: tuple[bytes, ...],
        now: datetime,
    ) -> Inbox:
        """Return a verified inbox, and remember its number.

        Args:
            content: the envelope's bytes, from whoever carried it.
            host: this host.
            console: the console that this host is enrolled with.
            keys: its signing keys.
            now: the wall clock.

        Raises:
            TrustError: not signed by the console for this host, too old, or replayed.
            DiskError: its number could not be made durable.
        """
        state = self._of(console.id)
        inbox = verify_inbox(content, host, keys, seen=state.seq, now=now)
        if inbox.seq != state.seq or state is not self._state:
            self._save(replace(state, seq=inbox.seq))
        return inbox

    def carry_out(
        self, inbox: Inbox, acts: Acts, now: datetime, tell: Callable[[Happening], object]
    ) -> int:
        """Do each directive that was not done before, and tell what came of it.

        Args:
            inbox: from `accept`.
            acts: what does them.
            now: the wall clock.
            tell: takes the answer, and makes it durable.

        Returns:
            How many were answered now.

        Raises:
            DiskError: what was begun could not be made durable; it was not done.
        """
        answered = self._tell_interrupted(now, tell)
        for directive in inbox.directives:
            if directive.id in self._state.done:
                continue
            self._save(replace(self._state, begun=(directive.id,)))
            tell(self._answer(directive, acts, now, tell))
            self._finish(directive.id)
            answered += 1
        return answered

    def is_paused(self, product: ProductName, now: datetime) -> bool:
        """Return whether a directive keeps `product` from being updated.

        A pause that would last longer than one may (the clock was set back) holds no more.
        """
        return any(
            pause.product in {"", product} and now < pause.until <= now + STATUS.pause
            for pause in self._state.pauses
        )

    # -- inside --------------------------------------------------------------------------------

    def _of(self, console: ConsoleId) -> _State:
        """Return the state towards `console`; numbers of another one mean nothing to it."""
        if self._state.console == console:
            return self._state
        return _State(console=console, pauses=self._state.pauses)

    def _tell_interrupted(self, now: datetime, tell: Callable[[Happening], object]) -> int:
        for found in self._state.begun:
            refused = "this host stopped in the middle of it; whether it was done is not known"
            tell(happening(now, EventKind.DIRECTIVE_REFUSED, subject=found, detail=refused))
            self._finish(found)
            return 1
        return 0

    def _finish(self, directive: str) -> None:
        done = (*self._state.done, directive)[-_REMEMBERED:]
        self._save(replace(self._state, begun=(), done=done))

    def _answer(
        self, directive: Directive, acts: Acts, now: datetime, tell: Callable[[Happening], object]
    ) -> Happening:
        kind, product = EventKind.DIRECTIVE_DONE, directive.product
        try:
            detail = self._do(directive, acts, now, tell)
        except FleetwardError as error:
            kind, detail = EventKind.DIRECTIVE_REFUSED, str(error)
        return happening(now, kind, product=product, subject=directive.id, detail=detail)

    def _do(
        self, directive: Directive, acts: Acts, now: datetime, tell: Callable[[Happening], object]
    ) -> str:
        product = parse_product(directive.product) if directive.product else None
        match directive.kind:
            case DirectiveKind.UPDATE_NOW:
                return acts.update_now(product)
            case DirectiveKind.VERIFY_TREE:
                trees = acts.verify_tree(product)
                for drifted in (tree for tree in trees if tree.drift):
                    tell(_told(drifted, now))
                return "; ".join(f"{tree.product}: {tree.drift or 'intact'}" for tree in trees)
            case DirectiveKind.LIST_PORTS:
                return acts.list_ports()
            case DirectiveKind.ROLL_BACK:
                return acts.roll_back(parse_product(directive.product))
            case DirectiveKind.PAUSE:
                return self._pause(directive, now)

    def _pause(self, directive: Directive, now: datetime) -> str:
        until = min(directive.until or now, now + STATUS.pause)
        others = [p for p in self._state.pauses if p.product != directive.product and p.until > now]
        added = Pause(product=directive.product, until=until)
        self._save(replace(self._state, pauses=(*others, added)))
        return f"paused until {until:%Y-%m-%d %H:%M} UTC"

    def _save(self, state: _State) -> None:
        write_file(self._disk, self._path, encode_json(_SCHEMA, state), private=True)
        self._state = state


def _told(tree: Tree, now: datetime) -> Happening:
    return happening(
        now, EventKind.DRIFT, product=tree.product, release=tree.release, detail=tree.drift
    )
