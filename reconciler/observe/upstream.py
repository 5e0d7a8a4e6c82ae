"""Who answers for names apart from our tunnels: the name servers of the host's own uplinks, while a tunnel's are in force.

The name of an endpoint must not depend on the tunnel behind it: a tunnel that is dead answers nothing, and inside many of
them the name means another address.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from reconciler.host import dns, resolvconf, resolved, resolvfile
from reconciler.host.bus import BusError
from reconciler.host.machine import Machine
from reconciler.host.resolve import Addresses, is_in_hosts
from reconciler.kinds.resolver import EVERYTHING, Resolver
from reconciler.model.facts import Unknown, Uplink
from reconciler.model.found import Found
from reconciler.model.nameservice import LEDGER_KEY

ASK_S = 2.5  # within what a look-up may take altogether

Ask = Callable[[str], Addresses]


def upstream(machine: Machine, found: Found, uplinks: Iterable[Uplink] | Unknown, mark: int) -> Callable[[str], Ask | None]:
    """For a name: whom to ask besides the host's own resolver; None where no tunnel answers for it."""
    resolvers = [r for r in found.of(Resolver) if not r.overwritten] if found.name_service else []
    if not resolvers:
        return lambda _name: None
    backends = {one.backend for one in resolvers}
    dev = next((uplink.dev for uplink in uplinks), None) if not isinstance(uplinks, Unknown) else None
    link = found.links[dev].ifindex if dev is not None and dev in found.links and "resolved" in backends else 0

    def ask(name: str) -> Addresses:
        if link:
            return _by_resolved(link, name)
        return dns.ask(_servers(machine, backends), name, mark, ASK_S)

    return lambda name: ask if _is_taken(name, resolvers) and not is_in_hosts(name) else None


def _is_taken(name: str, resolvers: Iterable[Resolver]) -> bool:
    labels = f".{name.rstrip('.').lower()}"
    names = {domain for one in resolvers for domain in (*one.search, *one.domains)}
    return EVERYTHING in names or any(one.default_route for one in resolvers) or any(labels.endswith(f".{d}") for d in names)


def _servers(machine: Machine, backends: Iterable[str]) -> list[bytes]:
    """Of the resolv.conf that was there before ours, or of the records of others."""
    if "resolvconf" in backends:
        return list(dict.fromkeys(server for names in resolvconf.others() for server in names.servers))
    entry = next((entry for entry in machine.ledger.entries() if entry.key == LEDGER_KEY), None)
    return list(resolvfile.parse((entry.previous if entry else None) or b"").servers)


def _by_resolved(ifindex: int, name: str) -> Addresses:
    try:
        service = resolved.connect(ASK_S)
        if service is None:
            return ()
        try:
            return service.addresses(name, ifindex)
        finally:
            service.close()
    except BusError as error:
        raise OSError(str(error)) from error
