"""Steps → the machine, one outcome each. A failed step stops the creations of its own tunnel only; removals go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from reconciler import actuate
from reconciler.errors import Bug, LookAgain, TunctlError
from reconciler.host.machine import Machine
from reconciler.loop.fault import Fault
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Outcome, Step
from reconciler.model.resource import Verb, number

Tell = Callable[[Outcome], None]
_new = tuple.__new__  # as in `kinds.routes`


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
        due, left = _divided(group, failed, missed=missed)
        done = _perform(machine, due, fault, first + len(outcomes)) if due else []
        done += [Outcome(step, None, 0.0, skipped=True) for step in left]
        for outcome in done:
            if (outcome.error is not None or outcome.skipped) and outcome.step.resource.kind != "resolver":
                failed.add(outcome.step.tunnel)
                missed = missed or (outcome.step.verb is not Verb.DELETE and _is_ground(outcome.step))
            tell(outcome)
        outcomes += done
    return outcomes


def _is_ground(step: Step) -> bool:
    return step.tunnel == HOST and step.resource.kind in ("route", "rule")


def _divided(group: list[Step], failed: set[TunnelName | None], *, missed: bool) -> tuple[list[Step], list[Step]]:
    """What is to be done of it, and what is not, because of what failed before."""
    if not failed:
        return group, []
    due: list[Step] = []
    left: list[Step] = []
    for step in group:
        if step.verb is Verb.DELETE:
            is_due = not (missed and _is_ground(step))
        else:
            is_due = failed.isdisjoint((step.tunnel, step.needs))
        (due if is_due or step.regardless else left).append(step)
    return due, left


def _groups(steps: Sequence[Step], *, single: bool) -> Iterator[list[Step]]:
    """Runs of steps that one call can carry out; with a fault every object is on its own."""
    if single:
        yield from ([one] for step in steps for one in step.each())
        return
    for together, run in groupby(steps, actuate.bulk):
        if together is None:
            yield from ([step] for step in run)
        else:
            yield list(run)


def _perform(machine: Machine, steps: list[Step], fault: Fault | None, first: int) -> list[Outcome]:
    begun = time.monotonic()
    results: Sequence[tuple[Step, TunctlError | None]]
    injected = fault.before(first, steps[0].resource) if fault is not None else None
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
        fault.after(first)
    seconds = (time.monotonic() - begun) / sum(map(number, [step.resource for step in steps]))
    return [_outcome(step, error, seconds) if error else _new(Outcome, (step, None, seconds, False)) for step, error in results]


def _outcome(step: Step, error: TunctlError, seconds: float) -> Outcome:
    is_early = isinstance(error, LookAgain)
    return Outcome(step, None if is_early else error, seconds, skipped=is_early)
