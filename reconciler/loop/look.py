"""The short way: store read, observe, verdict. What `status` prints, and nothing that changes anything."""

from __future__ import annotations

import os

from reconciler.errors import NotObserved, PortTaken
from reconciler.host import board
from reconciler.host.board import Fight
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.nat import COMMENT, Let, lets
from reconciler.kinds.peer import Peer
from reconciler.kinds.resolver import Resolver
from reconciler.loop.survey import Survey, survey
from reconciler.model.facts import Unknown
from reconciler.model.intent import Intent
from reconciler.model.ledger import Remembered
from reconciler.model.names import HOST, TunnelName
from reconciler.model.verdict import Judgement, Verdict
from reconciler.report.status import HostStatus, Orphan, OwnerLine, PeerLine, TunnelStatus
from reconciler.store.read import read
from reconciler.typed import TYPE_CHECKING
from reconciler.verdict import Evidence, judge, worst

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reconciler.model.port import Port
    from reconciler.model.tunnel import Dns
    from reconciler.report.names import DnsLine

TUNNEL_TYPES = ("tun", "tap", "wireguard")
STORE_WAIT_S, KERNEL_WAIT_S, ENGINE_WAIT_S = 0.3, 0.3, 0.2  # status answers within a second whatever hangs


def look(state_dir: str | Path, run_dir: str | Path, names: Sequence[str] = ()) -> HostStatus:
    """The state of the host as it is now. Raises StoreError when what should be cannot be known."""
    with Machine(run_dir, KERNEL_WAIT_S) as machine:
        machine.counts = True
        stored = read(state_dir, STORE_WAIT_S)
        machine.ledger = Remembered(stored.ledger)
        seen = survey(machine, stored, resolve=False, privileged=os.geteuid() == 0, patience_s=ENGINE_WAIT_S)
        keeper = board.keeper(run_dir)
        fights = board.contested(run_dir) if keeper else ()
        tunnels = tuple(
            _tunnel(machine, seen, intent, fights) for intent in seen.stored.intents if not names or intent.name in names
        )
        known = {tunnel.name for tunnel in tunnels}
        unknown = tuple(_undeclared(name) for name in names if name not in known)
        return HostStatus(
            (*tunnels, *unknown), _unmanaged(seen), _orphans(seen), seen.facts.now_us,
            worst((t.judgement for t in (*tunnels, *unknown)), named=bool(names)),
            (*seen.found.warnings, *machine.handles.warnings(), *_unbelieved(seen)), bool(seen.stored.intents), keeper,
        )  # fmt: skip


def _unbelieved(seen: Survey) -> tuple[str, ...]:
    """Manifests that are there and do not count, while what an earlier one said does: nothing is wrong yet."""
    if not seen.facts.whereabouts:
        return ()
    from reconciler.layout import whereabouts

    return tuple(whereabouts.warnings(seen.stored.intents, seen.facts))


def _undeclared(name: str) -> TunnelStatus:
    return TunnelStatus(TunnelName(name), Judgement(Verdict.NOT_CONNECTED, (f"no tunnel {name!r} is declared",)))


def judgement_of(seen: Survey, intent: Intent, fights: Sequence[Fight] = ()) -> Judgement:
    """The verdict on one tunnel. `fights`: what the daemon knows to be contested."""
    name = intent.tunnel.name
    error = seen.errors.get(name)
    lacks = seen.lacks_of(name)
    if fights:
        lacks = (*lacks, *(str(fight) for fight in fights if fight.tunnel in (name, HOST)))
    evidence = Evidence(seen.found_of(name), seen.plan_of(name), seen.found.unobserved, seen.facts, "", lacks)
    if error:
        unsure, port_taken = isinstance(error, NotObserved), isinstance(error, PortTaken)
        evidence = evidence._replace(impossible=error.message, unsure=unsure, port_taken=port_taken)
    return judge(intent, evidence)


def _tunnel(machine: Machine, seen: Survey, intent: Intent, fights: Sequence[Fight]) -> TunnelStatus:
    tunnel = intent.tunnel
    name = tunnel.name
    link = seen.link_of(name)
    state = seen.found.links.get(link.name) if link else None
    excluded = seen.wanted.excluded.get(name, ())
    return TunnelStatus(  # in their order: names would cost as much as all else
        name, judgement_of(seen, intent, fights), intent,
        state.name if state else tunnel.interface,
        state.ifindex if state else None,
        seen.found.addresses_of(state.name) if state else (),
        state.mtu if state else None,
        _owner(machine, name, seen),
        state.counters if state else None,
        tuple(map(_peer, seen.peers_of.get(name, ()))),
        ports_of(seen, intent) if tunnel.listen else (),
        seen.routes_of.get(name, 0),
        _nat(seen, intent) if tunnel.nat or seen.table else (),
        _dns(seen, intent, tunnel.dns) if tunnel.dns else None,
        seen.plan_of(name).steps,
        tuple((str(prefix), reason) for prefix, reason in excluded) if excluded else (),
        seen.facts.pulse(name),
    )  # fmt: skip


def ports_of(seen: Survey, intent: Intent) -> tuple[Port, ...]:
    """What each of its `listen` entries has; nothing where it is down, or where that could not be seen."""
    from reconciler.model.port import Port

    ports = seen.facts.ports.get(intent.name, ())
    if ports and not isinstance(ports, Unknown):
        return ports
    return tuple(Port(entry, None) for entry in intent.tunnel.listen)


def _nat(seen: Survey, intent: Intent) -> tuple[Let, ...] | None:
    """What the packet filter does for a tunnel; None: only root may look."""
    if intent.tunnel.nat and seen.found.is_unobserved("nat", intent.name):
        return None
    return tuple(lets(seen.table, intent.name)) if seen.table else ()


def _dns(seen: Survey, intent: Intent, asked: Dns) -> DnsLine:
    """What became of its `dns`: as it is wanted here, else as the file says."""
    from reconciler.report.names import DnsLine

    mine = [r for r in seen.wanted.resources if isinstance(r, Resolver) and r.owner == intent.name]
    blind = seen.found.is_unobserved("resolver", intent.name)
    told = mine[0] if mine else None
    return DnsLine(
        told.backend if told else None,
        told.servers if told else asked.servers,
        told.search if told else asked.search,
        told.domains if told else asked.domains or (),
        asked.priority,
        None if blind else told is not None and told in seen.found.resources,
        str(seen.facts.name_service or ""),
    )


def _owner(machine: Machine, name: TunnelName, seen: Survey) -> OwnerLine | None:
    """What the kernel shows; what a handle remembers is told beside it, never instead of it. A failed look tells nothing."""
    found = seen.owner_of(name)
    handle = machine.handles.get(name)
    recorded = handle.pid if handle else None
    if found is not None and found.pid is not None:
        return OwnerLine(found.pid, True, " ".join(found.argv), recorded if recorded not in (None, found.pid) else None)
    if recorded is None or seen.found.is_unobserved("owner", name):
        return None
    return OwnerLine(recorded, False, "")


def _peer(peer: Peer) -> PeerLine:
    endpoint = str(peer.endpoints[0]) if peer.endpoints else None
    return PeerLine(peer.name, peer.public_key, endpoint, peer.latest_handshake_s, peer.rx_bytes, peer.tx_bytes)


def _unmanaged(seen: Survey) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Tunnel devices of somebody else."""
    ours = {link.name for link in seen.found.of(Link) if link.tunnel is not None}
    return tuple(
        (state.name, state.type, tuple(str(p) for p in seen.found.addresses.get(state.name, ())))
        for state in seen.found.links.values()
        if state.type in TUNNEL_TYPES and state.mark is None and state.name not in ours
    )


def _orphans(seen: Survey) -> tuple[Orphan, ...]:
    """What carries the mark of another store (all marks, when there is no store), and what may be its in the packet filter."""
    mine = seen.stored.store_id
    marked = [state for state in seen.found.links.values() if state.mark and state.mark.store_id != mine]
    links = tuple(Orphan(state.name, state.mark.alias) for state in marked if state.mark)
    if not marked:
        return ()
    rules = [r.tunnel for r in seen.found.resources if r.kind == "forward" and r.tunnel]
    rules += [rule.tunnel for rule in seen.table.rules] if seen.table else []
    theirs = seen.found.of_others(frozenset(rules), seen.intents)
    return (*links, *(Orphan(None, f"{COMMENT}{name}", rules.count(name)) for name in sorted(theirs)))
