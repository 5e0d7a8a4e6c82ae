"""Steps → the machine, one outcome each. A failed step stops the creations of its own tunnel only; removals go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from reconciler import actuate
from reconciler.errors import Bug, LookAgain, TunctlError
from reconciler.host.machine import Machine
from reconciler.loop.fault import Fault
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Outcome, Step
from reconciler.model.resource import Verb

Tell = Callable[[Outcome], None]


def act(machine: Machine, steps: Sequence[Step], fault: Fault | None, tell: Tell, first: int = 1) -> list[Outcome]:
    """Does the steps in their order. `first` is the number of the first one, for faults. It ends early, without a word
    about the rest, when others had their turn while a step waited: then what is left has to be found out anew. Locked when
    they did not give it back."""
    outcomes: list[Outcome] = []
    failed: set[TunnelName | None] = set()
    missed = False  # something of the host's own could not be made: what it was to take the place of stays
    machine.is_overtaken = False
    for group in _groups(steps, single=fault is not None):
        if machine.is_overtaken:
            break
        due = [
            step
            for step in group
            if (step.verb is Verb.DELETE and not (missed and _is_ground(step)))
            or step.regardless
            or (step.verb is not Verb.DELETE and failed.isdisjoint((step.tunnel, step.needs)))
        ]
        done = _perform(machine, due, fault, first + len(outcomes)) if due else []
        if len(due) < len(group):
            done += [Outcome(step, None, 0.0, skipped=True) for step in group if step not in due]
        for outcome in done:
            if (outcome.error is not None or outcome.skipped) and outcome.step.resource.kind != "resolver":
                failed.add(outcome.step.tunnel)
                missed = missed or (outcome.step.verb is not Verb.DELETE and _is_ground(outcome.step))
            tell(outcome)
        outcomes += done
    return outcomes


def _is_ground(step: Step) -> bool:
    return step.tunnel == HOST and step.resource.kind in ("route", "rule")


def _groups(steps: Sequence[Step], *, single: bool) -> Iterator[list[Step]]:
    """Runs of steps that one call can carry out; with a fault every object is on its own."""
    group: list[Step] = []
    before = None
    for step in (one for many in steps for one in many.each()) if single else steps:
        together = actuate.bulk(step)
        if group and (single or together is None or together is not before):
            yield group
            group = []
        group.append(step)
        before = together
    if group:
        yield group


def _perform(machine: Machine, steps: list[Step], fault: Fault | None, number: int) -> list[Outcome]:
    begun = time.monotonic()
    results: Sequence[tuple[Step, TunctlError | None]]
    injected = fault.before(number, steps[0].resource) if fault is not None else None
    if injected is not None:
        results = [(step, injected) for step in steps]
    else:
        try:
            results = actuate.perform(machine, steps)
        except TunctlError as error:
            if not machine.has_turn:
                raise
            results = [(step, error) for step in steps]
        except Exception as error:
            bug = Bug.of(error, f"{steps[0]}: ")
            results = [(step, bug) for step in steps]
    if fault is not None:
        fault.after(number)
    seconds = (time.monotonic() - begun) / sum(step.number for step in steps)
    return [_outcome(step, error, seconds) for step, error in results]


def _outcome(step: Step, error: TunctlError | None, seconds: float) -> Outcome:
    if isinstance(error, LookAgain):
        return Outcome(step, None, seconds, skipped=True)
    return Outcome(step, error, seconds)
