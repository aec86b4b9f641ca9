"""Why a host has, or does not have, what its channel points at: core.admission's rule, step by step.

What the console knows of a host is what the host signed; what it runs decides, and this explains.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from fleetward.console.catalogue.models import Channel
from fleetward.console.catalogue.standing import fault_of
from fleetward.console.fleet.models import Event, Host, ProductState
from fleetward.console.fleet.queries import SILENT_AFTER
from fleetward.console.fleet.shapes import presence_of
from fleetward.console.rollouts.deciding import Seen, Standing, stands
from fleetward.console.rollouts.planning import Plan, plan_of
from fleetward.console.rollouts.showing import last_words, who
from fleetward.console.rollouts.telling import instant
from fleetward.core.install import State
from fleetward.core.rollout import HostPlace


class StepId(StrEnum):
    """What is asked of a host and a release, in this order."""

    CHANNEL = "channel"
    SIGNED = "signed"
    NOT_REVOKED = "not-revoked"
    FLOOR = "floor"
    WAVE = "wave"
    RING = "ring"
    RAMP = "ramp"
    HEARD = "heard"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Step:
    """One question and its answer.

    Attributes:
        id: which question.
        holds: whether it speaks for the release; None where it does not matter or is not known.
        words: the answer for people.
    """

    id: StepId
    holds: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a host has, or does not have, a release.

    Attributes:
        release: that the channel points at.
        has_it: whether the host runs it, as it says.
        standing: a `deciding.Standing`; None where the host does not follow the channel.
        wave: the first that holds the host, from 0; None where none does.
        place: the host's place in percent; None where it does not matter.
        state: of its installation; empty where it reported none.
        reason: the host's own words of why it failed; empty for none.
        conclusion: one sentence.
        steps: the questions, in order.
    """

    release: str
    has_it: bool
    standing: Standing | None
    wave: int | None
    place: float | None
    state: str
    reason: str
    conclusion: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class _Case:
    row: Channel
    plan: Plan
    host: Host
    state: ProductState | None
    wave: int | None
    failure: Event | None
    heard: datetime | None
    now: datetime

    @property
    def follows(self) -> bool:
        return self.state is not None and self.state.channel == self.row.name

    @property
    def has_it(self) -> bool:
        return self.state is not None and self.state.release == self.row.points_at

    @property
    def is_open(self) -> bool:
        return self.plan.opened_at(self.wave) is not None


def explain(row: Channel, host: Host, now: datetime) -> Explanation:
    """Return why `host` has, or does not have, what the channel points at.

    Args:
        row: the channel, with its product and its release.
        host: the host, with its key's presence.
        now: the console's clock.
    """
    case = _case(row, host, now)
    steps, standing = tuple(_steps(case)), _standing(case)
    return Explanation(
        release=row.points_at,
        has_it=case.has_it,
        standing=standing,
        wave=case.wave,
        place=case.plan.place(host.record),
        state=case.state.state if case.state else "",
        reason=case.failure.detail if case.failure and standing is Standing.FAILED else "",
        conclusion=_conclusion(case, standing, steps),
        steps=steps,
    )


def _case(row: Channel, host: Host, now: datetime) -> _Case:
    plan, presence = plan_of(row), presence_of(host)
    state = host.products.filter(product=row.product.name).first()
    reported = state.wave if state and state.channel == row.name else None
    return _Case(
        row=row,
        plan=plan,
        host=host,
        state=state,
        wave=plan.wave_of(host.record, reported),
        failure=last_words(row, [host.pk]).get(host.pk),
        heard=presence.seen if presence else None,
        now=now,
    )


def _standing(case: _Case) -> Standing | None:
    state = case.state
    if state is None or not case.follows:
        return None
    seen = Seen(case.has_it, State(state.state), state.since, case.heard, case.failure is not None)
    return stands(seen, case.plan.opened_at(case.wave), case.row.since, case.now)


# -- the questions -------------------------------------------------------------------------------------


def _yes(step: StepId, words: str) -> Step:
    return Step(step, holds=True, words=words)


def _no(step: StepId, words: str) -> Step:
    return Step(step, holds=False, words=words)


def _steps(case: _Case) -> Iterator[Step]:
    yield _channel_step(case)
    yield from _signed_steps(case)
    yield _wave_step(case)
    if (ring := _ring_step(case)) is not None:
        yield ring
    if case.row.release is not None:
        yield _ramp_step(case)
    yield _heard_step(case)
    yield _state_step(case)


def _channel_step(case: _Case) -> Step:
    row, state = case.row, case.state
    if state is None:
        words = f"The host has not reported {row.product.name}: it is not subscribed, or not heard."
        return Step(StepId.CHANNEL, None if case.heard is None else False, words)
    if not case.follows:
        words = f"The host follows {row.product.name}@{state.channel}, not @{row.name}."
        return _no(StepId.CHANNEL, words)
    return _yes(StepId.CHANNEL, f"The host follows {row.product.name}@{row.name}.")


def _signed_steps(case: _Case) -> Iterator[Step]:
    row = case.row
    if row.release is None:
        words = f"The channel points at {row.points_at}, {fault_of(row)}: hosts refuse it."
        yield _no(StepId.SIGNED, words)
        return
    yield _yes(StepId.SIGNED, f"The release keys vouch for {row.points_at}.")
    revoked = row.release.revoked
    why = f": {row.release.reason}" if row.release.reason else ""
    words = f"It is revoked{why}." if revoked else "It is not revoked."
    yield Step(StepId.NOT_REVOKED, not revoked, words)
    floor, seq = row.product.floor, row.release.seq
    place = "under" if seq < floor else "not under"
    yield Step(StepId.FLOOR, seq >= floor, f"No. {seq} is {place} the floor, {floor}.")


def _wave_step(case: _Case) -> Step:
    plan, wave, place = case.plan, case.wave, case.plan.place(case.host.record)
    if plan.is_now:
        return _yes(StepId.WAVE, "The channel has no plan: it is open to all hosts at once.")
    if place is None:
        words = "Its place is not known until the repository was read again."
        return Step(StepId.WAVE, None, words)
    at = f"Its place is {place:.2f} % of 100"
    if wave is None:
        return _no(StepId.WAVE, f"{at}, and no wave of the plan holds it.")
    opened = plan.opened_at(wave)
    stands_open = f"open since {instant(opened)}" if opened else "not open"
    named = f"wave {wave + 1} of {len(plan.waves)} ({who(plan.waves[wave])})"
    words = f"{at}; the first wave that holds it is {named}, which is {stands_open}."
    return Step(StepId.WAVE, opened is not None, words)


def _ring_step(case: _Case) -> Step | None:
    """Return what rings do; None where the plan has none."""
    rings = sorted({ring for wave in case.plan.waves for ring in wave.rings})
    if not rings or case.plan.is_now:
        return None
    reported = case.state.wave if case.state and case.follows else None
    if reported is None:
        words = (
            f"The plan has the ring{'s' if len(rings) > 1 else ''} {', '.join(rings)}. The host has not said in which wave it is, "
            "so only its place counts here; it knows its rings itself."
        )
        return Step(StepId.RING, None, words)
    return Step(StepId.RING, None, f"The host says that it is in wave {reported + 1}.")


def _ramp_step(case: _Case) -> Step:
    release, ramp = case.row.release, case.row.product.ramp
    if release is None or not ramp:
        return _yes(StepId.RAMP, "The policy has no ramp: it admits every host at once.")
    if release.urgent:
        return _yes(StepId.RAMP, "It is signed as urgent, which passes the policy's ramp.")
    place = HostPlace(case.host.record).fraction(release.tree) * 100
    step = next((step for step in ramp if place < step["percent"]), None)
    if step is None:
        return _no(StepId.RAMP, f"The policy's ramp ends before its place, {place:.2f} %.")
    admitted = release.created + timedelta(seconds=step["age"])
    is_admitted = admitted <= case.now
    verb = "has admitted" if is_admitted else "will admit"
    when = "since" if is_admitted else "at"
    words = f"The policy's ramp {verb} its place there, {place:.2f} %, {when} {instant(admitted)}."
    return Step(StepId.RAMP, is_admitted, words)


def _heard_step(case: _Case) -> Step:
    if case.heard is None:
        return _no(StepId.HEARD, "The host was never heard from.")
    is_silent = case.now - case.heard > SILENT_AFTER
    words = f"The host was last heard from at {instant(case.heard)}."
    return Step(StepId.HEARD, not is_silent, words)


def _state_step(case: _Case) -> Step:
    state = case.state
    if state is None:
        return Step(StepId.STATE, None, "There is no word of what it runs.")
    runs = state.release or "nothing"
    words = f"It runs {runs}, {state.state} since {instant(state.since)}."
    if case.failure is not None:
        said = f": {case.failure.detail}" if case.failure.detail else ""
        words += f" At {instant(case.failure.at)} it said {case.failure.kind}{said}."
    return Step(StepId.STATE, case.has_it, words)


# -- the conclusion ------------------------------------------------------------------------------------

_WHY = {
    StepId.SIGNED: "the release keys do not vouch for it",
    StepId.NOT_REVOKED: "it is revoked",
    StepId.FLOOR: "it lies under the floor",
    StepId.WAVE: "the host's wave is not open",
    StepId.RAMP: "the policy's ramp does not admit the host yet",
}


_NEVER = "is not heard from"


def _conclusion(case: _Case, standing: Standing | None, steps: tuple[Step, ...]) -> str:
    name, release = case.host.name, case.row.points_at
    if standing is None:
        return steps[0].words
    if standing is Standing.FAILED:
        said = f": {case.failure.detail}" if case.failure and case.failure.detail else ""
        return f"{name} tried {release} and does not run it{said}."
    if case.has_it:
        return _having(case, standing)
    against = [_WHY[step.id] for step in steps if step.id in _WHY and step.holds is False]
    if against:
        return f"{name} does not have {release}, since {' and '.join(against)}."
    if standing is Standing.TRYING:
        return f"{name} is taking {release} up."
    if standing in {Standing.VANISHED, Standing.AWAY}:
        heard = f"was not heard from since {instant(case.heard)}" if case.heard else _NEVER
        return f"{name} may take {release}, and {heard}."
    return f"{name} may take {release}, and has not yet: it does so at its next check."


def _having(case: _Case, standing: Standing) -> str:
    name, release = case.host.name, case.row.points_at
    if standing is Standing.SILENT:
        heard = f"was not heard from since {instant(case.heard)}" if case.heard else _NEVER
        return f"{name} took {release}, and {heard}."
    if standing is Standing.TRYING:
        return f"{name} is trying {release}."
    return f"{name} runs {release}, and its engine has tried it."
