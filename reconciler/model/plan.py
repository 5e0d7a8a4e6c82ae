"""What is to be done, as data: every step can be printed before it is done."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.model.names import TunnelName
from reconciler.model.resource import Resource, Verb
from reconciler.typed import NamedTuple


class Step(NamedTuple):
    """One change. CREATE has no `found`, DELETE has the same object as `resource` and `found`."""

    verb: Verb
    resource: Resource
    found: Resource | None
    tunnel: TunnelName
    fields: tuple[str, ...] = ()  # what differs, for CHANGE and REPLACE
    needs: TunnelName | None = None  # a tunnel that is not up yet, and without which this is not to be done
    regardless: bool = False  # done though another step of its tunnel failed

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

    def only(self, tunnels: frozenset[TunnelName]) -> Plan:
        """The part of it that concerns these tunnels."""
        return Plan(
            tuple(s for s in self.steps if s.tunnel in tunnels and (s.needs is None or s.needs in tunnels)),
            tuple(conflict for conflict in self.conflicts if conflict.tunnel in tunnels),
            self.warnings,
        )


class Outcome(NamedTuple):
    """What became of a step. `error` None and not `skipped`: done."""

    step: Step
    error: TunctlError | None
    seconds: float
    skipped: bool = False  # an earlier step of the same tunnel failed
