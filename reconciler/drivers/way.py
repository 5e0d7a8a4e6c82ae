"""`mtu = "auto"`: what the way to a tunnel's endpoints carries, less what the engine adds. Pure."""

from __future__ import annotations

from reconciler.model.facts import Facts, Unknown
from reconciler.model.prefix import AF_INET6
from reconciler.model.tunnel import Tunnel
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

OVERHEAD = 80  # bytes: an IPv6 and a UDP header and WireGuard's own 32, as wg-quick; an endpoint may change its family
_LEAST, _LEAST_IPV6 = 576, 1280  # as in the file; RFC 8200: below it there is no IPv6


def mtu(tunnel: Tunnel, hosts: Iterable[str], facts: Facts) -> int | None:
    """1420 on an Ethernet; by the narrowest of several ways. None: no way is known now. What programs add is not known:
    they are taken to add what WireGuard does."""
    known = (facts.resolved.get(host, ()) for host in hosts)
    packed = [one for addresses in known if not isinstance(addresses, Unknown) for one in addresses]
    ways = [facts.path_mtu[one] for one in packed if one in facts.path_mtu]
    return max(min(ways) - OVERHEAD, _LEAST_IPV6 if _has_ipv6(tunnel) else _LEAST) if ways else None


def _has_ipv6(tunnel: Tunnel) -> bool:
    allowed = (prefix for peer in (tunnel.wireguard.peers if tunnel.wireguard else ()) for prefix in peer.allowed_ips)
    routed = (prefix for entry in tunnel.routes for prefix in entry.to)
    return any(prefix.family == AF_INET6 for prefix in (*tunnel.addresses, *allowed, *routed))
