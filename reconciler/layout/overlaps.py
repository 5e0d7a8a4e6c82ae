"""Prefixes of one tunnel inside those of another one whose table is looked up earlier: the longest prefix decides anyway.

In one table the kernel sees to that. For prefixes in different ones there is a table that is looked up before all of them
and after the way back: it holds the longer prefixes, those that are longer still, and nothing else. They are copies: when a
device dies, its routes go from there too, and the wider prefix counts again, unless what blocks stands there as well.

A prefix that equals a connected network which tunnels may cover stands there, too, and not in `main`: there is the kernel's
own route for that network, which nobody may replace.
"""

from __future__ import annotations

from reconciler.kinds.route import BLOCK_METRIC, DEFAULT_METRIC, Route
from reconciler.kinds.routes import Routes
from reconciler.kinds.rule import FULL_TABLES, user_priority
from reconciler.layout.lay import MAIN, Lay
from reconciler.layout.routes import all_of, whole
from reconciler.model.facts import Facts
from reconciler.model.marks import Numbers
from reconciler.model.names import HOST, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")
_DIRECT, _MAIN_FIRST, _MAIN_LAST = 30, 50, 1000  # when these are looked up, as offsets of priorities; `main` by itself last


class Overlap(NamedTuple):
    """A prefix of one tunnel inside one of another, where the wider one would come first."""

    prefix: Prefix
    tunnel: TunnelName  # whose it is
    wider: Prefix
    other: TunnelName
    is_direct: bool  # the wider one is a direct prefix


class Overlaps(NamedTuple):
    """All of them, and every prefix that must be looked up before."""

    found: tuple[Overlap, ...] = ()
    lifted: tuple[tuple[Prefix, Lay], ...] = ()  # each once: of several tunnels the one that would come first


_Places = list[tuple[Prefix, int, Lay]]  # prefix, when it is looked up, whose


def overlaps(lays: Sequence[Lay], facts: Facts, numbers: Numbers) -> Overlaps:
    """Tables that only the users' own rules lead into are left as they are; so are full tunnels among each other."""
    open_ones = [lay for lay in lays if lay.table == MAIN or lay.is_open]
    direct = [(prefix, _DIRECT, lay) for lay in lays if lay.direct for prefix in lay.direct]
    displaced = [prefix for lay in open_ones for prefix in lay.displaced]
    if not displaced and len({lay.table for lay in open_ones}) + bool(direct) < 2:
        return Overlaps()
    is_full = any(lay.full for lay in lays)
    sizes = ((4, AF_INET), (16, AF_INET6))
    orders = [{size: _order(lay, family, facts, numbers, is_full=is_full) for size, family in sizes} for lay in open_ones]
    if not direct and not displaced and not _may_be_inside(open_ones, orders):
        return Overlaps()
    places = [(p, order[len(p.packed)], lay) for lay, order in zip(open_ones, orders, strict=True) for p in lay.table_less]
    found = tuple(_found(places, direct))
    tops = _Index((prefix, prefix) for prefix in (*(one.prefix for one in found), *displaced))
    lifted: dict[Prefix, tuple[int, Lay]] = {}
    for prefix, order, lay in places if found or displaced else ():
        if (prefix not in lifted or order < lifted[prefix][0]) and any(tops.around(prefix, or_equal=True)):
            lifted[prefix] = order, lay
    return Overlaps(found, tuple((prefix, lay) for prefix, (_, lay) in lifted.items()))


def _may_be_inside(lays: Sequence[Lay], orders: Sequence[dict[int, int]]) -> bool:
    """Cheap: a full tunnel beside 100 000 prefixes in `main` is not compared with them."""
    first = {size: min(order[size] for order in orders) for size in (4, 16)}
    pairs = [pair for pair in zip(lays, orders, strict=True) if any(pair[1][size] > first[size] for size in first)]
    return any(order[size] > first[size] and any(lay.table_less.lengths(size)) for lay, order in pairs for size in first)


def _order(lay: Lay, family: int, facts: Facts, numbers: Numbers, *, is_full: bool) -> int:
    if lay.table == MAIN:
        return _MAIN_FIRST if is_full else _MAIN_LAST
    return FULL_TABLES[0] if family in whole(lay, facts) else user_priority(lay.intent.slot, numbers) - numbers.priority_base


def _found(places: _Places, direct: _Places) -> Iterator[Overlap]:
    wide = [*direct, *((prefix, order, lay) for prefix, order, lay in places if order < FULL_TABLES[0])]
    first = min((order for _, order, _ in wide), default=0)
    shortest = min((prefix.length for prefix, _, _ in wide), default=0)
    narrow = [place for place in places if place[1] > first and place[0].length > shortest]
    index = _Index((place[0], place) for place in wide) if narrow else None
    for prefix, order, lay in narrow:
        for wider, earlier, other in index.around(prefix) if index else ():
            if earlier < order and other is not lay:
                yield Overlap(prefix, lay.intent.name, wider, other.intent.name, earlier == _DIRECT)
                break


def routes(given: Overlaps, direct: Iterable[Route], facts: Facts, numbers: Numbers) -> Iterator[Route]:
    """The copies. `direct`: the routes of direct prefixes, which are looked up earlier still: a longer prefix of a tunnel
    is thrown out there."""
    tables = {lay.table for _, lay in given.lifted}
    homes = {table: Prefixes.of(prefix for prefix, lay in given.lifted if lay.table == table) for table in tables}
    for lay in {lay.intent.name: lay for _, lay in given.lifted}.values():
        for like, prefixes in all_of(lay, facts):
            if like.dev and like.table in homes:
                copied = like._replace(tunnel=HOST, table=numbers.overlaps)
                yield from Routes(copied, prefixes & homes[like.table]).each()
    for prefix, lay in given.lifted:
        if lay.blocks:
            yield Route(HOST, *prefix, numbers.overlaps, BLOCK_METRIC + lay.intent.slot, "unreachable", None)
    around = {one.wider for one in given.found if one.is_direct}
    for route in direct:
        if (route.packed, route.length) in around:
            yield route._replace(table=numbers.overlaps)
    for one in given.found:
        if one.is_direct:
            yield Route(HOST, *one.prefix, numbers.table_base, DEFAULT_METRIC[len(one.prefix.packed)], "throw", None)


def told(given: Overlaps, lays: Iterable[Lay]) -> Iterator[str]:
    """What a plan says of them."""
    for lay in lays:
        for prefix in sorted(lay.displaced):
            yield f"{lay.intent.name}: {prefix} goes into the tunnel, though the host stands in this network (lan, lan_except)"
    for prefix, name, wider, other, is_direct in given.found[:20]:
        yield f"{name}: {prefix} goes first inside {'direct ' if is_direct else ''}{wider} of {other} (longest prefix)"
    if len(given.found) > 20:
        yield f"and {len(given.found) - 20} more prefixes of one tunnel inside another's"


class _Index(Generic[T]):
    """Finds what lies around a prefix: a dictionary for each length that there is."""

    def __init__(self, entries: Iterable[tuple[Prefix, T]]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, list[T]]] = {}
        for prefix, entry in entries:
            values = self._by_length.setdefault((len(prefix.packed), prefix.length), {})
            shift = prefix.bits - prefix.length
            values.setdefault(int.from_bytes(prefix.packed, "big") >> shift, []).append(entry)
        self._lengths = {size: sorted(n for s, n in self._by_length if s == size) for size in (4, 16)}

    def around(self, prefix: Prefix, *, or_equal: bool = False) -> Iterator[T]:
        """The widest first."""
        size, bits = len(prefix.packed), len(prefix.packed) * 8
        value = int.from_bytes(prefix.packed, "big")
        for length in self._lengths[size]:
            if length > prefix.length or (length == prefix.length and not or_equal):
                return
            yield from self._by_length[size, length].get(value >> (bits - length), ())
