"""A rollout in sentences: the same words for the page, the API and the command."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from fleetward.console.rollouts.deciding import Standing
from fleetward.console.rollouts.showing import Evidence, Reason, RolloutView

_STATES: Final = {
    "paused": "It is paused. Hosts of the open waves still take the release.",
    "halted": "It is halted. Hosts of the open waves that have not taken the release still may.",
    "reverting": "It is on its way back to the release before.",
    "complete": "It is complete.",
}

_FAILED: Final = {
    "rolled-back": "went back",
    "rejected": "refused it",
    "unprotected": "has nothing to run",
}


def sentences(view: RolloutView, reasons: Sequence[Reason]) -> list[str]:
    """Return what a rollout is at, one sentence or two a line.

    Args:
        view: the rollout, for the sites of whoever asks.
        reasons: why the release failed, from `showing.reasons`.
    """
    return [*_of_channel(view), *_of_hosts(view, reasons)]


def instant(moment: datetime) -> str:
    """Return an instant as sentences say it."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def hosts(count: int) -> str:
    """Return a number of hosts: `1 host`, `1,204 hosts`."""
    return f"{count:,} host{'' if count == 1 else 's'}"


def _of_channel(view: RolloutView) -> Iterator[str]:
    row, newest, upcoming = view.row, view.newest, view.next
    if view.plan.is_now:
        yield (
            f"The channel has no plan: {view.release} has been open to all hosts at once since "
            f"{instant(row.since)}."
        )
    elif newest is None:
        yield f"No wave of {view.release} is open yet, of {len(view.plan.waves)}."
    elif newest.opened is not None:
        yield (
            f"Wave {newest.number} of {len(view.plan.waves)} ({newest.who}) is open since "
            f"{instant(newest.opened)}."
        )
    if upcoming is not None:
        yield f"The next is wave {upcoming.number} ({upcoming.who})."
    if row.state in _STATES and not (view.plan.is_now and row.state == "complete"):
        yield _STATES[row.state]


def _of_hosts(view: RolloutView, reasons: Sequence[Reason]) -> Iterator[str]:
    if not view.plan.is_known:
        yield "In which wave a host is will be known once the repository was read again."
        return
    if view.counted is None:
        yield "Its hosts are being counted."
        return
    there, all_of_it = view.in_open, view.evidence
    if not all_of_it.hosts:
        yield "No host follows it."
        return
    if there.hosts:
        where = "" if view.next is None else " in the open waves"
        yield f"{there.took:,} of {hosts(there.hosts)}{where} took it: {_split(there)}."
    if failed := all_of_it.of(Standing.FAILED):
        yield f"It failed on {hosts(failed)}{_told(reasons)}."
    if silent := all_of_it.of(Standing.SILENT):
        yield f"{hosts(silent)} took it and {_were(silent)} not heard from since."
    if vanished := all_of_it.of(Standing.VANISHED):
        yield f"{hosts(vanished)} fell silent after the wave was opened, without saying that they took it."
    if behind := there.of(Standing.BEHIND):
        rest = "it has" if behind == 1 else "they have"
        yield f"{hosts(behind)} may take it, and {rest} not yet."


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _split(there: Evidence) -> str:
    words = (
        (Standing.CONFIRMED, "confirmed"),
        (Standing.TRYING, "on trial"),
        (Standing.FAILED, "failed"),
        (Standing.SILENT, "silent since"),
    )
    parts = [f"{there.of(word):,} {said}" for word, said in words if there.of(word)]
    return ", ".join(parts) or "none has so far"


def _told(reasons: Sequence[Reason]) -> str:
    said = [
        f"{each.hosts:,} {_FAILED.get(each.kind, each.kind)}"
        f"{f' ({each.words})' if each.words else ''}"
        for each in reasons
    ]
    return f": {'; '.join(said)}" if said else ""
