"""The machine → found + facts. Reads only; one file a kind, as in kinds and actuate.

A look that fails is `unobserved`, with its reason: unknown, never "none".
"""

from __future__ import annotations

from _operator import attrgetter

from reconciler.errors import TunctlError
from reconciler.host.machine import Machine
from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.kinds.route import Route
from reconciler.kinds.routes import Places, Some
from reconciler.kinds.rule import Rule
from reconciler.kinds.sysctl import Sysctl
from reconciler.kinds.wireguard import Device
from reconciler.model.found import Found, LinkState, Unobserved
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Resource
from reconciler.observe import address, link, owner, packetfilter, resolver, route, rule, sysctl
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from reconciler.model.port import Socket

T = TypeVar("T")


def look(machine: Machine, question: Question) -> Found:
    """One look at everything that is ours, and at the links and addresses of everybody."""
    blind: list[Unobserved] = []
    states, links = _try("link", blind, lambda: link.look(machine, question), (dict[IfName, LinkState](), list[Link]()))
    if blind:
        return Found((), {}, {}, tuple(blind))
    owners, blind_owners = owner.look(machine, question, states)
    blind += blind_owners
    links = _held(states, links, owners, question)
    devices = link.devices(states, links)
    addresses, on_links = _try(
        "address",
        blind,
        lambda: address.look(machine, devices, question),
        (dict[IfName, tuple[Prefix, ...]](), list[Address]()),
    )
    routes = _try("route", blind, lambda: route.look(machine, devices, question), list[Some]())
    rules = _try("rule", blind, lambda: rule.look(machine, question), list[Rule]())
    passing = packetfilter.look(machine, question)
    switches = _try("sysctl", blind, lambda: sysctl.look(machine), list[Sysctl]())
    engines, peers, blind_engines = _engines(machine, question, links, owners)
    names = resolver.look(machine, question, links, states)
    on_host: list[Resource] = [*passing.resources, *switches, *names.resolvers]
    served, sockets, blind_ports = _ports(machine, question, [*links, *owners, *engines], [*blind_owners, *blind_engines])
    resources: list[Resource] = [*links, *owners, *engines, *peers, *served, *on_links, *routes, *rules, *on_host]
    blind += (*passing.unobserved, *blind_engines, *blind_ports, *names.unobserved)
    return Found(
        tuple(resources),
        states,
        addresses,
        tuple(blind),
        publishes=passing.publishes,
        drops=passing.drops,
        sockets=sockets,
        name_service=names.service,
    )


def _engines(
    machine: Machine, question: Question, links: list[Link], owners: list[Owner]
) -> tuple[list[Device], list[Peer], list[Unobserved]]:
    if not any(map(attrgetter("tunnel.wireguard"), question.intents)):
        return [], [], []
    from reconciler.observe import wireguard  # 4 ms with all that talks to engines

    return wireguard.look(machine, question, links, owners)


def _ports(
    machine: Machine, question: Question, carriers: Sequence[Resource], blind: Iterable[Unobserved]
) -> tuple[Iterable[Resource], tuple[Socket, ...], Iterable[Unobserved]]:
    if not any(map(attrgetter("tunnel.listen"), question.intents)):
        return (), (), ()
    from reconciler.observe import listen

    return listen.look(machine, question, carriers, blind)


def foreign_routes(machine: Machine, places: Places) -> list[Route]:
    """What others have in these places."""
    return route.foreign(machine, places)


def settled(machine: Machine, wanted: Sequence[Resource], found: Found) -> list[Sysctl]:
    """Switches that are wanted, were so before us, and are not ours."""
    return sysctl.settled(machine, wanted, found)


def unobserved(kind: str, error: TunctlError, tunnel: TunnelName | None = None) -> Unobserved:
    """A look that failed, as a value."""
    return Unobserved(tunnel, kind, error.message, privilege=error.exit_code == 77)


def _try(kind: str, blind: list[Unobserved], look_: Callable[[], T], nothing: T) -> T:
    try:
        return look_()
    except TunctlError as error:
        blind.append(unobserved(kind, error))
        return nothing


def _held(states: dict[IfName, LinkState], links: list[Link], owners: list[Owner], question: Question) -> list[Link]:
    """A TUN without a mark that a program of ours holds is its tunnel's: we were cut off before we marked it."""
    marked = {one.tunnel for one in links} if owners else set()
    holders = {
        one.holds: one.tunnel
        for one in owners
        if one.holds and one.tunnel and one.tunnel not in marked and question.interfaces.get(one.tunnel, one.holds) == one.holds
    }
    if not holders:
        return links
    found = [one for one in links if one.name not in holders]
    for name, tunnel in holders.items():
        if name in states and states[name].mark is None:
            found.append(link.as_found(states[name], tunnel))
    return [*found, *(one for one in links if one.name in holders and states[one.name].mark is not None)]
