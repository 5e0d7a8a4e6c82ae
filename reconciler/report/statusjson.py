"""What `status` says for machines."""

from __future__ import annotations

from reconciler.kinds.nat import Let
from reconciler.model.moment import rfc3339
from reconciler.report.changes import step_json
from reconciler.report.names import dns_json
from reconciler.report.plain import VERSION
from reconciler.report.status import HostStatus, PeerLine, TunnelStatus, since
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.model.port import Port


def status_json(host: HostStatus) -> dict[str, Any]:
    return {
        "version": VERSION,
        "tunnels": [_tunnel_json(tunnel, host.now_us) for tunnel in host.tunnels],
        "unmanaged": [{"interface": i, "kind": k, "addresses": list(a)} for i, k, a in host.unmanaged],
        "orphans": [one._asdict() for one in host.orphans],
        "daemon": {"running": host.keeper is not None, "pid": host.keeper},
    }


def _tunnel_json(tunnel: TunnelStatus, now_us: int) -> dict[str, Any]:
    intent = tunnel.intent
    progress = intent.progress if intent else None
    since_us = since(intent)
    owner = tunnel.owner
    return {
        "name": tunnel.name,
        "driver": intent.tunnel.driver if intent else None,
        "verdict": tunnel.judgement.verdict.value,
        "reasons": list(tunnel.judgement.reasons),
        "unobserved": list(tunnel.judgement.unobserved),
        "state": progress.state if progress else None,
        "held": bool(intent and intent.held),
        "interface": tunnel.interface,
        "ifindex": tunnel.ifindex,
        "addresses": list(tunnel.addresses),
        "last_addresses": list(progress.last_addresses) if progress else [],
        "mtu": tunnel.mtu,
        "since": rfc3339(since_us),
        "duration_seconds": None if since_us is None else max(0, (now_us - since_us) // 1_000_000),
        "generation": intent.generation if intent else None,
        "source": intent.source if intent else None,
        "owner": {"pid": owner.pid, "running": owner.running, "command": owner.command} if owner else None,
        "counters": tunnel.counters._asdict() if tunnel.counters else None,
        "peers": [_peer_json(peer) for peer in tunnel.peers],
        "listen": [listen_json(port) for port in tunnel.listen],
        "routes": tunnel.routes,
        "excluded": [{"to": to, "reason": reason} for to, reason in tunnel.excluded],
        "dns": dns_json(tunnel.dns),
        "nat": None if tunnel.nat is None else [_let_json(let) for let in tunnel.nat],
        "attempt": progress.attempt if progress else 0,
        "next_retry_at": rfc3339(progress.next_retry_us) if progress else None,
        "pending": [step_json(one) for step in tunnel.pending for one in step.each()],
    }


def _let_json(let: Let) -> dict[str, Any]:
    return {"source": str(let.source), "out": let.out, "masquerade": let.masquerade, "forward": let.forward}


def listen_json(port: Port) -> dict[str, Any]:
    return {"transport": port.entry.transport, "requested": port.requested, "bound": port.bound, "ours": port.ours}


def _peer_json(peer: PeerLine) -> dict[str, Any]:
    at = peer.latest_handshake_s
    return {
        "name": peer.name,
        "public_key": peer.public_key,
        "endpoint": peer.endpoint,
        "latest_handshake": None if at is None else rfc3339(at * 1_000_000),
        "rx_bytes": peer.rx_bytes,
        "tx_bytes": peer.tx_bytes,
    }
