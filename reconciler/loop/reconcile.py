"""One pass: look, plan, act, look again, remember. Reads like the sentence that runs the program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from reconciler.errors import Foreign, NotConverged, TunctlError
from reconciler.host import process
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.resolver import Resolver
from reconciler.loop import remember
from reconciler.loop.act import act
from reconciler.loop.fault import Fault, point
from reconciler.loop.survey import Survey, survey
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Conflict, Outcome, Plan, Step
from reconciler.model.resource import Verb
from reconciler.store.stored import Stored
from reconciler.store.write import Store

_GROUND = ("route", "rule")
ROUNDS = 3  # what the first round made may show what could not be known before (a name that the kernel chose)


class Watcher(NamedTuple):
    """Who is told while it happens."""

    planned: Callable[[Plan], None] = lambda _plan: None
    done: Callable[[Outcome], None] = lambda _outcome: None


class Pass(NamedTuple):
    """What one pass planned, did, and left."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    after: Survey
    left: Plan  # what the last look would still do
    errors: tuple[tuple[TunnelName, TunctlError], ...]
    warnings: tuple[str, ...] = ()  # what was wrong with the hints when it began
    remarks: tuple[str, ...] = ()  # why something was done this way

    @property
    def converged(self) -> bool:
        return not self.errors

    @property
    def exit_code(self) -> int:
        """0; the code of the errors if they all say the same; else 1."""
        codes = {error.exit_code for _, error in self.errors}
        return 0 if not codes else codes.pop() if len(codes) == 1 else 1


class Request(NamedTuple):
    """What a pass is about."""

    scope: frozenset[TunnelName] | None = None  # None: all tunnels, and what of ours belongs to none
    requested: bool = True  # by a user, not by a timer
    adopt: frozenset[TunnelName] = frozenset()
    cause: str = "apply"


def reconcile(machine: Machine, store: Store, stored: Stored, request: Request, watch: Watcher, fault: Fault | None) -> Pass:
    """Makes the machine as the intents in scope say, and keeps in the store how each of them got on."""
    before = survey(machine, stored, resolve=True, privileged=True, adopt=request.adopt)
    warnings = (*before.found.warnings, *machine.handles.warnings())  # now: what is put right is forgotten
    scope = _scope(before, request)
    first = before.plan.only(scope)
    watch.planned(first)
    if first.steps:
        store.ensure_writable()
    point(fault, "observed")
    remember.owners(machine, before)
    outcomes: list[Outcome] = []
    now, left, todo = before, first, first
    for _ in range(ROUNDS):
        if not todo.steps:
            break
        if outcomes:
            watch.planned(Plan(todo.steps))  # what only a second look could show
        outcomes += act(machine, todo.steps, fault, watch.done, 1 + len(outcomes))
        point(fault, "acted")
        now = survey(machine, stored, resolve=True, privileged=True, adopt=request.adopt)
        left = now.plan.only(scope)
        todo = left.only(scope - {outcome.step.tunnel for outcome in outcomes if outcome.error})
    errors, of_names = (_errors(now, left, outcomes, scope, names=names) for names in (False, True))
    point(fault, "verified")
    now = _take_back(machine, now, watch, outcomes, fault)
    errors += [(o.step.tunnel, o.error) for o in outcomes if o.error and o.error not in (e for _, e in (*errors, *of_names))]
    acted = frozenset(outcome.step.tunnel for outcome in outcomes if not outcome.skipped)
    passed = remember.Passed(now, scope, acted, _made_anew(outcomes), dict(errors), request.requested, request.cause)
    remember.handles(machine, passed)
    remember.progress(store, passed)
    point(fault, "recorded")
    remarks = tuple(_remarks(before, outcomes))
    return Pass(first, tuple(outcomes), now, left, (*errors, *of_names), (*warnings, *machine.notes), remarks)


def _remarks(before: Survey, outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Whom name servers were told, and all that this was decided by."""
    told = [o.step.resource for o in outcomes if o.step.verb is not Verb.DELETE and not o.skipped]
    backends = {resource.backend for resource in told if isinstance(resource, Resolver)}
    if backends:
        yield f"dns: {before.facts.name_service} → {', '.join(sorted(backends))}"


def _made_anew(outcomes: Iterable[Outcome]) -> frozenset[TunnelName]:
    """The tunnels whose interface is another one than before."""
    made = (o.step for o in outcomes if not o.skipped and not o.error and o.step.verb in (Verb.CREATE, Verb.REPLACE))
    return frozenset(step.tunnel for step in made if step.resource.kind == "link")


def _scope(before: Survey, request: Request) -> frozenset[TunnelName]:
    """The tunnels that this pass may touch. One that gave up waits for a user."""
    if request.scope is not None:
        return request.scope
    every = {intent.name for intent in before.stored.intents} | {step.tunnel for step in before.plan.steps}
    gave_up = {i.name for i in before.stored.intents if i.progress.state == "failed" and i.is_wanted_up(before.facts.boot_id)}
    return frozenset(every | {HOST}) - (frozenset() if request.requested else gave_up)


def _errors(
    now: Survey, left: Plan, outcomes: Iterable[Outcome], scope: frozenset[TunnelName], *, names: bool
) -> list[tuple[TunnelName, TunctlError]]:
    """Why not all is as wanted, one reason a tunnel and error: the steps that failed, what is foreign, what is left.

    `names`: of name servers only, or of all but them: without them a tunnel is degraded, but it is up.
    """
    without = now.wanted.refused if names else now.wanted.impossible
    failed = [o for o in outcomes if o.error and _is_of_names(o.step.resource.kind) is names]
    errors = [(name, o.error) for o in failed if o.error for name in sorted(_whose(now, o.step))]
    errors += [(name, error) for name, error in without if name in scope]
    errors += [(c.tunnel, _foreign(c)) for c in left.conflicts if _is_of_names(c.wanted.kind) is names]
    for blind in (u for u in now.found.unobserved if _is_of_names(u.kind) is names):
        for name in (scope - {HOST}) if blind.tunnel is None else scope & {blind.tunnel}:
            errors.append((name, NotConverged(f"{blind.kind} could not be read: {blind.reason}")))
    known = {name for name, _ in errors}
    for step in left.steps:
        if step.needs is None and _is_of_names(step.resource.kind) is names:
            for name in sorted(_whose(now, step) - known):
                known.add(name)
                errors.append((name, NotConverged(f"still to do after a second look: {step}")))
    return errors


def _whose(now: Survey, step: Step) -> frozenset[TunnelName]:
    """Who does not work when this step is not done: without the host's routes and rules, the tunnels that go by them."""
    named = now.named(step) if step.tunnel == HOST and step.resource.kind in _GROUND else frozenset()
    return named or frozenset((step.tunnel,))


def _is_of_names(kind: str) -> bool:
    return kind == "resolver"


def _take_back(machine: Machine, now: Survey, watch: Watcher, outcomes: list[Outcome], fault: Fault | None) -> Survey:
    """Removes what a first bring-up has made in which a step failed; a tunnel that worked before keeps what works.

    Only for steps that failed: a look that failed is no reason to remove anything.
    """
    of_steps = [_whose(now, o.step) for o in outcomes if o.error and not _is_of_names(o.step.resource.kind)]
    failed = frozenset[TunnelName]().union(*of_steps)
    first = frozenset(
        intent.name
        for intent in now.stored.intents
        if intent.name in failed and not intent.progress.worked and intent.is_wanted_up(now.facts.boot_id)
    )
    if not first:
        return now
    without = survey(machine, now.stored, resolve=False, privileged=True, without=first).plan.steps
    removal = tuple(s for s in without if s.tunnel in first or s.resource.kind == "nat" or _is_left_over(s))
    if not removal:
        return now
    watch.planned(Plan(removal))
    outcomes += act(machine, removal, fault, watch.done, 1 + len(outcomes))
    return survey(machine, now.stored, resolve=False, privileged=True)


def _is_left_over(step: Step) -> bool:
    return step.tunnel == HOST and step.resource.kind in _GROUND and step.verb is Verb.DELETE


def _foreign(conflict: Conflict) -> Foreign:
    """What is in the way; of a TUN also who has it open, which only now is worth a walk through /proc."""
    found = conflict.found
    pids = process.tun_holders().get(found.name, []) if isinstance(found, Link) and found.type in ("tun", "tap") else []
    held = f" (held by process {', '.join(map(str, pids))})" if pids else ""
    return Foreign(f"{conflict.message}{held}")
