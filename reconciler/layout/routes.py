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


def of_tunnel(lay: Lay, facts: Facts) -> list[Some]:
    """Those that stand where the tunnel's routes stand. A displaced one is lifted (see overlaps)."""
    displaced = Prefixes.of(lay.displaced) if lay.displaced else None
    together: dict[Route, Prefixes] = {}  # several entries may say the same of theirs
    for like, prefixes in all_of(lay, facts):
        mine = prefixes - displaced if displaced and like.table == lay.table else prefixes
        together[like] = mine | together[like] if like in together else mine
    out: list[Some] = []
    for like, mine in together.items():
        out += bundled(like, mine)
    return out


def all_of(lay: Lay, facts: Facts) -> list[tuple[Route, Prefixes]]:
    """All routes of a tunnel: what some have in common, and their prefixes. What blocks comes first."""
    intent, table = lay.intent, lay.table
    usual = intent.tunnel.metric
    out = _alike(lay, blocked(lay, facts), table, BLOCK_METRIC + intent.slot, _UNREACHABLE) if lay.owns_table else []
    through = _asked(lay) if lay.is_dead else lay.prefixes
    if through:
        out += _alike(lay, through, table, usual, _USUAL)
    for entry, prefixes in lay.entries:
        if not (lay.is_dead and entry.type == UNICAST):
            metric = usual if entry.metric is None else entry.metric
            out += _alike(lay, prefixes, entry.table or table, metric, entry)
    return out


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
        packed, length = prefix
        if length == 32 or len(packed) != 4 or (network := prefix.network) in lay.displaced:
            continue
        stands = lay.table == MAIN and not usual and network in lay.prefixes
        if stands or any(
            (entry.table or lay.table) == MAIN and not (usual if entry.metric is None else entry.metric) and network in prefixes
            for entry, prefixes in lay.entries
        ):
            yield network


def _alike(lay: Lay, prefixes: Prefixes, table: int, metric: int | None, entry: RouteSettings) -> list[tuple[Route, Prefixes]]:
    kind, tunnel = entry.type, lay.intent.tunnel
    src, dev = (entry.src or tunnel.src, lay.dev) if kind == UNICAST else (None, None)
    out = []
    for size in prefixes.sizes:
        preferred = src if src is not None and len(src) == size else None  # it counts for its own family only
        usual = metric or DEFAULT_METRIC[size]  # IPv6 has no metric 0: the kernel makes it 1024
        like = Route(tunnel.name, bytes(size), 0, table, usual, kind, dev, entry.via, preferred)
        out.append((like, prefixes.of_size(size)))
    return out


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
