"""The routes of one tunnel: through its link, and what stands under them for the day when the link is dead."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.kinds.route import BLOCK_METRIC, DEFAULT_METRIC, Route
from reconciler.layout.lay import MAIN, UNICAST, Lay
from reconciler.model.facts import Facts
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix

ANY = {AF_INET: Prefix(bytes(4), 0), AF_INET6: Prefix(bytes(16), 0)}


def of_tunnel(lay: Lay, facts: Facts) -> Iterator[Route]:
    """Those that stand where the tunnel's routes stand. A displaced one is lifted (see overlaps)."""
    for route in all_of(lay, facts):
        if not lay.displaced or route.table != lay.table or (route.packed, route.length) not in lay.displaced:
            yield route


def all_of(lay: Lay, facts: Facts) -> Iterator[Route]:
    """All routes of a tunnel; what blocks comes first."""
    name = lay.intent.name
    for prefix in blocked(lay, facts):
        yield Route(name, *prefix, lay.table, BLOCK_METRIC + lay.intent.slot, "unreachable", None)
    tunnel = lay.intent.tunnel
    for packed, length in lay.prefixes:
        metric = tunnel.metric or DEFAULT_METRIC[len(packed)]  # IPv6 has no metric 0: the kernel makes it 1024
        yield Route(name, packed, length, lay.table, metric, UNICAST, lay.dev, None, _src(tunnel.src, packed))
    for entry, prefixes in lay.entries:
        wanted = tunnel.metric if entry.metric is None else entry.metric
        metrics = {size: wanted or default for size, default in DEFAULT_METRIC.items()}
        through = entry.type == UNICAST
        dev, src, table = lay.dev if through else None, entry.src or tunnel.src, entry.table or lay.table
        for packed, length in prefixes:
            preferred = _src(src, packed) if through else None
            yield Route(name, packed, length, table, metrics[len(packed)], entry.type, dev, entry.via, preferred)


def in_place_of_connected(lay: Lay) -> Iterator[Prefix]:
    """Networks of the tunnel's own addresses that are also prefixes of it: its route in `main` stands where the kernel would
    put one of its own with the address. `10.8.0.2/24` with `allowed_ips = ["10.8.0.0/24"]` is what most people write. Of
    IPv4 only, without a metric: routes of IPv6 have another one than those that come with addresses."""
    usual = lay.intent.tunnel.metric
    for prefix in lay.intent.tunnel.addresses:
        network = prefix.network
        if prefix.family != AF_INET or prefix.is_host or network in lay.displaced:
            continue
        stands = lay.table == MAIN and not usual and network in lay.prefixes
        if stands or any(
            (entry.table or lay.table) == MAIN and not (usual if entry.metric is None else entry.metric) and network in prefixes
            for entry, prefixes in lay.entries
        ):
            yield network


def blocked(lay: Lay, facts: Facts) -> Iterator[Prefix]:
    """What is unreachable when nothing better stands in the tunnel's table; a family that is taken whole, as a whole."""
    if not lay.owns_table:
        return
    if lay.blocks:
        yield from (ANY[family] for family in sorted(lay.full))
        yield from dict.fromkeys(prefix for prefix in lay.table_less() if prefix.family not in lay.full)
    if leaks_ipv6(lay, facts):
        yield ANY[AF_INET6]


def leaks_ipv6(lay: Lay, facts: Facts) -> bool:
    """A full IPv4 tunnel without IPv6, on a host that has it: that family would go beside the tunnel."""
    return AF_INET in lay.full and AF_INET6 not in lay.full and facts.ipv6 and lay.intent.tunnel.ipv6_leak == "block"


def whole(lay: Lay, facts: Facts) -> frozenset[int]:
    """Families of which no packet passes the tunnel's table: through it, or nowhere."""
    return lay.full | (frozenset((AF_INET6,)) if leaks_ipv6(lay, facts) else frozenset())


def families(lay: Lay, facts: Facts) -> frozenset[int]:
    """Families of which anything stands in the tunnel's own table."""
    return frozenset(prefix.family for prefix in lay.table_less()) | whole(lay, facts)


def _src(src: bytes | None, packed: bytes) -> bytes | None:
    """The preferred source counts for its own family only."""
    return src if src is not None and len(src) == len(packed) else None
