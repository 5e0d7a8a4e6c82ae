"""What `status` says for people, as `systemctl status` reads. For machines: `statusjson`, which few need."""

from __future__ import annotations

from reconciler.kinds.nat import Let
from reconciler.model.found import Counters
from reconciler.model.intent import Intent
from reconciler.model.moment import duration, rfc3339, size
from reconciler.model.names import TunnelName
from reconciler.model.plan import Step
from reconciler.model.prefix import parse_prefix
from reconciler.model.text import counted, one_line
from reconciler.model.verdict import Judgement, Verdict
from reconciler.report.paint import PLAIN, Paint
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reconciler.model.port import Port
    from reconciler.model.pulse import Pulse
    from reconciler.report.names import DnsLine


class PeerLine(NamedTuple):
    """One peer as it is now."""

    name: str | None
    public_key: str
    endpoint: str | None
    latest_handshake_s: int | None
    rx_bytes: int | None
    tx_bytes: int | None


class OwnerLine(NamedTuple):
    """The owner process that the kernel shows, or the one that a handle remembers."""

    pid: int
    running: bool
    command: str
    recorded_pid: int | None = None  # what the handle says, when that is somebody else


class TunnelStatus(NamedTuple):
    """All about one tunnel."""

    name: TunnelName
    judgement: Judgement
    intent: Intent | None = None
    interface: str | None = None
    ifindex: int | None = None
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    owner: OwnerLine | None = None
    counters: Counters | None = None
    peers: tuple[PeerLine, ...] = ()
    listen: tuple[Port, ...] = ()
    routes: int = 0
    nat: tuple[Let, ...] | None = ()
    dns: DnsLine | None = None
    pending: tuple[Step, ...] = ()
    excluded: tuple[tuple[str, str], ...] = ()  # prefix, why it stays out of the tunnel
    pulse: Pulse | None = None  # what health checks have found


class Orphan(NamedTuple):
    """What carries the mark of another store: an interface, or (None) rules in the packet filter, which name no store."""

    interface: str | None
    mark: str
    rules: int | None = None

    def __str__(self) -> str:
        if self.interface is None:
            return f"orphan: {self.rules} rules of the packet filter are another store's, {self.mark}"
        return f"orphan: {self.interface} carries the mark of another store, {self.mark}"


class HostStatus(NamedTuple):
    """All that `status` saw."""

    tunnels: tuple[TunnelStatus, ...]
    unmanaged: tuple[tuple[str, str, tuple[str, ...]], ...]  # interface, kind, addresses
    orphans: tuple[Orphan, ...]
    now_us: int
    exit_code: int
    warnings: tuple[str, ...] = ()
    declared: bool = True
    keeper: int | None = None  # the pid of the daemon, if one runs


EXCLUDED_SHOWN = 8

_DOTS = {
    Verdict.CONNECTED: "green", Verdict.NOT_CONNECTED: "grey", Verdict.STALE: "yellow",
    Verdict.DEGRADED: "yellow", Verdict.FAILED: "red", Verdict.UNKNOWN: "yellow",
}  # fmt: skip


def since(intent: Intent | None) -> int | None:
    """Since when it is as it is, microseconds."""
    progress = intent.progress if intent else None
    return (progress.up_since_us or progress.since_us) if progress else None


def status_text(host: HostStatus, paint: Paint = PLAIN) -> list[str]:
    """Lines: one block a tunnel."""
    lines = [] if host.declared else ["nothing is declared (tunctl apply desired.toml)"]
    said = {verdict: (paint("●", colour), paint(verdict.value, colour)) for verdict, colour in _DOTS.items()}
    sinces = [since(tunnel.intent) for tunnel in host.tunnels]
    whens = {since_us: _when(since_us, host.now_us) for since_us in {*sinces}}  # many came up at the same time
    for tunnel, since_us in zip(host.tunnels, sinces, strict=True):
        dot, word = said[tunnel.judgement.verdict]
        lines += _head(tunnel, dot, word + whens[since_us], paint)
        lines += _details(tunnel, host.now_us, paint)
    lines += [f"unmanaged: {i} ({kind}) {' '.join(map(_noted, addresses))}".rstrip() for i, kind, addresses in host.unmanaged]
    lines += map(str, host.orphans)
    lines += [paint(f"warning: {warning}", "yellow") for warning in host.warnings]
    return lines


_SHARED_SPACE = parse_prefix("100.64.0.0/10")  # RFC 6598: carrier-grade NAT, and Tailscale


def _noted(address: str) -> str:
    """An address that looks public and is not."""
    return f"{address} (CGNAT)" if _SHARED_SPACE.covers(parse_prefix(address)) else address


def _when(since_us: int | None, now_us: int) -> str:
    return "" if since_us is None else f" since {rfc3339(since_us)}; {_ago(now_us - since_us)}"


def _head(tunnel: TunnelStatus, dot: str, status: str, paint: Paint) -> list[str]:
    """`dot`: of its verdict."""
    intent = tunnel.intent
    description = f" - {intent.tunnel.description}" if intent and intent.tunnel.description else ""
    lines = [f"{dot} {paint(tunnel.name, 'bold')}{description}", f"     Status: {status}"]
    for reason in tunnel.judgement.reasons:
        lines += [f"             {line}" for line in reason.split("\n")]
    if tunnel.interface:
        mtu = f" mtu {tunnel.mtu}" if tunnel.mtu else ""
        lines.append(f"  Interface: {tunnel.interface}{mtu} {' '.join(tunnel.addresses)}".rstrip())
    return lines


def _details(tunnel: TunnelStatus, now_us: int, paint: Paint) -> list[str]:
    lines = _owner_lines(tunnel.owner) if tunnel.owner else []
    if tunnel.peers:
        lines += [f"       Peer: {_peer_line(peer, now_us)}" for peer in tunnel.peers]
    if tunnel.listen:
        from reconciler.report.served import listen_lines

        lines += listen_lines(tunnel.listen)
    if tunnel.dns:
        from reconciler.report.names import dns_lines

        lines += dns_lines(tunnel.dns)
    if tunnel.nat:
        lines += [f"        NAT: {let}" for let in tunnel.nat]
    if tunnel.counters:
        rx_bytes, tx_bytes = tunnel.counters[:2]
        lines.append(f"    Traffic: {size(rx_bytes)} received, {size(tx_bytes)} sent; {counted(tunnel.routes, 'route')}")
    if tunnel.pulse:
        lines.append(f"     Health: {tunnel.pulse.summary(now_us)}")
    if tunnel.excluded or tunnel.judgement.unobserved:
        lines += [f"   Excluded: {to}: {reason}" for to, reason in tunnel.excluded[:EXCLUDED_SHOWN]]
        lines += [f"   Not seen: {what}" for what in tunnel.judgement.unobserved]
    tip = _tip(tunnel)
    if tip:
        lines.append(paint(f"        Tip: {tip}", "grey"))
    return lines


def _owner_lines(owner: OwnerLine) -> list[str]:
    command = one_line(owner.command).strip() or "it shows no command line"
    lines = [f"      Owner: pid {owner.pid} ({command if owner.running else 'not running'})"]
    if owner.recorded_pid is not None:
        lines.append(f"             recorded pid {owner.recorded_pid} (not running)")
    return lines


def _peer_line(peer: PeerLine, now_us: int) -> str:
    endpoint = f" at {peer.endpoint}" if peer.endpoint else ""
    at = peer.latest_handshake_s
    handshake = "no handshake yet" if at is None else f"handshake {_ago(now_us - at * 1_000_000)}"
    traffic = f", {size(peer.rx_bytes or 0)} received, {size(peer.tx_bytes or 0)} sent"
    return f"{peer.name or peer.public_key}{endpoint}: {handshake}{traffic}"


def _ago(us: int) -> str:
    text = duration(us / 1_000_000)
    return text if text == "just now" else f"{text} ago"


_TIPS = {
    Verdict.CONNECTED: "",
    Verdict.STALE: "tunctl reconcile",
    Verdict.DEGRADED: "tunctl show {name}",
    Verdict.FAILED: "remove what is in the way, then tunctl up {name}",
    Verdict.NOT_CONNECTED: "tunctl up {name}",
    Verdict.UNKNOWN: "try again, or as root",
}


def _tip(tunnel: TunnelStatus) -> str:
    verdict, name, intent = tunnel.judgement.verdict, tunnel.name, tunnel.intent
    if intent is None:
        return "tunctl status, without a name, lists what is declared"
    if intent.withdrawn:
        return "tunctl reconcile"
    if not intent.tunnel.enabled:
        return "enabled = true in its file, then tunctl apply"
    if intent.held:
        return f"tunctl up {name}"
    if verdict is Verdict.DEGRADED and tunnel.pending:
        return f"tunctl reconcile, or tunctl show {name}"
    return _TIPS[verdict].replace("{name}", name)
