"""All links of the namespace in one look, and which of them are ours."""

from __future__ import annotations

from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.model.found import LinkState
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Devices = Mapping[int, tuple[IfName, TunnelName | None]]

_new = tuple.__new__  # a third of what the constructor costs


def look(machine: Machine, question: Question) -> tuple[dict[IfName, LinkState], list[Link]]:
    """Every link, by name and as a resource. NotObserved."""
    states = {state.name: state for state in machine.rtnl.links(counted=machine.counts)}
    return states, [as_found(state, _tunnel(state, question)) for state in states.values()]


def by_interface(question: Question) -> dict[IfName, TunnelName]:
    """The tunnels that name their interface, by that name."""
    return {name: tunnel for tunnel, name in question.interfaces.items()}


def devices(states: Mapping[IfName, LinkState], links: Iterable[Link]) -> Devices:
    """ifindex → name and whose it is: a tunnel's, HOST where there is no mark, None where there is another store's.

    `links` may have been completed since the look (a TUN that our own program holds is its tunnel's, marked or not).
    """
    ours = {link.ifindex: link.tunnel for link in links if link.tunnel}
    return {state.ifindex: (state.name, ours.get(state.ifindex) or (None if state.mark else HOST)) for state in states.values()}


def as_found(state: LinkState, tunnel: TunnelName | None) -> Link:
    """What the kernel says of a link, as a resource."""
    dies_openly, by_program = tunnel is not None and state.ignores_linkdown, False
    link: Link = _new(Link, (
        tunnel, state.name, state.type, state.mtu, state.up, state.alias, state.group, state.uid, state.gid,
        state.multi_queue, dies_openly, by_program, state.ifindex, state.carrier,
    ))  # fmt: skip
    return link


def _tunnel(state: LinkState, question: Question) -> TunnelName | None:
    mark = state.mark
    if mark is not None:
        return mark.tunnel if question.is_ours(mark) else None
    half_made = state.type == "wireguard" and state.group == question.numbers.link_group and not state.alias
    # The kernel takes a group when it makes a link, an alias only later: we were cut off between the two.
    return by_interface(question).get(state.name) if half_made else None
