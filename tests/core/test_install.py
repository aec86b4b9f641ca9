"""The table of the installation: complete where it must be, and drawn in docs as it is."""

from pathlib import Path

import pytest

from fleetward.core.install import RESTING, TABLE, Command, Event, State, advance, diagram

DRAWN = Path(__file__).resolve().parents[2] / "docs" / "install-states.md"


def test_every_state_can_resume() -> None:
    assert {state for state, event in TABLE if event is Event.RESUME} == set(State)


def test_the_ordinary_way() -> None:
    state = State.NONE
    commands = []
    for event in (Event.CHOSEN, Event.STAGED, Event.PASSED, Event.SWITCHED, Event.BAKED):
        state, command = (step := advance(state, event)).state, step.command
        commands.append(command)
    assert state is State.CONFIRMED
    assert commands == [
        Command.STAGE,
        Command.PREFLIGHT,
        Command.SWITCH,
        Command.WATCH,
        Command.SETTLE,
    ]


def test_only_preflight_and_staging_and_rest_keep_current_where_it_was() -> None:
    switching = {t.state for t in TABLE.values() if t.command is Command.SWITCH}
    assert switching == {State.ACTIVATING}
    assert all(
        state is State.PREFLIGHT or event is Event.RESUME
        for (state, event), t in TABLE.items()
        if t.command is Command.SWITCH
    )


def test_nothing_is_confirmed_without_a_trial() -> None:
    ways = [
        (s, e)
        for (s, e), t in TABLE.items()
        if t.state is State.CONFIRMED and s is not State.CONFIRMED
    ]
    assert ways == [(State.TRIAL, Event.BAKED)]


def test_a_resting_state_rests() -> None:
    for state in RESTING:
        assert advance(state, Event.RESUME).command in {Command.SETTLE, Command.WITHDRAW}


def test_a_pair_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(LookupError, match="no transition from 'none' on BAKED"):
        advance(State.NONE, Event.BAKED)


def test_the_diagram_in_docs_is_this_table() -> None:
    assert f"```mermaid\n{diagram()}```" in DRAWN.read_text()
