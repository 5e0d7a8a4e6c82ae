"""Many routes as one object: those that are alike but for their prefix.

Wanted and found have them, steps are about them, and one call carries a step out. Whoever has to see single ones asks for
`each`. How the two sides are compared: see parted.
"""

from __future__ import annotations

from itertools import filterfalse

from reconciler.kinds.route import DEFAULT_METRIC, MAIN, UNICAST, Ground, Route
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefixes import Prefixes
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Sequence

NOWHERE = {4: bytes(4), 16: bytes(16)}
_new = tuple.__new__  # a third of what the constructor costs


class Routes(NamedTuple):
    """More than one, of one family. `like` is one of them with the prefix /0."""

    like: Route
    prefixes: Prefixes

    def each(self) -> Iterator[Route]:
        tunnel, _, _, *rest = self.like
        for packed, length in self.prefixes:
            yield _new(Route, (tunnel, packed, length, *rest))

    def lines(self, sign: str = "") -> list[str]:
        before, after = self.like.words
        return self.prefixes.briefs(sign + before, after)

    @property
    def number(self) -> int:
        return len(self.prefixes)

    @property
    def alike(self) -> Hashable:
        return self.like

    @property
    def ground(self) -> Ground:
        return self.like.ground

    @property
    def records(self) -> list[bytes]:
        return self.prefixes.records(len(self.like.packed))

    @property
    def kind(self) -> str:
        return "route"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def tunnel(self) -> TunnelName | None:
        return self.like.tunnel

    @property
    def dev(self) -> IfName | None:
        return self.like.dev

    @property
    def table(self) -> int:
        return self.like.table

    @property
    def key(self) -> Hashable:
        return self

    @property
    def place(self) -> Hashable:
        return self

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return self.like.hangs_on

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return self.like.order

    def differs_from(self, _found: Resource) -> tuple[str, ...]:
        """One that has the same identity is the same."""
        return ()

    def __str__(self) -> str:
        before, after = self.like.words
        first, last = self.prefixes.ends
        return f"{before}{first.brief} … {last.brief}{after} ({self.number} of them)"


Some = Route | Routes


def like(route: Route) -> Route:
    """What it has in common with others: itself, but for its prefix."""
    return _new(Route, (route.tunnel, NOWHERE[len(route.packed)], 0, *route[3:]))


def bundled(pattern: Route, prefixes: Prefixes, few: int = 1) -> Iterable[Some]:
    """The routes to these prefixes, all of the family of `pattern`, which has the prefix /0: as one object if they are more
    than so few."""
    routes: Routes = _new(Routes, (pattern, prefixes))
    return (routes,) if len(prefixes) > few else routes.each()


def deviceless(intent: Intent, numbers: Numbers) -> Iterator[tuple[Ground, Prefixes]]:
    """Places of the routes of an intent that have no device, in whichever table the tunnel's routes stand."""
    tunnel = intent.tunnel
    for entry in tunnel.routes:
        if entry.type == UNICAST:
            continue
        metric = tunnel.metric if entry.metric is None else entry.metric
        table = entry.table or tunnel.table
        prefixes = Prefixes.of(entry.to) | (entry.to_file.prefixes if entry.to_file else Prefixes())
        for size in (4, 16):
            for number in (table,) if table else (MAIN, numbers.table(intent.slot)):
                yield (size, number, metric or DEFAULT_METRIC[size]), prefixes.of_size(size)


class Places:
    """Where some stand: to be asked about the routes of others, of which there may be none, or a million."""

    def __init__(self, some: Iterable[Some] = ()) -> None:
        self._some: dict[Ground, list[Some]] = {}
        self._records: dict[Ground, set[bytes]] = {}  # made when they are asked for
        for one in some:
            self._some.setdefault(one.ground, []).append(one)

    @property
    def tables(self) -> list[tuple[int, int]]:
        """Bytes of an address, and number of the table, of each table that is concerned."""
        return sorted({(size, table) for size, table, _ in self._some})

    def only(self, ground: Ground) -> Prefixes | None:
        """Those on this ground, if it is one object that has them all."""
        some = self._some.get(ground, ())
        return some[0].prefixes if len(some) == 1 and isinstance(some[0], Routes) else None

    def records(self, ground: Ground) -> set[bytes]:
        """Those on this ground, as in `Prefixes`."""
        if ground not in self._records:
            self._records[ground] = {record for one in self._some.get(ground, ()) for record in one.records}
        return self._records[ground]


def missing(wanted: Sequence[Some], found: Sequence[Some]) -> list[Some]:
    """Those of the wanted at whose places none of the found ones stands."""
    if not found:
        return list(wanted)
    lacking = list(filterfalse(set(found).__contains__, wanted))
    taken = Places(found if lacking else ())
    out: list[Some] = []
    for one in lacking:
        if isinstance(one, Routes):
            rest = _rest(one, taken)
            out += (one,) if rest == one.prefixes else bundled(one.like, rest)
        elif taken.records(one.ground).isdisjoint(one.records):
            out.append(one)
    return out


def _rest(one: Routes, taken: Places) -> Prefixes:
    """Those of its prefixes at which nothing stands. Mostly that is itself as it was, nearly the same."""
    other = taken.only(one.ground)
    if other is not None:
        return one.prefixes - other
    return prefixes_of(one.ground[0], filterfalse(taken.records(one.ground).__contains__, one.records))


def prefixes_of(size: int, records: Iterable[bytes]) -> Prefixes:
    """Of records of one family."""
    return Prefixes(records) if size == 4 else Prefixes((), records)
