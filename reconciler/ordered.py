"""In which order the steps of a plan are done. Pure."""

from __future__ import annotations

from _operator import attrgetter
from itertools import chain

from reconciler.kinds import KINDS
from reconciler.kinds.resolver import Resolver
from reconciler.lean import defaultdict
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Step
from reconciler.model.resource import Resource, Verb
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

_LAST = 1  # removals stand in the order of their kinds, from behind: from -len(KINDS) to 0
_AT_ONCE = -1  # beside what blocks
_STOPS = 0  # after that, before links (1), and those owners that make one
_verb_of, _order_of = attrgetter("verb"), attrgetter("resource.order")


def ordered(
    steps: Sequence[Step],
    staying: Container[TunnelName | None],
    at_once: Callable[[Resource], bool] | None,
    room: Container[Resource] = (),
) -> tuple[Step, ...]:
    """First what leaves goes, then creations and changes by rising order, then what is left over goes.

    Owners stop before anything but what blocks is made: the next one needs their device, and a link is not replaced under them.
    One whose link is replaced is stopped before and started after, in two steps. What the host no longer needs goes
    first too, unless something of that kind comes in its stead: then make before break. Its routes are the last of all: a
    pin stays until no route leads into the tunnel any more. Name servers of a tunnel that goes are the first to go: nobody
    may ask them any more. `room`: addresses that go, with the kernel's route to their network, before ours takes its place.
    """
    if at_once is None and {*map(_verb_of, steps)} == {Verb.CREATE}:
        return tuple(sorted(steps, key=_order_of))
    phases = _in_phases(steps, staying, at_once, room)
    return tuple(chain.from_iterable([phase[order] for phase in phases for order in sorted(phase)]))


def _in_phases(
    steps: Sequence[Step],
    staying: Container[TunnelName | None],
    at_once: Callable[[Resource], bool] | None,
    room: Container[Resource],
) -> tuple[dict[int, list[Step]], ...]:
    """What leaves, what is made, and what goes after that, each by its order."""
    replaced = {step.tunnel for step in steps if step.verb is Verb.REPLACE and step.resource.kind == "link"}
    renewed = {step.resource.kind for step in steps if step.tunnel == HOST and step.verb is not Verb.DELETE}
    leaving, made, after = (defaultdict[int, list[Step]](list) for _ in range(3))
    for step in steps:
        resource = step.resource
        order = _AT_ONCE if at_once and at_once(resource) else resource.order
        if step.found is None:
            made[order].append(step)
        elif _is_names_of_leaving(step, staying):
            leaving[-len(KINDS)].append(step)
        elif step.verb is Verb.DELETE and step.tunnel == HOST and resource.kind == "route":
            after[_LAST].append(step)
        elif step.verb is Verb.DELETE and resource.kind == "owner" and step.tunnel in staying:
            made[_STOPS].append(step)
        elif step.verb is Verb.DELETE and resource in room and step.tunnel in staying:
            made[resource.order].append(step)  # behind those that come
        elif step.verb is Verb.DELETE:
            first = step.tunnel not in staying or (step.tunnel == HOST and resource.kind not in renewed)
            (leaving if first else after)[-KINDS.index(resource.kind)].append(step)
        elif step.verb is Verb.REPLACE and resource.kind == "owner" and step.tunnel in replaced:
            made[_STOPS].append(Step(Verb.DELETE, step.found, step.found, step.tunnel))
            made[order].append(Step(Verb.CREATE, resource, None, step.tunnel))
        else:
            made[order].append(step)
    for removals in (*leaving.values(), *after.values()):
        removals.reverse()  # what was looked up last goes first
    return leaving, made, after


def _is_names_of_leaving(step: Step, staying: Container[TunnelName | None]) -> bool:
    found = step.found
    return isinstance(found, Resolver) and (step.verb is Verb.DELETE or found.owner not in staying)
