"""Steps → the machine. Writes only, and every write may be done twice; one file a kind, as in observe and kinds."""

from __future__ import annotations

from reconciler.errors import LookAgain, TunctlError
from reconciler.host.machine import Machine
from reconciler.model.plan import Step
from reconciler.model.resource import Verb
from reconciler.typed import TYPE_CHECKING, Any, Protocol

from . import address, addresses, forward, link, links, listen, nat, owner, peer, resolver, route, rule, sysctl, tuns, wireguard

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


ACTUATORS: Mapping[str, Actuator] = {
    "link": link,
    "owner": owner,
    "wireguard": wireguard,
    "peer": peer,
    "listen": listen,
    "address": address,
    "rule": rule,
    "nat": nat,
    "forward": forward,
    "sysctl": sysctl,
    "resolver": resolver,
}
_BULK: Mapping[str, Mapping[Verb, BulkActuator]] = {
    "route": dict.fromkeys((Verb.CREATE, Verb.CHANGE, Verb.REPLACE, Verb.DELETE), route),
    "link": {Verb.CREATE: tuns, Verb.DELETE: links},
    "address": {Verb.CREATE: addresses},
}


def bulk(step: Step) -> BulkActuator | None:
    """Who carries out many steps such as this one in one call; None: each has a call of its own."""
    of_kind = _BULK.get(step.resource.kind)
    return of_kind.get(step.verb) if of_kind else None


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]:
    """Carries out steps, each with its error or None. More than one step only where the same BulkActuator has them all."""
    together = bulk(steps[0])
    if together is not None:
        return together.perform(machine, steps)
    (step,) = steps
    actuator = ACTUATORS[step.resource.kind]
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
