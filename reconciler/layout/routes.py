"""The routes of one tunnel: through its link, and what stands under them for the day when the link is dead."""

from __future__ import annotations

from reconciler.kinds.route import BLOCK_METRIC, DEFAULT_METRIC, Route
from reconciler.kinds.routes import Some, bundled
from reconciler.layout.lay import MAIN, UNICAST, Lay
from reconciler.model.facts import Facts
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.model.prefixes import NONE, Prefixes
from reconciler.model.tunnel import RouteSettings
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_USUAL, _UNREACHABLE = RouteSettings(), RouteSettings(type="unreachable")
ANY = {AF_INET: Prefix(bytes(4), 0), AF_INET6: Prefix(bytes(16), 0)}


def of_tunnel(lay: Lay, facts: Facts) -> Iterator[Some]:
    """Those that stand where the tunnel's routes stand. A displaced one is lifted (see overlaps)."""
    displaced = Prefixes.of(lay.displaced)
    together: dict[Route, Prefixes] = {}  # several entries may say the same of theirs
    for like, prefixes in all_of(lay, facts):
        mine = prefixes - displaced if displaced and like.table == lay.table else prefixes
        together[like] = mine | together[like] if like in together else mine
    for like, mine in together.items():
        yield from bundled(like, mine)


def all_of(lay: Lay, facts: Facts) -> Iterator[tuple[Route, Prefixes]]:
    """All routes of a tunnel: what some have in common, and their prefixes. What blocks comes first."""
    tunnel = lay.intent.tunnel
    if lay.owns_table:
        yield from _alike(lay, blocked(lay, facts), lay.table, BLOCK_METRIC + lay.intent.slot, _UNREACHABLE)
    usual = _asked(lay) if lay.is_dead else lay.prefixes
    if usual:
        yield from _alike(lay, usual, lay.table, tunnel.metric, _USUAL)
    for entry, prefixes in lay.entries:
        if lay.is_dead and entry.type == UNICAST:
            continue
        metric = tunnel.metric if entry.metric is None else entry.metric
        yield from _alike(lay, prefixes, entry.table or lay.table, metric, entry)


def _asked(lay: Lay) -> Prefixes:
    """All that is left of a dead tunnel's way: to those whose answer would show that it works again. Without it the kernel
    sends nothing there (IPv6), and drops what comes from there (a strict reverse path filter)."""
    health = lay.intent.tunnel.health
    hosts = [Prefix(packed, len(packed) * 8) for packed in (health.ping if health else ())]
    return Prefixes.of(host for host in hosts if lay.table_less.around(host))


def in_place_of_connected(lay: Lay) -> Iterator[Prefix]:
    """Networks of the tunnel's own addresses that are also prefixes of it: its route in `main` stands where the kernel would
    put one of its own with the address. `10.8.0.2/24` with `allowed_ips = ["10.8.0.0/24"]` is what most people write. Of
    IPv4 only, without a metric: routes of IPv6 have another one than those that come with addresses."""
    usual = lay.intent.tunnel.metric
    for prefix in lay.intent.tunnel.addresses:
        if prefix.is_host or prefix.family != AF_INET or (network := prefix.network) in lay.displaced:
            continue
        stands = lay.table == MAIN and not usual and network in lay.prefixes
        if stands or any(
            (entry.table or lay.table) == MAIN and not (usual if entry.metric is None else entry.metric) and network in prefixes
            for entry, prefixes in lay.entries
        ):
            yield network


def _alike(
    lay: Lay, prefixes: Prefixes, table: int, metric: int | None, entry: RouteSettings
) -> Iterator[tuple[Route, Prefixes]]:
    through = entry.type == UNICAST
    src = (entry.src or lay.intent.tunnel.src) if through else None
    for size in prefixes.sizes:
        preferred = src if src is not None and len(src) == size else None  # it counts for its own family only
        like = Route(
            lay.intent.name, bytes(size), 0, table,
            metric or DEFAULT_METRIC[size],  # IPv6 has no metric 0: the kernel makes it 1024
            entry.type, lay.dev if through else None, entry.via, preferred,
        )  # fmt: skip
        yield like, prefixes.of_size(size)


def blocked(lay: Lay, facts: Facts) -> Prefixes:
    """What is unreachable when nothing better stands in the tunnel's table; a family that is taken whole, as a whole."""
    if not lay.owns_table:
        return NONE
    whole_ones = [ANY[family] for family in lay.full] if lay.blocks else []
    if leaks_ipv6(lay, facts):
        whole_ones.append(ANY[AF_INET6])
    out = Prefixes.of(whole_ones)
    for size, family in ((4, AF_INET), (16, AF_INET6)) if lay.blocks else ():
        out |= lay.table_less.of_size(size) if family not in lay.full else NONE
    return out


def leaks_ipv6(lay: Lay, facts: Facts) -> bool:
    """A full IPv4 tunnel without IPv6, on a host that has it: that family would go beside the tunnel."""
    return AF_INET in lay.full and AF_INET6 not in lay.full and facts.ipv6 and lay.intent.tunnel.ipv6_leak == "block"


def whole(lay: Lay, facts: Facts) -> frozenset[int]:
    """Families of which no packet passes the tunnel's table: through it, or nowhere."""
    return lay.full | (frozenset((AF_INET6,)) if leaks_ipv6(lay, facts) else frozenset())


def families(lay: Lay, facts: Facts) -> frozenset[int]:
    """Families of which anything stands in the tunnel's own table."""
    return lay.table_less.families | whole(lay, facts)
