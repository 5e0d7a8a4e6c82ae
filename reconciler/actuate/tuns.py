"""Many TUN devices made at once: what switches them on is a message each, sent together.

A device that somebody has open has carrier. Switched on then, it gets a link-local address, with its routes, whose carrier
goes a moment later: that costs the kernel as much as making the device. So it is switched on once we have closed it. Until
then it is marked, and down.
"""

from __future__ import annotations

from reconciler.actuate import link
from reconciler.errors import TunctlError
from reconciler.host import nl_link
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.link import Link
from reconciler.lean import suppress
from reconciler.model.names import IfName
from reconciler.model.plan import Step
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]:
    """Makes links, each with its error or None. What cannot be made together is made by itself, and says why not."""
    links = [(step, step.resource) for step in steps if isinstance(step.resource, Link)]
    alike = [one for _, one in links if one.type in link.TUNS and not one.by_program]
    made = _create_together(machine, alike) if len(alike) > 1 else set[IfName]()
    return [(step, None if one.name in made else _create(machine, one)) for step, one in links]


def _create(machine: Machine, wanted: Link) -> TunctlError | None:
    try:
        link.create(machine, wanted)
    except TunctlError as error:
        return error
    return None


def _create_together(machine: Machine, links: Sequence[Link]) -> set[IfName]:
    """→ those that are there as they are wanted. Of the others nothing is left that is not marked."""
    made: dict[IfName, int | OSError | TunctlError] = {}
    with suppress(KernelError, TunctlError):
        for start in range(0, len(links), link.MOST_TUNS):
            made |= link.new_tuns(machine, links[start : start + link.MOST_TUNS])
    indexes = {one: index for one in links if isinstance(index := made.get(one.name), int)}
    try:
        errors = machine.rtnl.batch(nl_link.RTM_NEWLINK, 0, [nl_link.switched(index, one.up) for one, index in indexes.items()])
    except (TunctlError, KernelError):
        return set()
    return {one.name for one, error in zip(indexes, errors, strict=True) if error is None}
