"""The switches that tunctl has changed (the ledger knows which), as they are now."""

from __future__ import annotations

from _operator import attrgetter

from reconciler.host import sysctl
from reconciler.host.machine import Machine
from reconciler.kinds import nat
from reconciler.kinds.link import Link
from reconciler.kinds.nat import Table
from reconciler.kinds.sysctl import GLOBAL, PREFIX, Sysctl, interface_key
from reconciler.model.facts import Forwarding, Unknown, Uplink
from reconciler.model.found import Found
from reconciler.model.intent import Intent
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

_PER_INTERFACE6 = "net.ipv6.conf.default.force_forwarding"


def look(machine: Machine) -> list[Sysctl]:
    """One for each tunnel that the ledger names, in the order in which they are given back: single interfaces, the global
    switch, and last who listens to router advertisements. NotObserved."""
    entries = [entry for entry in machine.ledger.entries() if entry.key.startswith(PREFIX)]
    found = [
        Sysctl(tunnel, name, sysctl.read(name))
        for entry in entries
        for name in [entry.key.removeprefix(PREFIX)]
        for tunnel in entry.tunnels
    ]
    return sorted(found, key=lambda one: (not one.name.endswith(".accept_ra"), one.name not in GLOBAL))


def settled(machine: Machine, wanted: Sequence[Resource], found: Found) -> list[Sysctl]:
    """Of those that are wanted and that the ledger does not have: what was so before us, and what is of an interface that
    is not there and that no step will make. They are as wanted, and never ours. NotObserved."""
    missing = {w.key: w for w in wanted if isinstance(w, Sysctl)} if Sysctl in map(type, wanted) else {}
    for one in found.of(Sysctl) if missing else ():
        missing.pop(one.key, None)
    if not missing:
        return []
    known = {entry.key for entry in machine.ledger.entries()}
    coming = {w.name for w in wanted if isinstance(w, Link)}
    return [w for w in missing.values() if PREFIX + w.name not in known and _is_settled(w, coming)]


def _is_settled(wanted: Sysctl, coming: Set[IfName]) -> bool:
    now = sysctl.read(wanted.name)
    if now is None:
        return wanted.link not in coming
    return not wanted.always and now == wanted.value


def forwarding(intents: Iterable[Intent], found: Found, uplinks: Iterable[Uplink] | Unknown) -> Forwarding:
    """What forwarding depends on; looked at only where there are tunnels. What nobody asks for is left out: facts that are the
    same are not worked on again."""
    intents = tuple(intents)
    declared = frozenset(intent.name for intent in intents)
    if not declared:
        return Forwarding()
    table = next(iter(found.of(Table)), None)
    blind = next((u for u in found.unobserved if u.kind == "nat"), None)
    passes = any(map(attrgetter("tunnel.nat"), intents))
    has_program = any(map(attrgetter("tunnel.exec_"), intents))
    return Forwarding(
        frozenset(found.links) if passes else frozenset(),
        {state.name: state.mtu for state in found.links.values() if state.mark} if passes or has_program else {},
        nat.outs(table) if table else {},
        tuple((chain.name, *rule) for chain in table.chains for rule in chain.rules) if table else (),
        found.of_others(table.tunnels, declared) if table else frozenset(),
        blind.reason if blind else "",
        found.drops,
        sysctl.read(_PER_INTERFACE6) is not None,
        *_of_uplinks(() if isinstance(uplinks, Unknown) else uplinks),
        found.publishes,
    )


def _of_uplinks(uplinks: Iterable[Uplink]) -> tuple[frozenset[IfName], frozenset[IfName], frozenset[IfName]]:
    """Those that listen to router advertisements, those from which is forwarded, those with a strict reverse path filter."""
    accepting, forwarding_, strict = set(), set(), set()
    for family, dev in {(uplink.family, uplink.dev) for uplink in uplinks}:
        if family == AF_INET:
            if _value("net.ipv4", dev, "forwarding") == 1:
                forwarding_.add(dev)
            if max(_value("net.ipv4", "all", "rp_filter"), _value("net.ipv4", dev, "rp_filter")) == 1:
                strict.add(dev)
        else:
            if _value("net.ipv6", dev, "accept_ra") in (1, 2):
                accepting.add(dev)
            if _value("net.ipv6", "all", "forwarding") == 1 or _value("net.ipv6", dev, "force_forwarding") == 1:
                forwarding_.add(dev)
    return frozenset(accepting), frozenset(forwarding_), frozenset(strict)


def _value(family: str, dev: str, switch: str) -> int:
    text = sysctl.read(interface_key(family, dev, switch)) or "0"
    return int(text) if text.lstrip("-").isdigit() else 0
