"""Steps → the machine. Writes only, and every write may be done twice; one file a kind, as in observe and kinds.

A module of it is imported when the first step comes that it is for: most commands need two or three of them.
"""

from __future__ import annotations

from reconciler.errors import LookAgain, TunctlError
from reconciler.host.machine import Machine
from reconciler.kinds import KINDS
from reconciler.model.plan import Step
from reconciler.model.resource import Verb
from reconciler.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Actuator(Protocol):
    """What a module of this room offers. Raises TunctlError with the kernel's words; "already so" is no error."""

    def create(self, machine: Machine, wanted: Any) -> None: ...

    def change(self, machine: Machine, wanted: Any, found: Any, fields: tuple[str, ...]) -> None: ...

    def delete(self, machine: Machine, found: Any) -> None: ...


class BulkActuator(Protocol):
    """For kinds of which there are thousands: one call for many steps. A step about many objects may come back in parts."""

    def perform(self, machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]: ...


if TYPE_CHECKING:  # mypy compares each with its protocol
    from . import (
        address,
        addresses,
        forward,
        link,
        links,
        listen,
        nat,
        owner,
        peer,
        resolver,
        route,
        rule,
        sysctl,
        tuns,
        wireguard,
    )

    ACTUATORS: Sequence[Actuator] = (
        link, owner, wireguard, peer, listen, address, route, rule, nat, forward, sysctl, resolver,
    )  # fmt: skip
    BULK_ACTUATORS: Sequence[BulkActuator] = (addresses, links, route, tuns)

_BULK: Mapping[tuple[str, Verb], str] = {
    **dict.fromkeys((("route", verb) for verb in (Verb.CREATE, Verb.CHANGE, Verb.REPLACE, Verb.DELETE)), "route"),
    ("link", Verb.CREATE): "tuns",
    ("link", Verb.DELETE): "links",
    ("address", Verb.CREATE): "addresses",
}
MODULES = (*KINDS, "addresses", "links", "tuns")


def bulk(step: Step) -> str | None:
    """The BulkActuator that carries out many steps such as this one in one call; None: each has a call of its own."""
    return _BULK.get((step.resource.kind, step.verb))


def _module(name: str) -> Any:
    return __import__(f"{__name__}.{name}", fromlist=("",))


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]:
    """Carries out steps, each with its error or None. More than one step only where the same BulkActuator has them all."""
    together = bulk(steps[0])
    if together is not None:
        many: BulkActuator = _module(together)
        return many.perform(machine, steps)
    (step,) = steps
    actuator: Actuator = _module(step.resource.kind)
    if step.verb is Verb.CREATE:
        actuator.create(machine, step.resource)
    elif step.verb is Verb.CHANGE:
        actuator.change(machine, step.resource, step.found, step.fields)
    else:
        actuator.delete(machine, step.found)
        if step.verb is Verb.REPLACE and machine.is_overtaken:
            raise LookAgain(f"{step.resource}: others had their turn while its process ended")
        if step.verb is Verb.REPLACE:
            actuator.create(machine, step.resource)
    return [(step, None)]
