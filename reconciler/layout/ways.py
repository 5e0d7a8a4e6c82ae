"""Several uplinks: each has a table of its own, so that what came in by one of them is answered by it. Pure.

As long as `main` leads by the only one, none is needed. It is also needed where `main` leads elsewhere: by the VPN of
somebody else, or past the one that `[host] uplink` names.
"""

from __future__ import annotations

from reconciler.kinds.route import BLOCK_METRIC, DEFAULT_METRIC, UNICAST, Route
from reconciler.kinds.rule import MAIN, Rule
from reconciler.layout.routes import ANY
from reconciler.model.facts import Facts, Unknown, Uplink
from reconciler.model.marks import UPLINKS, Numbers
from reconciler.model.names import HOST, IfName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OWN_FIRST, MARKED, WAY_BACK = 5, 10, 40  # offsets of priorities; behind each of them the table that is asked next


class Way(NamedTuple):
    """An uplink with a table of its own."""

    uplink: Uplink
    table: int
    mark: tuple[int, int] | None  # of answers that leave by it: value, mask

    @property
    def sources(self) -> Iterator[Prefix]:
        for packed in self.uplink.addresses:
            yield Prefix(packed, len(packed) * 8)


def ways(facts: Facts, numbers: Numbers) -> tuple[Way, ...]:
    """For each family the best default route of each device, the best device first."""
    uplinks = () if isinstance(facts.uplinks, Unknown) else facts.uplinks
    numbered = _numbered(uplinks, facts)
    first: dict[tuple[int, IfName], Uplink] = {}
    for uplink in uplinks:
        first.setdefault((uplink.family, uplink.dev), uplink)
    return tuple(_way(uplink, numbered[uplink.dev], numbers) for uplink in first.values() if uplink.dev in numbered)


def _numbered(uplinks: Iterable[Uplink], facts: Facts) -> dict[IfName, int]:
    """Which table each device has: a device keeps the one it has, connections remember it by its mark."""
    uplinks = tuple(uplinks)
    of_family = [[uplink for uplink in uplinks if uplink.family == family] for family in (AF_INET, AF_INET6)]
    if not any(len({one.dev for one in found}) > 1 or (found and found[0].beaten) for found in of_family):
        return {}
    chosen: dict[IfName, int] = {}
    for dev in dict.fromkeys(uplink.dev for uplink in uplinks):
        now = facts.uplink_tables.get(dev)
        if now is not None and now not in chosen.values():
            chosen[dev] = now
    free = iter([number for number in range(UPLINKS) if number not in chosen.values()])
    for dev in dict.fromkeys(uplink.dev for uplink in uplinks if uplink.dev not in chosen):
        number = next(free, None)
        if number is not None:
            chosen[dev] = number
    return chosen


def _way(uplink: Uplink, number: int, numbers: Numbers) -> Way:
    mark = numbers.mark_of_uplink(number)
    return Way(uplink, numbers.of_uplink(number), (mark, numbers.fwmask) if mark is not None else None)


def by(uplink: Uplink, prefix: Prefix, table: int) -> Route:
    """A route of the host's own by an uplink."""
    return Route(HOST, *prefix, table, DEFAULT_METRIC[len(prefix.packed)], UNICAST, uplink.dev, uplink.via)


def routes(way: Way) -> Iterator[Route]:
    """What its table holds. An uplink that goes takes its route along, at once: rather nowhere than into a tunnel."""
    prefix = ANY[way.uplink.family]
    yield by(way.uplink, prefix, way.table)
    yield Route(HOST, *prefix, way.table, BLOCK_METRIC, "unreachable", None)


def answers(way: Way, numbers: Numbers, group: int | None, *, is_published: bool) -> Iterator[Rule]:
    """The host's own routes count as ever, but for the default route. `group`: links whose routes do not count either."""
    priority = numbers.priority_base + WAY_BACK
    for source in way.sources:
        yield from _by_it(way, priority, group, from_=source)
    if is_published and way.mark:
        yield from _by_it(way, priority, group, fwmark=way.mark)


def engines_answers(way: Way, numbers: Numbers, group: int | None) -> Iterator[Rule]:
    """A tunnel's engine that was asked at an address of this uplink."""
    for source in way.sources:
        mark = (numbers.fwmark, numbers.fwmask)
        yield from _by_it(way, numbers.priority_base + OWN_FIRST, group, from_=source, fwmark=mark)


def engines(way: Way | None, family: int, numbers: Numbers) -> Iterator[Rule]:
    """What tunnels' engines send of themselves. `way`: where `main` leads elsewhere."""
    priority, mark = numbers.priority_base + MARKED, (numbers.fwmark, numbers.fwmask)
    if way is None:
        yield Rule(HOST, family, priority, MAIN, fwmark=mark)
    else:
        yield from _by_it(way, priority, None, fwmark=mark)


def _by_it(
    way: Way, priority: int, group: int | None, *, from_: Prefix | None = None, fwmark: tuple[int, int] | None = None
) -> Iterator[Rule]:
    family = way.uplink.family
    yield Rule(HOST, family, priority, MAIN, from_, fwmark=fwmark, suppress_group=group, suppress_length=0)
    yield Rule(HOST, family, priority + 1, way.table, from_, fwmark=fwmark)
