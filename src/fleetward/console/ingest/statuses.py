"""What hosts run now, and a transition for each product that changed.

Each round of a fleet that takes a new release changes a row of every host, so these go in bulk like
the rest; the rows of one host are looked at by themselves.
"""

from collections import defaultdict
from datetime import datetime
from typing import Final

import msgspec
from django.db import connection

from fleetward.console.ingest.bulk import Query, Row, Table, rows_among, write
from fleetward.console.ingest.opening import OpenedProduct
from fleetward.console.ingest.rows import NewStatus

_STATE: Final = Table(
    "fleet_productstate",
    (
        ("host_id", "bigint"),
        ("product", "text"),
        ("channel", "text"),
        ("release", "text"),
        ("seq", "bigint"),
        ("state", "text"),
        ("tree", "text"),
        ("wave", "bigint"),
        ("since", "timestamptz"),
    ),
    ("host_id", "product"),
    replaces=True,
)
_TRANSITION: Final = Table(
    "fleet_transition",
    (
        ("host_id", "bigint"),
        ("at", "timestamptz"),
        ("product", "text"),
        ("release_before", "text"),
        ("state_before", "text"),
        ("release", "text"),
        ("seq", "bigint"),
        ("state", "text"),
    ),
)
_STATES_OF: Final = Query(_STATE.columns, "FROM fleet_productstate WHERE host_id {among}")
_LEFT: Final = "left"


class _State(msgspec.Struct, array_like=True, gc=False):
    """A row of `ProductState`, in the order of its table; attributes as there."""

    host: int
    product: str
    channel: str
    release: str
    seq: int
    state: str
    tree: str
    wave: int | None
    since: datetime


def write_statuses(statuses: list[NewStatus]) -> None:
    """Write the newest statuses of hosts, each after all before it; in the caller's transaction."""
    hosts: defaultdict[int, dict[str, _State]] = defaultdict(dict)
    for row in rows_among(_STATES_OF, {status.host for status in statuses}, _State):
        hosts[row.host][row.product] = row
    stored = {(host, name) for host, states in hosts.items() for name in states}
    changed: set[tuple[int, str]] = set()
    transitions: list[Row] = []
    for status in statuses:
        changed |= _take(status, hosts[status.host], transitions)
    there = {
        (host, name): state for host, states in hosts.items() for name, state in states.items()
    }
    _delete((changed - there.keys()) & stored)
    write(_STATE, [msgspec.structs.astuple(there[place]) for place in changed & there.keys()])
    write(_TRANSITION, transitions)


def _take(
    status: NewStatus, states: dict[str, _State], transitions: list[Row]
) -> set[tuple[int, str]]:
    """Bring the states of one host up to date; return which rows that changes or removes."""
    changed: set[tuple[int, str]] = set()
    for product in status.products:
        known = states.get(product.product)
        new = _state(status, product, known)
        if known is None or _differs(known, new):
            transitions.append(_transition(status, known, new))
        if known != new:
            states[new.product] = new
            changed.add((new.host, new.product))
    for name in sorted(states.keys() - {product.product for product in status.products}):
        left = states.pop(name)
        changed.add((left.host, name))
        gone = (left.release, left.state, "", 0, _LEFT)
        transitions.append((status.host, status.at, name, *gone))
    return changed


def _state(status: NewStatus, product: OpenedProduct, known: _State | None) -> _State:
    new = _State(
        status.host,
        product.product,
        product.channel,
        product.release,
        product.seq,
        product.state,
        product.tree,
        product.wave,
        status.at,
    )
    if known is not None and not _differs(known, new):
        new.since = known.since
    return new


def _differs(known: _State, new: _State) -> bool:
    return (known.release, known.state, known.tree) != (new.release, new.state, new.tree)


def _transition(status: NewStatus, known: _State | None, new: _State) -> Row:
    before = (known.release, known.state) if known else ("", "")
    return (status.host, status.at, new.product, *before, new.release, new.seq, new.state)


def _delete(places: set[tuple[int, str]]) -> None:
    if places:
        with connection.cursor() as cursor:
            cursor.executemany(
                "DELETE FROM fleet_productstate WHERE host_id = %s AND product = %s", list(places)
            )
