"""The rounds of a pass: steps are done, and another look tells what is left, until that is nothing."""

from __future__ import annotations

from collections import Counter

from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner, fingerprint
from reconciler.loop import part
from reconciler.loop.act import act
from reconciler.loop.fault import Fault, point
from reconciler.loop.survey import Survey, survey
from reconciler.model.names import TunnelName
from reconciler.model.plan import Outcome, Plan, Step, about, failed
from reconciler.model.resource import Verb
from reconciler.store.book import Book
from reconciler.store.write import Store
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from reconciler.loop.reconcile import Request, Watcher

ROUNDS = 3  # what the first round made may show what could not be known before (a name that the kernel chose)


class Work(NamedTuple):
    """What a pass has to do with."""

    machine: Machine
    store: Store
    request: Request
    watch: Watcher
    fault: Fault | None
    scope: frozenset[TunnelName]
    blocking: frozenset[TunnelName]


class Course(NamedTuple):
    """How it went: the last look, what that would still do, what was done."""

    now: Survey
    left: Plan
    outcomes: list[Outcome]
    overruled: set[TunnelName]  # they were to come up, and others have decided otherwise before they were


def in_rounds(work: Work, before: Survey, first: Plan, more: int) -> Course:
    """Steps are done, and another look tells what is left, until that is nothing; `more`: rounds that programs may take."""
    machine, request, stored = work.machine, work.request, before.stored
    outcomes: list[Outcome] = []
    now, left, todo = before, first, first
    said: set[Hashable] = set()  # objects of steps that were shown and are not done yet
    overruled: set[TunnelName] = set()
    rounds = 0
    while todo.steps and rounds < ROUNDS + more + len(machine.refused):
        rounds += 1
        new = tuple(step for step in todo.steps if not _keys((step,)) & said) if said else todo.steps
        if outcomes and new:
            work.watch.planned(Plan(new))  # what only a second look could show
        outcomes += act(machine, todo.steps, work.fault, work.watch.done, 1 + len(outcomes))
        said = _cut_off(todo, outcomes) if machine.is_overtaken else set()
        point(work.fault, "acted")
        if machine.is_overtaken:
            stored = work.store.stored()
            machine.ledger = Book(work.store, stored.ledger)
        now = survey(machine, stored, resolve=True, privileged=True, adopt=request.adopt)
        left = part.allowed(now.plan.only(work.scope, work.blocking), request, outcomes)
        if said and request.requested:
            overruled |= {step.tunnel for step in todo.steps if step.identity in said} & (_wanted_up(before) - _wanted_up(now))
        stuck = {outcome.step.tunnel for outcome in failed(outcomes)} | restless(outcomes, machine)
        todo = left.only(work.scope - stuck, work.blocking - stuck)
    return Course(now, left, outcomes, overruled)


def _cut_off(todo: Plan, outcomes: Iterable[Outcome]) -> set[Hashable]:
    """Objects of steps that were shown and are not done yet, because others had their turn."""
    return _keys(todo.steps) - _keys(outcome.step for outcome in outcomes if not outcome.skipped)


def _wanted_up(now: Survey) -> set[TunnelName]:
    return {intent.name for intent in now.stored.intents if intent.is_wanted_up(now.facts.boot_id)}


def restless(outcomes: Sequence[Outcome], machine: Machine) -> set[TunnelName]:
    """Tunnels whose program was started again as it was, for no other port, and is still not as it is wanted: the others have a
    turn. For another one, which another order asks for, it may."""
    those = ((o, o.step.resource) for o in about(outcomes, Owner) if isinstance(o.step.resource, Owner))
    started = Counter((o.step.tunnel, fingerprint(owner)) for o, owner in those if has_made(o))
    allowed = Counter(name for name, _transport, _port in machine.refused)
    return {name for (name, _), times in started.items() if times > 1 + allowed[name]}


def has_made(outcome: Outcome) -> bool:
    """Its object is another one than before. A program that was only waited for is not."""
    return outcome.step.verb in (Verb.CREATE, Verb.REPLACE) and not outcome.error and not outcome.skipped


def _keys(steps: Iterable[Step]) -> set[Hashable]:
    return {step.identity for step in steps}
