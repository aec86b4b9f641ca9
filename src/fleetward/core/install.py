"""The installation of a release on a host: one state machine, as one table.

    stage -> preflight -> activate -> trial -> confirm, or roll back from trial, or reject from
    preflight.

`TABLE` maps (state, event) to (state, command). The state is what is fsync'd; the command is what
the driver (agent.installer) does next, and its outcome is the next event. Every command can be
done again, so that a host which stops anywhere starts with `RESUME` and goes on from the table.
A pair that is not in the table is a mistake in the driver and raises.

`docs/install-states.md` is generated from this table; a test compares them.
"""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where an installation stands; the value is what status documents say."""

    NONE = "none"
    STAGING = "staging"
    PREFLIGHT = "preflight"
    ACTIVATING = "activating"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    REJECTED = "rejected"
    UNPROTECTED = "unprotected"


class Event(Enum):
    """What happened."""

    CHOSEN = "a release was chosen"
    STAGED = "its tree is whole in a slot"
    PASSED = "the engine loaded it"
    FAILED_PREFLIGHT = "the engine refused it"
    SWITCHED = "current points at it"
    BAKED = "the bake time is over and the engine is well"
    FAILED_TRIAL = "the engine failed, or restarted too often"
    RESTORED = "current points at the previous release"
    NOTHING_LEFT = "no release is left that may run"
    OPERATOR_ROLLS_BACK = "the operator asked for the previous release"
    RESUME = "the agent starts again"


class Command(Enum):
    """What the driver does next."""

    STAGE = "fetch and write the tree into its slot"
    PREFLIGHT = "let the engine load the slot"
    SWITCH = "point current at the slot"
    WATCH = "watch the engine for the bake time"
    SWITCH_BACK = "point current at the previous release"
    WITHDRAW = "do as the policy says where nothing may run"
    SETTLE = "nothing: the installation is at rest"


@dataclass(frozen=True, slots=True)
class Transition:
    """The next state, and what the driver does in it."""

    state: State
    command: Command


def _rest(state: State) -> Transition:
    return Transition(state, Command.SETTLE)


_STAGE = Transition(State.STAGING, Command.STAGE)
_PREFLIGHT = Transition(State.PREFLIGHT, Command.PREFLIGHT)
_SWITCH = Transition(State.ACTIVATING, Command.SWITCH)
_WATCH = Transition(State.TRIAL, Command.WATCH)
_BACK = Transition(State.ROLLING_BACK, Command.SWITCH_BACK)
_WITHDRAW = Transition(State.UNPROTECTED, Command.WITHDRAW)

RESTING = (State.NONE, State.CONFIRMED, State.ROLLED_BACK, State.REJECTED, State.UNPROTECTED)
"""States in which nothing is under way; a new release can be chosen."""

TABLE: dict[tuple[State, Event], Transition] = {
    **{(state, Event.CHOSEN): _STAGE for state in RESTING},
    **{(state, Event.RESUME): _rest(state) for state in RESTING if state is not State.UNPROTECTED},
    (State.UNPROTECTED, Event.RESUME): _WITHDRAW,
    **{(state, Event.NOTHING_LEFT): _WITHDRAW for state in RESTING},
    **{(state, Event.OPERATOR_ROLLS_BACK): _BACK for state in RESTING if state is not State.NONE},
    (State.STAGING, Event.RESUME): _STAGE,
    (State.STAGING, Event.CHOSEN): _STAGE,
    (State.STAGING, Event.STAGED): _PREFLIGHT,
    (State.STAGING, Event.NOTHING_LEFT): _WITHDRAW,
    (State.STAGING, Event.OPERATOR_ROLLS_BACK): _BACK,
    (State.PREFLIGHT, Event.RESUME): _PREFLIGHT,
    (State.PREFLIGHT, Event.PASSED): _SWITCH,
    (State.PREFLIGHT, Event.FAILED_PREFLIGHT): _rest(State.REJECTED),
    (State.ACTIVATING, Event.RESUME): _SWITCH,
    (State.ACTIVATING, Event.SWITCHED): _WATCH,
    (State.TRIAL, Event.RESUME): _WATCH,
    (State.TRIAL, Event.BAKED): _rest(State.CONFIRMED),
    (State.TRIAL, Event.FAILED_TRIAL): _BACK,
    (State.TRIAL, Event.OPERATOR_ROLLS_BACK): _BACK,
    (State.ROLLING_BACK, Event.RESUME): _BACK,
    (State.ROLLING_BACK, Event.RESTORED): _rest(State.ROLLED_BACK),
    (State.ROLLING_BACK, Event.NOTHING_LEFT): _WITHDRAW,
}


def advance(state: State, event: Event) -> Transition:
    """Return what `event` makes of `state`.

    Raises:
        LookupError: the table has no such pair (a mistake in the driver).
    """
    try:
        return TABLE[state, event]
    except KeyError:
        raise LookupError(f"no transition from {state.value!r} on {event.name}") from None


def diagram() -> str:
    """Return the table as a Mermaid state diagram, for docs/install-states.md."""
    lines = ["stateDiagram-v2", "    [*] --> none"]
    for (state, event), after in TABLE.items():
        if event is not Event.RESUME:
            source, target = (s.value.replace("-", "_") for s in (state, after.state))
            lines.append(f"    {source} --> {target}: {event.value}")
    return "\n".join(lines) + "\n"
