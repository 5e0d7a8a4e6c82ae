"""The life of one tunnel: whether to try, what to tell. It never chooses kernel steps: the plan does.

Importing python-statemachine costs 60 ms, an instance half a millisecond: only a tunnel that changes gets one.
"""

from __future__ import annotations

from typing import NamedTuple

from statemachine import State, StateMachine

from reconciler.model.intent import Progress
from reconciler.model.tunnel import Restart


class Lifecycle(StateMachine):
    """States and events; events that do not fit a state raise TransitionNotAllowed."""

    pending = State(initial=True)
    converging = State()
    up = State()
    waiting = State()
    failed = State()
    removing = State()
    removed = State()

    requested = (
        pending.to(converging)
        | failed.to(converging)
        | removed.to(converging)
        | removing.to(converging)
        | waiting.to(converging)
    )
    converged = converging.to(up)
    drifted = up.to(converging)
    stumbled = converging.to(waiting)
    retried = waiting.to(converging)
    gave_up = converging.to(failed)
    withdrawn = removing.from_(pending, converging, up, waiting, failed)
