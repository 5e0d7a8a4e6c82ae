"""The rule that leads into a tunnel's own table, if every packet is to look there."""

from __future__ import annotations

from reconciler.kinds.rule import FULL_TABLES, Rule, user_priority
from reconciler.layout.lay import UNICAST, Lay
from reconciler.layout.routes import families, whole
from reconciler.model.facts import Facts
from reconciler.model.marks import Numbers
from reconciler.model.names import HOST
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def of_tables(lays: Iterable[Lay], facts: Facts, numbers: Numbers) -> Iterator[Rule]:
    """Own tables of full tunnels stand behind all others, by the metric of their default route, then by slot. One that only
    keeps a family from leaking stands behind those that carry it."""
    open_ones = [lay for lay in lays if lay.is_open]
    ranks = {}
    for family in (AF_INET, AF_INET6):
        ranks.update({(lay.intent.name, family): rank for rank, lay in enumerate(ranked(open_ones, facts, family))})
    for lay in open_ones:
        name = lay.intent.name
        for family in sorted(families(lay, facts)):
            if family in whole(lay, facts):
                priority = numbers.priority_base + FULL_TABLES[min(ranks[name, family], len(FULL_TABLES) - 1)]
                yield Rule(HOST, family, priority, lay.table)
            else:
                yield Rule(name, family, user_priority(lay.intent.slot, numbers), lay.table)


def ranked(lays: Iterable[Lay], facts: Facts, family: int) -> list[Lay]:
    """Those whose tables no packet of the family passes, in the order in which they are asked."""
    mine = [lay for lay in lays if lay.is_open and family in whole(lay, facts)]
    return sorted(mine, key=lambda lay: (family not in lay.full, _metric(lay), lay.intent.slot))


def _metric(lay: Lay) -> int:
    """That of the default route, or of its halves: the lowest, if there are several."""
    general = lay.intent.tunnel.metric or 0
    widest = min(_lengths(lay.table_less), default=None)  # None: all of it stays outside (direct)
    found = [general] if widest in _lengths(lay.prefixes) else []
    for entry, prefixes in lay.entries:
        if entry.table is None and entry.type == UNICAST and widest in _lengths(prefixes):
            found.append(general if entry.metric is None else entry.metric)
    return min(found, default=general)


def _lengths(prefixes: Prefixes) -> list[int]:
    return prefixes.lengths(4) + prefixes.lengths(16)
