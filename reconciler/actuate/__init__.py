"""Steps → the machine. Writes only, and every write may be done twice; one file a kind, as in observe and kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from reconciler.errors import LookAgain, TunctlError
from reconciler.host.machine import Machine
from reconciler.model.plan import Step
from reconciler.model.resource import Verb

from . import address, forward, link, nat, owner, peer, resolver, route, rule, sysctl, wireguard


class Actuator(Protocol):
    """What a module of this room offers. Raises TunctlError with the kernel's words; "already so" is no error."""

    def create(self, machine: Machine, wanted: Any) -> None: ...

    def change(self, machine: Machine, wanted: Any, found: Any, fields: tuple[str, ...]) -> None: ...

    def delete(self, machine: Machine, found: Any) -> None: ...


class BulkActuator(Protocol):
    """For kinds of which there are thousands: one call, one result for each step."""

    def perform(self, machine: Machine, steps: Sequence[Step]) -> Sequence[TunctlError | None]: ...


ACTUATORS: Mapping[str, Actuator] = {
    "link": link,
    "owner": owner,
    "wireguard": wireguard,
    "peer": peer,
    "address": address,
    "rule": rule,
    "nat": nat,
    "forward": forward,
    "sysctl": sysctl,
    "resolver": resolver,
}
BULK: Mapping[str, BulkActuator] = {"route": route}


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[TunctlError | None]:
    """Carries out steps of one kind, one error or None for each. More than one step only for the kinds in BULK."""
    kind = steps[0].resource.kind
    if kind in BULK:
        return BULK[kind].perform(machine, steps)
    (step,) = steps
    actuator = ACTUATORS[kind]
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
    return [None]
