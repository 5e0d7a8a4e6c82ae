"""What systemd-resolved has for links of ours. Loaded only where a tunnel has, or had, name servers."""

from __future__ import annotations

from reconciler.host import bus, resolved
from reconciler.host.bounded import Call
from reconciler.host.bus import TIMEOUT_S, BusError
from reconciler.kinds.link import Link
from reconciler.kinds.resolver import Resolver
from reconciler.model.found import LinkState
from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LEAST_S = 0.3  # on a busy machine resolved, the bus and we take turns


def look(
    asked: Iterable[Intent], ours: Mapping[TunnelName, Link], states: Mapping[IfName, LinkState], patience_s: float
) -> tuple[list[Resolver], str]:
    """What it has for the links of these tunnels, and whether it runs here: yes, no, or why that is not known."""
    bound_s = min(max(patience_s, _LEAST_S), TIMEOUT_S)
    links = [(intent.name, ours[intent.name].name) for intent in asked]
    indexes = [(name, dev, states[dev].ifindex) for name, dev in links if dev in states]
    if not bus.is_there():
        return [], "no"
    bus.load()
    try:
        return Call(lambda: _ask(indexes, bound_s)).result(bound_s)
    except TimeoutError:
        return [], f"no answer within {bound_s:g} s"
    except PermissionError:
        return [], "needs root to see which network namespace it is in"
    except (OSError, BusError) as error:
        return [], str(getattr(error, "strerror", None) or error)


def _ask(links: Iterable[tuple[TunnelName, IfName, int]], timeout_s: float) -> tuple[list[Resolver], str]:
    """In a thread: nothing on the other side may hold up a look."""
    service = resolved.connect(timeout_s)
    if service is None:
        return [], "no"
    try:
        found = [(tunnel, dev, service.link(ifindex)) for tunnel, dev, ifindex in links]
    finally:
        service.close()
    return [
        Resolver(tunnel, "resolved", tunnel, dev, names.servers, names.search, names.domains, names.default_route)
        for tunnel, dev, names in found
        if names.servers or names.search or names.domains
    ], "yes"
