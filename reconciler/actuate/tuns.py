"""Many TUN devices made at once: what marks them, and what switches them on, is a message each, sent together.

A device that somebody has open has carrier. Switched on then, it gets a link-local address, with its routes, whose carrier goes
a moment later: that costs the kernel as much as making the device. So it is switched on once we have closed it.
"""

from __future__ import annotations

import os

from reconciler.actuate import link
from reconciler.errors import TunctlError
from reconciler.host import nl_link, tun
from reconciler.host.machine import Machine
from reconciler.host.netlink import Message
from reconciler.kinds.link import Link
from reconciler.lean import suppress
from reconciler.model.names import IfName
from reconciler.model.plan import Step
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TOGETHER = 64  # each has a descriptor open meanwhile: by default a process may have 1024


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]:
    """Makes links, each with its error or None. What cannot be made together is made by itself, and says why not."""
    links = [(step, step.resource) for step in steps if isinstance(step.resource, Link)]
    alike = [one for _, one in links if one.type in link.TUNS and not one.by_program]
    made = set[IfName]()
    for start in range(0, len(alike) if len(alike) > 1 else 0, _TOGETHER):
        made |= _create_together(machine, alike[start : start + _TOGETHER])
    return [(step, None if one.name in made else _create(machine, one)) for step, one in links]


def _create(machine: Machine, wanted: Link) -> TunctlError | None:
    try:
        link.create(machine, wanted)
    except TunctlError as error:
        return error
    return None


def _create_together(machine: Machine, links: Sequence[Link]) -> set[IfName]:
    """→ those that are there as they are wanted. Of the others nothing is left that is not marked."""
    marked: dict[Link, int] = {}
    descriptors: dict[Link, int] = {}
    try:
        for wanted in links:
            with suppress(OSError):  # its name is taken, say
                descriptors[wanted] = tun.create(wanted.name, wanted.type, multi_queue=wanted.multi_queue)
        indexes = {wanted: index for wanted in descriptors if (index := machine.rtnl.index_of(wanted.name))}
        for wanted in _changed(machine, indexes, lambda one: {"alias": one.alias, "group": one.group, "mtu": one.mtu}):
            with suppress(OSError, TunctlError):
                tun.give(descriptors[wanted], wanted.uid, wanted.gid)
                link.open_its_death(wanted)
                tun.persist(descriptors[wanted])  # last: cut off before, it vanishes with us
                marked[wanted] = indexes[wanted]
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
    return {wanted.name for wanted in _changed(machine, marked, lambda one: {"up": one.up})}


def _changed(machine: Machine, indexes: Mapping[Link, int], fields: Callable[[Link], dict[str, Any]]) -> Iterator[Link]:
    """Changes these links, one message each. → those for which the kernel took it."""
    bodies = [nl_link.wanted(index=index, **fields(one)) for one, index in indexes.items()]
    errors = machine.rtnl.batch([Message(nl_link.RTM_NEWLINK, 0, body) for body in bodies])
    return (one for one, error in zip(indexes, errors, strict=True) if error is None)
