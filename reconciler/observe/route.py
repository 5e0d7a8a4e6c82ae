"""Our routes, filtered by the kernel; and what stands where we want ours, compared before it becomes an object."""

from __future__ import annotations

from collections.abc import Callable, Set
from functools import partial

from reconciler.errors import NotObserved
from reconciler.host import nl_route
from reconciler.host.machine import Machine
from reconciler.host.nl_route import RouteRow
from reconciler.kinds.route import Route, deviceless_keys
from reconciler.model.intent import Intent
from reconciler.model.marks import PROTOCOL, Numbers
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.observe.link import Devices, by_interface
from reconciler.observe.question import Question

Key = tuple[bytes, int, int, int]  # packed, length, table, metric: Route.key

_FAMILIES = {4: AF_INET, 16: AF_INET6}
_new = tuple.__new__  # a third of what the constructor costs; 100 000 of them


def look(machine: Machine, devices: Devices, question: Question) -> list[Route]:
    """All routes of protocol 115, every table, both families. NotObserved."""
    decode = _ours(devices, question)
    routes: list[Route] = []
    for family in (AF_INET, AF_INET6):
        routes += machine.rtnl.routes(family, decode, protocol=PROTOCOL)
    return routes


def foreign(machine: Machine, keys: Set[Key]) -> list[Route]:
    """Routes that are not ours and stand at these places, the kernel's own for connected networks too. NotObserved."""
    rtnl = machine.rtnl
    rows: list[RouteRow] = []
    for family, table in sorted({(_FAMILIES[len(packed)], table) for packed, _, table, _ in keys}):
        rows += rtnl.routes(family, partial(_foreign_at, keys), table=table)
    names: dict[int, IfName | None] = {0: None}
    for index in {row[5] for row in rows} - {0}:
        link = rtnl.link(index=index)
        names[index] = link.name if link else IfName(f"if{index}")
    return [Route(None, *row[:5], names[row[5]], *row[6:8]) for row in rows]


def _foreign_at(keys: Set[Key], body: bytes) -> RouteRow | None:
    row = nl_route.decode(body)
    return row if row and row[:4] in keys and row[8] != PROTOCOL else None


def _ours(devices: Devices, question: Question) -> Callable[[bytes], Route | None]:
    by_name = by_interface(question)
    by_table = tables(question.intents, question.numbers)
    by_place = _without_device(question)
    overlaps = question.numbers.overlaps
    decode_row = nl_route.decode

    def decode(body: bytes) -> Route | None:
        row = decode_row(body)
        if row is None or row[8] != PROTOCOL:  # a kernel before 4.20 does not filter
            return None
        packed, length, table, metric, type_, ifindex, via, src, _ = row
        dev: IfName | None
        tunnel: TunnelName | None
        if not ifindex:
            dev, tunnel = None, by_place.get(row[:4]) or by_table.get(table, HOST)
        elif ifindex in devices:
            dev, tunnel = devices[ifindex]
            if tunnel == HOST:  # a link without a mark
                tunnel = by_name.get(devices[ifindex][0]) or by_table.get(table, HOST)
        else:
            raise NotObserved(f"link {ifindex} came after the links were listed")
        if table == overlaps:  # copies, which are the host's
            tunnel = HOST
        return _new(Route, (tunnel, packed, length, table, metric, type_, dev, via, src))

    return decode


def _without_device(question: Question) -> dict[Key, TunnelName]:
    """Whose a route is that leads nowhere: nothing on it says so, but one intent wants it. The first one, if two do."""
    claimed: dict[Key, TunnelName] = {}
    for intent in question.intents:
        for key in deviceless_keys(intent, question.numbers):
            claimed.setdefault(key, intent.name)
    return claimed


def tables(intents: tuple[Intent, ...], numbers: Numbers) -> dict[int, TunnelName]:
    """The own tables of tunnels, by the number that follows from the slot."""
    return {numbers.table(intent.slot): intent.name for intent in intents}
