"""The states of a tunnel and what leads from one to another, defined with python-statemachine. What is asked is the table in
`transitions`.

Loading python-statemachine costs 60 ms of a command that changes something, a machine half a millisecond for each tunnel. So
whoever changes this asks it once: `python -m reconciler.states` writes the table anew, and a test compares.
"""

from __future__ import annotations

from pathlib import Path

from statemachine import State, StateMachine
from statemachine.exceptions import TransitionNotAllowed

_HEAD = '"""What leads where. Made by `python -m reconciler.states` of what is defined there; not to be edited."""\n'


class Lifecycle(StateMachine):
    """States and events."""

    pending = State(initial=True)
    converging = State()
    up = State()
    waiting = State()
    failed = State()
    removing = State()
    removed = State()

    requested = converging.from_(pending, waiting, failed, removing, removed)
    converged = converging.to(up)
    drifted = up.to(converging)
    stumbled = converging.to(waiting)
    retried = waiting.to(converging)
    gave_up = converging.to(failed)
    withdrawn = removing.from_(pending, converging, up, waiting, failed)
    vanished = removing.to(removed)


def target(state: str, event: str) -> str | None:
    """The state that an event leads to from another; None: it does not fit."""
    machine = Lifecycle(start_value=state)
    try:
        machine.send(event)
    except TransitionNotAllowed:
        return None
    return str(next(iter(machine.configuration_values)))


def text() -> str:
    """The module `transitions`."""
    machine = Lifecycle()
    states, events = [state.id for state in machine.states], [event.id for event in machine.events]
    moves = ((state, event, target(state, event)) for state in states for event in events)
    lines = [f'    ("{state}", "{event}"): "{to}",' for state, event, to in moves if to]
    return "\n".join([_HEAD, "TRANSITIONS = {", *lines, "}", ""])


if __name__ == "__main__":
    Path(__file__).with_name("transitions.py").write_text(text(), encoding="utf-8")
