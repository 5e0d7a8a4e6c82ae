"""Many addresses set at once: a message each, sent together."""

from __future__ import annotations

from reconciler.actuate import address
from reconciler.errors import TunctlError
from reconciler.host import nl_address
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.address import Address
from reconciler.model.plan import Step
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]:
    """Sets addresses, each with its error or None. One that the kernel does not take is tried by itself, and says why not."""
    new = [(step, step.resource) for step in steps if isinstance(step.resource, Address)]
    taken = _create_together(machine, [one for _, one in new]) if len(new) > 1 else set[Address]()
    return [(step, None if one in taken else _create(machine, one)) for step, one in new]


def _create(machine: Machine, wanted: Address) -> TunctlError | None:
    try:
        address.create(machine, wanted)
    except TunctlError as error:
        return error
    return None


def _create_together(machine: Machine, addresses: Sequence[Address]) -> set[Address]:
    """→ those that are set."""
    indexes = machine.rtnl.indexes_of({one.dev for one in addresses})
    there = [one for one in addresses if one.dev in indexes]
    bodies = [nl_address.wanted(address.row(one, indexes[one.dev])) for one in there]
    try:
        answers = machine.rtnl.batch(nl_address.RTM_NEWADDR, address.NEW, bodies)
    except (TunctlError, KernelError):
        return set()
    return {one for one, error in zip(there, answers, strict=True) if error is None}
