"""The route to a network that the kernel makes of an address, and takes away with the last address of that network on the link
(fib_add_ifaddr, fib_del_ifaddr). Of IPv4 only: those of IPv6 have another metric than ours, so they are in nobody's way."""

from __future__ import annotations

from reconciler.kinds.address import Address
from reconciler.kinds.route import MAIN, UNICAST, Route
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def bringing(found: Iterable[Resource], route: Resource) -> list[Address]:
    """The addresses, whosever they are, that this route comes with. None: it is not one of the kernel's own."""
    if not isinstance(route, Route) or route.src is None or len(route.src) != 4:
        return []
    if (route.tunnel, route.table, route.metric, route.type, route.via) != (None, MAIN, 0, UNICAST, None):
        return []
    network = Prefix(route.packed, route.length)
    there = [a for a in found if isinstance(a, Address) and a.dev == route.dev and a.length == route.length and not a.is_bare]
    those = [a for a in there if Prefix(a.packed, a.length).network == network]
    return those if any(a.packed == route.src for a in those) else []
