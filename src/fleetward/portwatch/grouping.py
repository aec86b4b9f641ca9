"""Conversations as people want to read them: one row for a source that asked many hosts the same.

Deliberately not here: the document, which has each conversation (portwatch.report).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fleetward.core.portclass import TrafficClass
from fleetward.core.portrules import Verdict
from fleetward.portwatch.report import Conversation

_TOLD_APART: Final = 3
"""Servers of one source and class that have a row each; more of them share one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A conversation, or several that differ in the server alone.

    Attributes:
        kind: the class.
        verdict: of the class.
        client: who opened.
        target: who was asked, with port and protocol; or how many hosts.
        flows: how many.
        answered: how many of them the server answered with more than a reset.
        packets: of both directions.
        octets: the same.
        first: when the first one began.
        detail: of the first one that has one.
    """

    kind: TrafficClass
    verdict: Verdict
    client: str
    target: str
    flows: int
    answered: int
    packets: int
    octets: int
    first: datetime
    detail: str


def rows_of(conversations: Iterable[Conversation]) -> list[Row]:
    """Return rows for a table, in the order of the conversations."""
    groups: dict[tuple[str, str, int, str], list[Conversation]] = {}
    for one in conversations:
        key = (one.kind.value, one.client, one.port, one.transport)
        groups.setdefault(key, []).append(one)
    rows: list[Row] = []
    for members in groups.values():
        if len(members) > _TOLD_APART:
            rows.append(_row(members, f"{len(members):,} hosts, port"))
        else:
            rows.extend(_row([one], _host(one.server)) for one in members)
    return rows


def _row(members: list[Conversation], target: str) -> Row:
    one = members[0]
    separator = " " if len(members) > 1 else ":"
    return Row(
        kind=one.kind,
        verdict=one.verdict,
        client=one.client,
        target=f"{target}{separator}{one.port}/{one.transport}",
        flows=sum(each.flows for each in members),
        answered=sum(each.answered for each in members),
        packets=sum(sum(each.packets) for each in members),
        octets=sum(sum(each.octets) for each in members),
        first=min(each.first for each in members),
        detail=next((each.detail for each in members if each.detail), ""),
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
