"""The host's own network, as far as tunnels have to know it: uplinks, connected networks, IPv6. A failed look is Unknown."""

from __future__ import annotations

import os

from reconciler.errors import TunctlError
from reconciler.host import nl_route
from reconciler.host.machine import Machine
from reconciler.host.nl_route import RouteRow
from reconciler.kinds.route import MAIN, UNICAST, Route
from reconciler.kinds.routes import Routes
from reconciler.lean import suppress
from reconciler.model.facts import Connected, Unknown, Uplink
from reconciler.model.found import Found, LinkState
from reconciler.model.marks import PROTOCOL, UPLINKS, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.policy import Policy
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Set

# Behind these stands a program or a key exchange that sends packets of its own, with no mark of ours: under a full tunnel
# they would go into it, and it would go into them. PPP is frames on a wire, tunnels of the kernel alone have a source address.
_VPNS = frozenset(("tun", "tap", "wireguard", "ovpn", "vti", "vti6", "xfrm"))
_TUNNELS = frozenset(("ipip", "ip6tnl", "sit", "gre", "ip6gre"))  # in the kernel; those with one other end only say so
_LENGTH_AT = 1  # rtmsg.rtm_dst_len


def uplinks(machine: Machine, found: Found, policy: Policy, ours: Set[IfName]) -> tuple[Uplink, ...] | Unknown:
    """Default routes in `main` that lead through no VPN, ours or not, lowest metric first. If `[host] uplink` names an
    interface: those by this one, whatever it is. `ours`: links of our tunnels, also those that have no mark yet."""
    if found.is_unobserved("link", None) or found.is_unobserved("address", None):
        return Unknown("links and addresses could not be read")
    rows: list[tuple[int, RouteRow]] = []
    try:
        for family in (AF_INET, AF_INET6):
            rows += [(family, row) for row in machine.rtnl.routes(family, _default, table=MAIN, whole=_no_default)]
    except TunctlError as error:
        return Unknown(error.message)
    states = {state.ifindex: state for state in found.links.values()}
    chosen: list[Uplink] = []
    beaten: set[int] = set()  # families of which a default route of somebody else stands before those seen from now on
    for family, row in sorted(rows, key=lambda one: (one[0], one[1][3])):
        state = states.get(row[5])
        if state and state.name not in ours and _is_uplink(state, policy):
            addresses = tuple(_addresses(found, state.name, family))
            chosen.append(Uplink(family, state.name, row[6], row[3], addresses, beaten=family in beaten))
        else:
            beaten.add(family)
    return tuple(chosen)


def tables_of_uplinks(of_host: Iterable[Route], numbers: Numbers) -> dict[IfName, int]:
    """The uplinks that have a table of their own now, and which. `of_host`: the host's own routes."""
    tables = {numbers.of_uplink(number): number for number in range(UPLINKS)}
    return {route.dev: tables[route.table] for route in of_host if route.dev and route.table in tables}


def _no_default(datagram: bytes) -> tuple[RouteRow, ...] | None:
    return () if nl_route.has_no_default(datagram) else None


def _default(body: bytes) -> RouteRow | None:
    """Only default routes are decoded: `main` may hold a million others."""
    if body[_LENGTH_AT]:
        return None
    row = nl_route.decode(body)
    if row is None or row[4] != UNICAST or row[8] == PROTOCOL:
        return None
    return row if row[5] else nl_route.with_first_hop(row, body)


def _is_uplink(state: LinkState, policy: Policy) -> bool:
    if state.mark is not None or state.loopback:
        return False
    return state.name == policy.uplink or (policy.uplink == "auto" and state.type not in _VPNS)


def _addresses(found: Found, dev: IfName, family: int) -> Iterator[bytes]:
    for prefix in found.addresses.get(dev, ()):
        if prefix.family == family and not prefix.is_link_local:
            yield prefix.packed


def path_mtus(machine: Machine, found: Found, addresses: Iterable[bytes], mark: int) -> dict[bytes, int]:
    """What the ways to these addresses carry, for packets with the tunnels' mark. One that has no way is left out, and one that
    leads into a tunnel of ours: that is none, and is not so for long (the rule for the mark is still to come)."""
    states = {state.ifindex: state for state in found.links.values()}
    mtus = {}
    for packed in dict.fromkeys(addresses):
        with suppress(TunctlError, OSError, ValueError):
            for body in machine.rtnl.request(nl_route.RTM_GETROUTE, 0, nl_route.lookup(packed, mark)):
                row = nl_route.decode_lookup(body)
                if row in states and states[row].mark is None:
                    mtus[packed] = nl_route.mtu_of(body) or states[row].mtu
    return mtus


def connected(found: Found) -> tuple[Connected, ...] | Unknown:
    """The networks of addresses on links that are up and are no tunnels; without hosts, link-local ones and point-to-point."""
    if found.is_unobserved("link", None) or found.is_unobserved("address", None):
        return Unknown("links and addresses could not be read")
    networks: dict[tuple[Prefix, IfName], Connected] = {}
    for state in filter(_is_local, found.links.values()):
        for prefix in found.addresses.get(state.name, ()):
            if not prefix.is_host and not prefix.is_link_local:  # the first address is the one that the kernel would use
                networks.setdefault((prefix.network, state.name), Connected(prefix.network, state.name, prefix.packed))
    return tuple(networks.values())


def _is_local(state: LinkState) -> bool:
    is_tunnel = state.mark is not None or state.type in _VPNS or state.type in _TUNNELS
    return state.up and not (is_tunnel or state.loopback or state.point_to_point)


def leading6(found: Found, links: Mapping[TunnelName, IfName]) -> frozenset[TunnelName] | Unknown:
    """Tunnels with a route for every address of IPv6 through their link (`links`), which has carrier."""
    if found.is_unobserved("route", None):
        return Unknown("routes could not be read")
    through: dict[TunnelName, list[Prefixes]] = {}
    for route, prefixes in _routes6(found):
        if route.tunnel and route.dev == links.get(route.tunnel, ""):
            through.setdefault(route.tunnel, []).append(prefixes)
    states = {name: found.links[links[name]] for name, some in through.items() if AF_INET6 in Prefixes.union(some).whole()}
    return frozenset(name for name, state in states.items() if state.up and state.carrier)


def _routes6(found: Found) -> Iterator[tuple[Route, Prefixes]]:
    for some in found.of(Routes):
        if len(some.like.packed) == 16:
            yield some.like, some.prefixes
    for route in found.of(Route):
        if len(route.packed) == 16:
            yield route, Prefixes.of((Prefix(route.packed, route.length),))


def has_ipv6() -> bool:
    """The kernel has IPv6, and it is not switched off for all links."""
    try:
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "rb") as file:
            return file.read(1) == b"0"
    except OSError:
        return os.path.exists("/proc/sys/net/ipv6")
