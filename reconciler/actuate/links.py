"""Many links removed at once, by a group of their own: a link that goes alone makes the kernel wait until no packet is on its
way in it (16 ms for a TUN), a whole group waits once."""

from __future__ import annotations

import os

from reconciler.actuate import link
from reconciler.errors import TunctlError
from reconciler.host import nl_link
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.link import Link
from reconciler.model.plan import Step
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def perform(machine: Machine, steps: Sequence[Step]) -> Sequence[tuple[Step, TunctlError | None]]:
    """Removes links, each with its error or None. Those that do not go together go one by one, and say why not."""
    found = [(step, step.found) for step in steps if isinstance(step.found, Link)]
    if len(found) > 1:
        _delete_together(machine, [one for _, one in found])
    return [(step, _delete(machine, one)) for step, one in found]


def _delete(machine: Machine, found: Link) -> TunctlError | None:
    try:
        link.delete(machine, found)
    except TunctlError as error:
        return error
    return None


def _delete_together(machine: Machine, found: Sequence[Link]) -> None:
    """Cut off in between, the links are ours as before: it is the alias that says so. What goes wrong here is left to the
    removal of each."""
    try:
        aliases = {one.ifindex: one.alias for one in found if one.alias}
        still = {state.ifindex for state in machine.rtnl.links() if aliases.get(state.ifindex) == state.alias}
        if len(still) < 2:
            return
        group = _number()
        machine.rtnl.batch(nl_link.RTM_NEWLINK, 0, [nl_link.wanted(index=one, group=group) for one in sorted(still)])
        if _members(machine, group) <= still:
            machine.rtnl.request(nl_link.RTM_DELLINK, 0, nl_link.wanted(group=group))
    except (TunctlError, KernelError):
        return


def _number() -> int:
    """One that nobody else has. u32, and ip(8) takes no negative ones."""
    return int.from_bytes(os.urandom(4), "big") >> 2 | 1 << 30


def _members(machine: Machine, group: int) -> set[int]:
    return {state.ifindex for state in machine.rtnl.links() if state.group == group}
