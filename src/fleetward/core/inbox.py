"""What the console tells a host, as values: acknowledgements and directives.

Directives are a closed list, and none carries a command line, a path or an address: whoever takes
over a console can make hosts fetch, look, report, wait or step back, and nothing else (DESIGN,
"Status"). Rings and waves cannot be changed by one.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fleetward.core.limits import STATUS
from fleetward.core.status import (
    Epoch,
    HostId,
    parse_epoch,
    parse_host_id,
    require,
    require_names,
    require_number,
    require_utc,
)

_DIRECTIVE_ID = re.compile(r"[0-9a-f]{8,32}")


class DirectiveKind(StrEnum):
    """What a host may be told to do."""

    UPDATE_NOW = "update-now"
    VERIFY_TREE = "verify-tree"
    LIST_PORTS = "list-ports"
    ROLL_BACK = "roll-back"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The console has durably stored this epoch's events from the first to `e`, both included."""

    epoch: Epoch
    e: int

    def __post_init__(self) -> None:
        parse_epoch(self.epoch)
        require_number("e", self.e, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """One thing that a host is asked to do, once.

    Attributes:
        id: 8 to 32 hex digits; a host does an id once, and names it in the event that answers.
        kind: what.
        product: of which product; empty for all. A roll-back names one.
        until: the end of a pause; None for every other kind.
    """

    id: str
    kind: DirectiveKind
    product: str = ""
    until: datetime | None = None

    def __post_init__(self) -> None:
        require(_DIRECTIVE_ID.fullmatch(self.id) is not None, f"not a directive: {self.id[:80]!r}")
        require_names(product=self.product or None)
        is_pause = self.kind is DirectiveKind.PAUSE
        require(is_pause == (self.until is not None), "a pause, and only a pause, has an end")
        has_product = bool(self.product) or self.kind is not DirectiveKind.ROLL_BACK
        require(has_product, "a roll-back names its product")
        if self.until is not None:
            require_utc("until", self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """What the console has for one host; the newest takes the place of all before it.

    Attributes:
        host: for whom; others refuse it.
        seq: rises with each change; a host refuses one below the greatest it has seen.
        issued: when the console signed it.
        expires: after this a host ignores it.
        acks: what has been stored, by epoch.
        directives: what is to be done.
    """

    host: HostId
    seq: int
    issued: datetime
    expires: datetime
    acks: tuple[Acknowledgement, ...] = ()
    directives: tuple[Directive, ...] = ()

    def __post_init__(self) -> None:
        parse_host_id(self.host)
        require_number("seq", self.seq, 1)
        require_utc("issued", self.issued)
        require_utc("expires", self.expires)
        require(self.issued < self.expires, "the inbox expires before it was issued")
        require(len(self.acks) <= STATUS.acknowledgements, f"{len(self.acks)} acknowledgements")
        require(len(self.directives) <= STATUS.directives, f"{len(self.directives)} directives")
        for directive in self.directives:
            if directive.until is not None:
                pause = directive.until - self.issued
                require(pause <= STATUS.pause, f"a pause of {pause}: at most {STATUS.pause}")
