"""Our routes, filtered by the kernel; and what stands where we want ours, compared before it becomes an object."""

from __future__ import annotations

from reconciler.errors import NotObserved
from reconciler.host import nl_route
from reconciler.host.machine import Machine
from reconciler.host.nl_route import RouteRow, Run
from reconciler.kinds.route import Ground, Route
from reconciler.kinds.routes import Places, Some, bundled, deviceless, prefixes_of
from reconciler.lean import cached_property, defaultdict
from reconciler.model.intent import Intent
from reconciler.model.marks import PROTOCOL, Numbers
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.model.prefixes import Prefixes
from reconciler.model.resource import FEW
from reconciler.observe.link import by_interface
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from reconciler.observe.link import Devices

# table, metric, type, ifindex, via, src, protocol: what is left of a RouteRow without its prefix
Shape = tuple[int, int, str, int, bytes | None, bytes | None, int]

_Owned = tuple[TunnelName | None, Prefixes]

_SIZES = {4: AF_INET, 16: AF_INET6}
_new = tuple.__new__  # a third of what the constructor costs


def look(machine: Machine, devices: Devices, question: Question) -> list[Some]:
    """All routes of protocol 115, every table, both families; what is many as one. NotObserved."""
    whose = _Whose(devices, question)
    routes: list[Some] = []
    for size, family in _SIZES.items():
        rows: list[RouteRow | Run] = machine.rtnl.routes(family, nl_route.decode, protocol=PROTOCOL, whole=nl_route.as_run)
        routes += whose.routes(size, _by_shape(rows))
    return routes


def foreign(machine: Machine, places: Places) -> list[Route]:
    """Routes that are not ours and stand at these places, the kernel's own for connected networks too. NotObserved."""
    rtnl = machine.rtnl
    rows: list[RouteRow] = []
    for size, table in places.tables:
        there: list[RouteRow | Run] = rtnl.routes(_SIZES[size], _not_ours, table=table, whole=nl_route.as_run)
        rows += (row for one in there for row in _at(places, one))
    names: dict[int, IfName | None] = {0: None}
    for index in {row[5] for row in rows} - {0}:
        link = rtnl.link(index=index)
        names[index] = link.name if link else IfName(f"if{index}")
    return [Route(None, *row[:5], names[row[5]], *row[6:8]) for row in rows]


def _not_ours(body: bytes) -> RouteRow | None:
    row = nl_route.decode(body)
    return None if row is None or row[8] == PROTOCOL else row


def _at(places: Places, found: RouteRow | Run) -> Iterator[RouteRow]:
    """Those of one row, or of a run of them, that stand in a place and are not ours."""
    row, by_device = found if isinstance(found, Run) else (found, {found[5]: [_record(found)]})
    size, table, metric = len(row[0]), *row[2:4]
    if row[8] != PROTOCOL:
        is_there = places.records((size, table, metric)).__contains__
        for index, records in by_device.items():
            for record in filter(is_there, records):
                yield record[:size], record[size], *row[2:5], index, *row[6:]


def _by_shape(rows: Iterable[RouteRow | Run]) -> dict[Shape, list[bytes]]:
    """Records of their prefixes, by all that they say beside them."""
    shapes: defaultdict[Shape, list[bytes]] = defaultdict(list)
    for one in rows:
        if isinstance(one, Run):
            before, after = one.row[2:5], one.row[6:]
            for index, records in one.by_device.items():
                shapes[*before, index, *after] += records
        else:
            shapes[one[2:]].append(_record(one))
    return shapes


def _record(row: RouteRow) -> bytes:
    return row[0] + bytes((row[1],))


class _Whose:
    """Whose routes are: by their device, by the table, or because one tunnel wants them."""

    def __init__(self, devices: Devices, question: Question) -> None:
        self._devices = devices
        self._question = question

    @cached_property
    def _by_table(self) -> Mapping[int, TunnelName]:
        return tables(self._question.intents, self._question.numbers)

    @cached_property
    def _by_name(self) -> Mapping[IfName, TunnelName]:
        return by_interface(self._question)

    @cached_property
    def _claims(self) -> list[tuple[TunnelName, Ground, Prefixes]]:
        """Nothing on a route that leads nowhere says whose it is, but one intent wants it. The first one, if two do."""
        numbers = self._question.numbers
        return [(i.name, *claim) for i in self._question.intents for claim in deviceless(i, numbers)]

    def routes(self, size: int, shapes: Mapping[Shape, list[bytes]]) -> Iterator[Some]:
        """Those of a family, whose addresses have so many bytes."""
        nowhere, overlaps = bytes(size), self._question.numbers.overlaps
        for shape, records in shapes.items():
            table, metric, type_, ifindex, via, src, protocol = shape
            if protocol != PROTOCOL:  # a kernel before 4.20 does not filter
                continue
            prefixes = prefixes_of(size, records)
            dev, owners = (
                self._of_device(ifindex, table, prefixes) if ifindex else (None, self._of_claims(prefixes, size, shape))
            )
            for tunnel, mine in owners:
                owner = HOST if table == overlaps else tunnel  # copies, which are the host's
                route: Route = _new(Route, (owner, nowhere, 0, table, metric, type_, dev, via, src))
                yield from bundled(route, mine, FEW if owner == HOST else 1)  # the host wants single ones

    def _of_device(self, ifindex: int, table: int, prefixes: Prefixes) -> tuple[IfName, Iterable[_Owned]]:
        if ifindex not in self._devices:
            raise NotObserved(f"link {ifindex} came after the links were listed")
        dev, tunnel = self._devices[ifindex]
        if tunnel == HOST:  # a link without a mark
            tunnel = self._by_name.get(dev) or self._by_table.get(table, HOST)
        return dev, ((tunnel, prefixes),)

    def _of_claims(self, prefixes: Prefixes, size: int, shape: Shape) -> Iterator[_Owned]:
        table, metric, *_ = shape
        for tunnel, where, claimed in self._claims:
            if where == (size, table, metric):
                yield tunnel, prefixes & claimed
                prefixes -= claimed
        yield self._by_table.get(table, HOST), prefixes


def tables(intents: tuple[Intent, ...], numbers: Numbers) -> dict[int, TunnelName]:
    """The own tables of tunnels, by the number that follows from the slot."""
    return {numbers.table(intent.slot): intent.name for intent in intents}
