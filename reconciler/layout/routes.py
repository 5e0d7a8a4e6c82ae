"""The routes of one tunnel: through its link, and what stands under them for the day when the link is dead."""

from __future__ import annotations

from reconciler.kinds.route import BLOCK_METRIC, DEFAULT_METRIC, Route
from reconciler.kinds.routes import NOWHERE, Some, bundled
from reconciler.layout.lay import MAIN, UNICAST, Lay
from reconciler.model.facts import Facts
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.model.prefixes import NONE, Prefixes
from reconciler.model.tunnel import RouteSettings

_Alike = tuple[Route, Prefixes]  # what some routes have in common, and their prefixes: of one family

_USUAL = RouteSettings()
_new = tuple.__new__  # as in `kinds.routes`
ANY = {AF_INET: Prefix(bytes(4), 0), AF_INET6: Prefix(bytes(16), 0)}


def of_tunnel(lay: Lay, facts: Facts) -> list[Some]:
    """Those that stand where the tunnel's routes stand. A displaced one is lifted (see overlaps)."""
    said = all_of(lay, facts)
    if lay.displaced:
        displaced = Prefixes.of(lay.displaced)
        said = [(like, prefixes - displaced if like.table == lay.table else prefixes) for like, prefixes in said]
    if len(said) > 1:
        said = _together(said)
    out: list[Some] = []
    for like, prefixes in said:
        out += bundled(like, prefixes)
    return out


def _together(said: list[_Alike]) -> list[_Alike]:
    """Several entries may say the same of theirs."""
    together: dict[Route, Prefixes] = {}
    for like, prefixes in said:
        together[like] = prefixes | together[like] if like in together else prefixes
    return list(together.items())


def all_of(lay: Lay, facts: Facts) -> list[_Alike]:
    """All routes of a tunnel. What blocks comes first."""
    is_dead, out = lay.is_dead, list[_Alike]()
    if lay.table != MAIN:
        out += _alike(lay, blocked(lay, facts), RouteSettings(metric=BLOCK_METRIC + lay.intent.slot, type="unreachable"))
    through = _asked(lay) if is_dead else lay.prefixes
    if through is not NONE:
        out += _alike(lay, through, _USUAL)
    for entry, prefixes in lay.entries:
        if not (is_dead and entry.type == UNICAST):
            out += _alike(lay, prefixes, entry)
    return out


def _asked(lay: Lay) -> Prefixes:
    """All that is left of a dead tunnel's way: to those whose answer would show that it works again. Without it the kernel
    sends nothing there (IPv6), and drops what comes from there (a strict reverse path filter)."""
    health = lay.intent.tunnel.health
    hosts = [Prefix(packed, len(packed) * 8) for packed in (health.ping if health else ())]
    return Prefixes.of(host for host in hosts if lay.table_less.around(host))


def is_in_place_of_connected(lay: Lay, network: Prefix) -> bool:
    """The network of one of the tunnel's own addresses is also a prefix of it: its route in `main` stands where the kernel
    would put one of its own with the address. `10.8.0.2/24` with `allowed_ips = ["10.8.0.0/24"]` is what most people write.
    Of IPv4 only, without a metric: routes of IPv6 have another one than those that come with addresses."""
    if len(network.packed) != 4 or network in lay.displaced:
        return False
    usual = lay.intent.tunnel.metric
    return (lay.table == MAIN and not usual and network in lay.prefixes) or any(
        (entry.table or lay.table) == MAIN and not (usual if entry.metric is None else entry.metric) and network in prefixes
        for entry, prefixes in lay.entries
    )


def _alike(lay: Lay, prefixes: Prefixes, entry: RouteSettings) -> list[_Alike]:
    _, _, metric, table, via, src, kind = entry
    tunnel = lay.intent.tunnel
    if metric is None:
        metric = tunnel.metric
    src, dev = (src or tunnel.src, lay.dev) if kind == UNICAST else (None, None)
    out: list[_Alike] = []
    for size, mine in prefixes.by_size():
        preferred = src if src is not None and len(src) == size else None  # it counts for its own family only
        usual = metric or DEFAULT_METRIC[size]  # IPv6 has no metric 0: the kernel makes it 1024
        like = _new(Route, (tunnel.name, NOWHERE[size], 0, table or lay.table, usual, kind, dev, via, preferred))
        out.append((like, mine))
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
