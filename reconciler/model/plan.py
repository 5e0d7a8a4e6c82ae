"""What is to be done, as data: every step can be printed before it is done."""

from __future__ import annotations

from _operator import attrgetter, is_
from itertools import compress, filterfalse, repeat

from reconciler.errors import TunctlError
from reconciler.model.names import TunnelName
from reconciler.model.resource import FEW, Resource, Verb, is_many, number
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterable, Iterator, Sequence

_tunnel_of, _needs_of = attrgetter("tunnel"), attrgetter("needs")  # of a step
_resource_of, _acted_for = attrgetter("step.resource"), attrgetter("step.tunnel")  # of an outcome
_error_of, _is_skipped = attrgetter("error"), attrgetter("skipped")


class Step(NamedTuple):
    """One change. CREATE has no `found`, DELETE has the same object as `resource` and `found`."""

    verb: Verb
    resource: Resource
    found: Resource | None
    tunnel: TunnelName
    fields: tuple[str, ...] = ()  # what differs, for CHANGE and REPLACE
    needs: TunnelName | None = None  # a tunnel that is not up yet, and without which this is not to be done
    regardless: bool = False  # done though another step of its tunnel failed

    @property
    def number(self) -> int:
        """How many objects it is about."""
        return number(self.resource)

    @property
    def blocks(self) -> bool:
        """It keeps out of a tunnel's way what would go past it."""
        return self.verb is Verb.CREATE and self.resource.order < 0

    @property
    def identity(self) -> Hashable:
        """What is told apart when it is done again and again. Of many what they have in common: it may be others each time."""
        return self.resource.kind, self.resource.alike if is_many(self.resource) else self.resource.key

    def each(self) -> Iterator[Step]:
        """One for each of them. What is many is made or removed, never changed."""
        if not is_many(self.resource):
            yield self
            return
        for one in self.resource.each():
            yield self._replace(resource=one, found=one if self.found else None)

    def told_apart(self) -> Iterator[Step]:
        """What counts for itself when it is done again and again: each of a few, whatever else is gone this time; of many
        they are one."""
        return self.each() if self.number <= FEW else iter((self,))

    def __str__(self) -> str:
        return f"{self.verb.value} {self.resource}"


class Conflict(NamedTuple):
    """Something that is not this tunnel's stands where it wants its own."""

    tunnel: TunnelName
    wanted: Resource
    found: Resource
    message: str

    def __str__(self) -> str:
        return self.message


class Plan(NamedTuple):
    """Steps in the order in which they are done."""

    steps: tuple[Step, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """How many objects its steps are about."""
        return sum(step.number for step in self.steps)

    def each(self) -> Iterator[Step]:
        """The steps, one object each."""
        return (one for step in self.steps for one in step.each())

    def only(self, tunnels: frozenset[TunnelName], blocking: Container[TunnelName] = ()) -> Plan:
        """The part of it that concerns these tunnels, and what makes those in `blocking` block."""
        concerned = {*map(_tunnel_of, self.steps), *map(_needs_of, self.steps), *map(_tunnel_of, self.conflicts)}
        if concerned <= tunnels | {None}:
            return self
        return Plan(
            tuple(
                [
                    s
                    for s in self.steps
                    if (s.tunnel in tunnels and (s.needs is None or s.needs in tunnels)) or (s.tunnel in blocking and s.blocks)
                ]
            ),
            tuple([conflict for conflict in self.conflicts if conflict.tunnel in tunnels]),
            self.warnings,
        )


class Outcome(NamedTuple):
    """What became of a step. `error` None and not `skipped`: done."""

    step: Step
    error: TunctlError | None
    seconds: float  # for each object of the step
    skipped: bool = False  # an earlier step of the same tunnel failed


def about(outcomes: Sequence[Outcome], cls: type) -> Iterator[Outcome]:
    """Those of steps that are about objects of one class."""
    return compress(outcomes, map(is_, map(type, map(_resource_of, outcomes)), repeat(cls)))


def failed(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Those with an error."""
    return filter(_error_of, outcomes)


def attempted(outcomes: Iterable[Outcome]) -> frozenset[TunnelName]:
    """The tunnels for which something was done, or was tried."""
    return frozenset(map(_acted_for, filterfalse(_is_skipped, outcomes)))
