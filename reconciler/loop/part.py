"""Which part of a plan a pass is about: which tunnels, and what of theirs is to be left alone now. Pure."""

from __future__ import annotations

from _operator import attrgetter
from itertools import compress

from reconciler.kinds.listen import Bound
from reconciler.kinds.owner import Owner
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Outcome, Plan, Step
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from reconciler.loop.reconcile import Request
    from reconciler.loop.survey import Survey


_OF_PROGRAMS = frozenset((Owner, Bound))
_about = attrgetter("resource")


def tunnels(before: Survey, request: Request) -> frozenset[TunnelName]:
    """The tunnels that this pass may touch. One that gave up waits for a user."""
    if request.scope is not None:
        return request.scope | {HOST} if request.patient else request.scope
    every = {intent.name for intent in before.stored.intents} | {step.tunnel for step in before.plan.steps}
    up = [i for i in before.stored.intents if i.is_wanted_up(before.facts.boot_id)]
    gave_up = {i.name for i in up if i.progress.state == "failed"}
    waiting = {i.name for i in up if i.progress.waits(before.facts.now_us)}
    left_alone = request.besides | (waiting if request.patient else set()) | (set() if request.requested else gave_up)
    return frozenset(every | {HOST}) - left_alone


def divided(plan: Plan, scope: frozenset[TunnelName], request: Request) -> tuple[frozenset[TunnelName], frozenset[TunnelName]]:
    """The scope of this pass, and the tunnels that are left to passes of their own: nobody waits for another's program."""
    names = frozenset(step.tunnel for step in Plan(tuple(started(plan))).only(scope).steps)
    scope -= names & frozenset(request.resting)
    slow = names - frozenset(request.resting)
    if not request.apart or not slow:
        return scope, frozenset()
    if len(slow) == 1:  # at once, and the others have a pass while this one waits
        return slow | {HOST}, frozenset()
    return scope - slow, slow


def armed(before: Survey, request: Request) -> frozenset[TunnelName]:
    """The armed tunnels. One that waits, has given up or gets a pass of its own later blocks from the first pass on."""
    return before.wanted.armed - request.besides if request.scope is None else frozenset()


def started(plan: Plan) -> list[Step]:
    """The steps that wait for a program: to begin, to end, or to bind its port."""
    programs = compress(plan.steps, map(_OF_PROGRAMS.__contains__, map(type, map(_about, plan.steps))))
    return [step for step in programs if not isinstance(step.resource, Bound) or step.resource.by_program]


def allowed(plan: Plan, request: Request, outcomes: Iterable[Outcome] = ()) -> Plan:
    """Without what is withheld. What somebody undoes while the daemon is at it is left to the next pass, which knows how often
    that happened."""
    done: set[Hashable] = set()
    if request.patient:
        did = (part for o in outcomes if not o.error and not o.skipped for part in o.step.told_apart())
        done = {(step.verb, step.identity) for step in did}
    if not request.withheld and not done:
        return plan

    def is_free(step: Step) -> bool:
        return step.identity not in request.withheld and (step.verb, step.identity) not in done

    return plan._replace(steps=tuple(part for step in plan.steps for part in _those(step, is_free)))


def _those(step: Step, is_free: Callable[[Step], bool]) -> Iterable[Step]:
    """A step, none, or some of the many objects that it is about."""
    if not is_free(step):
        return ()
    parts = [one for one in step.each() if is_free(one)]
    return (step,) if len(parts) == step.number else parts
