"""The switches that tunctl has changed (the ledger knows which), as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

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
from reconciler.model.prefix import AF_INET6
from reconciler.model.resource import Resource

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


def settled(machine: Machine, wanted: Iterable[Resource], found: Iterable[Resource]) -> list[Sysctl]:
    """Of those that are wanted and that the ledger does not have: what was so before us, and what is of an interface that
    is not there and that no step will make. They are as wanted, and never ours. NotObserved."""
    wanted = tuple(wanted)
    missing = {w.key: w for w in wanted if isinstance(w, Sysctl)}
    for f in found:
        if isinstance(f, Sysctl):
            missing.pop(f.key, None)
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
    """What forwarding depends on; looked at only when a tunnel has something to forward."""
    if not any(intent.tunnel.nat for intent in intents):
        return Forwarding()
    table = next((r for r in found.resources if isinstance(r, Table)), None)
    blind = next((u for u in found.unobserved if u.kind == "nat"), None)
    return Forwarding(
        frozenset(found.links),
        nat.outs(table) if table else {},
        tuple((chain.name, *rule) for chain in table.chains for rule in chain.rules) if table else (),
        blind.reason if blind else "",
        found.drops,
        sysctl.read(_PER_INTERFACE6) is not None,
        frozenset() if isinstance(uplinks, Unknown) else frozenset(_accepting(uplinks)),
    )


def _accepting(uplinks: Iterable[Uplink]) -> Iterator[IfName]:
    for uplink in uplinks:
        if uplink.family == AF_INET6 and sysctl.read(interface_key("net.ipv6", uplink.dev, "accept_ra")) in ("1", "2"):
            yield uplink.dev
