"""What belongs to the host and not to one tunnel: the shared table and the rules below 20100. It comes with the first
tunnel that needs it and goes with the last."""

from __future__ import annotations

from reconciler.kinds.route import BLOCK_METRIC, DEFAULT_METRIC, Route
from reconciler.kinds.routes import Some
from reconciler.kinds.rule import MAIN, Rule
from reconciler.layout import overlaps, ways
from reconciler.layout.ground import Ground
from reconciler.layout.lan import is_believed
from reconciler.layout.lay import UNICAST
from reconciler.layout.overlaps import Overlaps
from reconciler.layout.routes import ANY, whole
from reconciler.model.facts import Connected, Unknown
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, parse_prefix
from reconciler.model.prefixes import NONE, Prefixes
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MARKED_ELSE, SHARED, WAY_BACK, WAY_BACK_DEFAULT, OVERLAPS, SPLIT_FIRST = 20, 30, 40, 41, 45, 50  # offsets of priorities

MULTICAST, BROADCAST = parse_prefix("224.0.0.0/4"), parse_prefix("255.255.255.255/32")


def shared(ground: Ground, given: Overlaps) -> Iterator[Resource]:
    """Routes of the shared tables, pins, and the rules of all classes below 20100."""
    direct = tuple(_direct(ground))
    lifted = overlaps.routes(given, direct, ground.facts, ground.policy.numbers) if given.lifted else ()
    above = [prefix for prefix, _ in given.lifted]
    local = (*_local(ground, above), *_to_all(ground))
    routes = dict.fromkeys((*local, *direct, *pins(ground, above), *_defaults(ground), *lifted))
    tables = {(AF_INET if len(route.packed) == 4 else AF_INET6, route.table) for route in routes if route.length}
    rules = tuple(_rules(ground, tables))
    looked_up = {(rule.family, rule.table) for rule in rules}
    yield from routes
    for way in ground.ways:
        yield from ways.routes(way) if (way.uplink.family, way.table) in looked_up else ()
    yield from rules


def _local(ground: Ground, above: Sequence[Prefix]) -> Iterator[Route]:
    """Connected networks that some open table covers, or a direct prefix, or one that is looked up before `main` (`above`):
    they are looked up before all of these."""
    table = ground.policy.numbers.table_base
    looked_into = {lay.intent.name: lay for lay in (*ground.open, *ground.with_direct)}
    covering = [(whole(lay, ground.facts), lay.table_less | lay.direct) for lay in looked_into.values()]
    covering.append((frozenset(), Prefixes.of(above)))
    for prefix, (dev, src) in _networks(ground).items():
        if any(prefix.family in all_of or inside.meets(prefix) for all_of, inside in covering):
            preferred = src if prefix.family == AF_INET else None  # IPv6 chooses by destination, and changes its addresses
            yield Route(HOST, *prefix, table, DEFAULT_METRIC[len(prefix.packed)], UNICAST, dev, None, preferred)


def _to_all(ground: Ground) -> Iterator[Route]:
    """What is for everybody around (mDNS, SSDP, DHCP), if a network stays local and a wider prefix of a tunnel covers it. A
    prefix in it that a tunnel names is meant. IPv6: the kernel looks multicast up in `local`, before any rule."""
    near = next(((dev, src) for prefix, (dev, src) in _networks(ground).items() if prefix.family == AF_INET), None)
    lays = [lay for lay in ground.lays if near and (lay.table == MAIN or lay.is_open)]
    table, metric = ground.policy.numbers.table_base, DEFAULT_METRIC[4]
    for everybody in (MULTICAST, BROADCAST):
        covering = [length for lay in lays for length in lay.table_less.around(everybody)]
        if near and covering and max(covering) < everybody.length:
            yield Route(HOST, *everybody, table, metric, UNICAST, near[0], None, near[1])
            for prefix in (prefix for lay in lays for prefix in lay.table_less.inside(everybody)):
                yield Route(HOST, *prefix, table, metric, "throw", None)


def _networks(ground: Ground) -> dict[Prefix, tuple[IfName, bytes | None]]:
    """Each once: of two links into the same network (cable and radio) the one of the better uplink, and from which
    address: without it the kernel takes the first of the link, which may be of another network."""
    uplinks = () if isinstance(ground.facts.uplinks, Unknown) else ground.facts.uplinks
    ranks = {uplink.dev: rank for rank, uplink in reversed(list(enumerate(uplinks)))}
    chosen: dict[Prefix, tuple[IfName, bytes | None]] = {}
    for prefix, dev, src in sorted(ground.kept, key=lambda one: ranks.get(one.dev, len(uplinks))):
        chosen.setdefault(prefix, (dev, src))
    return chosen


def _direct(ground: Ground) -> Iterator[Route]:
    """What must never go into a tunnel: by the uplink."""
    for prefix in dict.fromkeys(prefix for lay in ground.with_direct for prefix in lay.direct):
        yield from _away(ground, prefix, None, ground.policy.numbers.table_base)


def pins(ground: Ground, above: Sequence[Prefix] = ()) -> Iterator[Route]:
    """Endpoints kept out of the tunnels: in `main` where a prefix of ours there covers them, whichever engine it is; in the
    shared table where the own table of a tunnel covers them, or a prefix that is looked up before `main` (`above`), and
    the engine cannot mark its packets."""
    if not ground.endpoints:
        return
    in_main = Prefixes.union(lay.table_less - Prefixes.of(lay.displaced) for lay in ground.in_main)
    in_own = Prefixes.union(lay.table_less for lay in ground.lays if lay.owns_table) | Prefixes.of(above)
    for lay in ground.lays:
        marks = lay.intent.tunnel.wireguard is not None
        for packed in ground.endpoints.get(lay.intent.name, ()):
            host = Prefix(packed, len(packed) * 8)
            near = _network_of(host, ground)
            widths = in_main.around(host)
            tables = [MAIN] if widths and not (near and near.prefix.length > max(widths)) else []
            if not marks and near not in ground.kept and in_own.around(host):
                tables.append(ground.policy.numbers.table_base)
            for table in tables:  # an uplink that goes takes its routes along, at once: rather nowhere than into a tunnel
                yield from _away(ground, host, near, table)
                yield Route(HOST, *host, table, BLOCK_METRIC, "unreachable", None)


def _network_of(host: Prefix, ground: Ground) -> Connected | None:
    """The connected network in which an address lies."""
    connected = () if isinstance(ground.facts.connected, Unknown) else ground.facts.connected
    near = [one for one in connected if is_believed(one.prefix) and one.prefix.covers(host)]
    return max(near, key=lambda one: one.prefix.length, default=None)


def _away(ground: Ground, prefix: Prefix, near: Connected | None, table: int) -> Iterator[Route]:
    """Past all tunnels: on the link, by the uplink, or nowhere if the host has uplinks of the other family only."""
    uplink, metric = ground.uplinks.get(prefix.family), DEFAULT_METRIC[len(prefix.packed)]
    if near is not None:
        yield Route(HOST, *prefix, table, metric, UNICAST, near.dev)
    elif uplink is not None:
        yield ways.by(uplink, prefix, table)
    elif ground.uplinks:
        yield Route(HOST, *prefix, table, metric, "unreachable", None)


def needing_uplink(ground: Ground) -> set[TunnelName]:
    """Tunnels that can only come up if there is a gateway: for their direct prefixes, or to reach their endpoints."""
    directing = set() if ground.uplinks else {lay.intent.name for lay in ground.with_direct}
    beyond = {name: hosts for name, packed in ground.endpoints.items() if (hosts := _beyond(ground, packed))}
    inside = Prefixes.union(lay.table_less for lay in ground.lays) if beyond else NONE
    return directing.union(name for name, hosts in beyond.items() if any(inside.around(host) for host in hosts))


def _beyond(ground: Ground, endpoints: Iterable[bytes]) -> list[Prefix]:
    """The endpoints of a tunnel, if none can be reached without a gateway. One that can is enough: a name may have
    addresses of a family that the host has not."""
    hosts = [Prefix(packed, len(packed) * 8) for packed in endpoints]
    return [] if any(host.family in ground.uplinks or _network_of(host, ground) for host in hosts) else hosts


def _defaults(ground: Ground) -> Iterator[Route]:
    """For the way back past a tunnel's prefix in `main`. Rule 20030 does not see it: it suppresses default routes."""
    own = {(way.uplink.family, way.uplink.dev) for way in ground.ways}
    for family, uplink in ground.uplinks.items():
        if uplink.addresses and (family, uplink.dev) not in own and family in ground.main_families:
            yield ways.by(uplink, ANY[family], ground.policy.numbers.table_base)


def _rules(ground: Ground, tables: set[tuple[int, int]]) -> Iterator[Rule]:
    numbers = ground.policy.numbers
    base, table = numbers.priority_base, numbers.table_base
    mark = (numbers.fwmark, numbers.fwmask)
    # any table but main may be chosen for packets of the engine, by rules that say who sends them; answers carry it, too
    marks = ground.is_full or (
        ground.can_mark and any(lay.table != MAIN or lay.intent.tunnel.rules or lay.displaced for lay in ground.lays)
    )
    for family in ground.families:
        if marks:
            yield from _engines(ground, family)
            yield Rule(HOST, family, base + MARKED_ELSE, 0, fwmark=mark, action="unreachable")
        if (family, table) in tables:
            yield Rule(HOST, family, base + SHARED, table, suppress_length=0)
        yield from _narrowed(ground, _way_back(ground, family), family)
        if (family, numbers.overlaps) in tables:
            yield Rule(HOST, family, base + OVERLAPS, numbers.overlaps)
        if ground.is_full:
            # a default route never counts, even by a link that somebody has put into another group
            yield Rule(HOST, family, base + SPLIT_FIRST, MAIN, suppress_group=0, suppress_length=0)


def _engines(ground: Ground, family: int) -> Iterator[Rule]:
    """Tunnels' own packets: by the uplink at whose address they were asked, else by the best one."""
    numbers = ground.policy.numbers
    own = [way for way in ground.ways if way.uplink.family == family]
    for way in own if ground.can_mark else ():
        yield from ways.engines_answers(way, numbers, _hidden(ground, family))
    yield from ways.engines(next((way for way in own[:1] if way.uplink.beaten), None), family, numbers)


def _hidden(ground: Ground, family: int) -> int | None:
    """Links whose routes in `main` do not count: tunnels'."""
    return ground.policy.numbers.link_group if family in ground.main_families else None


def _way_back(ground: Ground, family: int) -> Iterator[Rule]:
    """Answers from an address of an uplink leave as they did before there was a tunnel. Where a tunnel's prefix in `main`
    could cover the client, the tunnels' routes there do not count, and the default route is that of the shared table."""
    numbers, group = ground.policy.numbers, _hidden(ground, family)
    uplinks = () if isinstance(ground.facts.uplinks, Unknown) else ground.facts.uplinks
    if group is None and not ground.open:
        return
    own = {way.uplink.dev: way for way in ground.ways if way.uplink.family == family}
    for dev, way in own.items():
        yield from ways.answers(way, numbers, group, is_published=dev in ground.publishing)
    others = {p for uplink in uplinks if uplink.family == family and uplink.dev not in own for p in uplink.addresses}
    for packed in sorted(others):
        address = Prefix(packed, len(packed) * 8)
        yield Rule(HOST, family, numbers.priority_base + WAY_BACK, MAIN, address, suppress_group=group)
        if group is not None:
            yield Rule(HOST, family, numbers.priority_base + WAY_BACK_DEFAULT, numbers.table_base, address)


def _narrowed(ground: Ground, rules: Iterator[Rule], family: int) -> Iterator[Rule]:
    if family == AF_INET or ground.judged_for is None:
        return rules
    from reconciler.layout import begun

    return begun.narrowed(rules, ground.lays)


def served(ground: Ground, one: Some | Rule) -> frozenset[TunnelName]:
    """The tunnels that do not work without this route or rule of the host's own."""
    place = one.priority - ground.policy.numbers.priority_base if isinstance(one, Rule) else None
    if place is not None and place <= MARKED_ELSE:
        lays = [lay for lay in ground.lays if lay.full or lay.intent.tunnel.wireguard is not None]
    elif place == SPLIT_FIRST:
        lays = [lay for lay in ground.lays if lay.full]
    else:
        lays = [lay for lay in ground.lays if lay.owns_table or lay.table_less]
    return frozenset(lay.intent.name for lay in lays)
