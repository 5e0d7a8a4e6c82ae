"""Figures in the text format of Prometheus (exposition formats, version 0.0.4), and the same as JSON.

Names and units are theirs: base units in the name, `_total` for what only grows, times as seconds since the epoch. What is
not known is left out: nothing is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from reconciler import __version__
from reconciler.model.meter import BOUNDS_S, Histogram, Meter
from reconciler.model.plan import Plan
from reconciler.model.text import one_line
from reconciler.model.verdict import Verdict
from reconciler.report.plain import VERSION
from reconciler.report.status import HostStatus, PeerLine, TunnelStatus

Labels = dict[str, str]
Value = float | None


class Sample(NamedTuple):
    """One line."""

    name: str
    labels: Labels
    value: float


class Family(NamedTuple):
    """Lines that tell the same of different things. `kind`: gauge, counter or histogram."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def families(host: HostStatus, meter: Meter | None) -> list[Family]:
    """All there is to tell; families without a sample are left out."""
    told = (*_of_host(host), *_of_tunnels(host.tunnels), *_of_peers(host), *(_of_daemon(meter) if meter else ()))
    return [family for family in told if family.samples]


def text(told: Iterable[Family]) -> Iterator[str]:
    """The lines of the format."""
    for family in told:
        yield f"# HELP {family.name} {family.help}"
        yield f"# TYPE {family.name} {family.kind}"
        for name, labels, value in family.samples:
            words = ",".join(f'{key}="{_escaped(word)}"' for key, word in labels.items())
            yield f"{name}{{{words}}} {value!r}" if words else f"{name} {value!r}"


def document(told: Iterable[Family]) -> dict[str, Any]:
    return {"version": VERSION, "metrics": [_plain(family) for family in told]}


def _plain(family: Family) -> dict[str, Any]:
    samples = [sample._asdict() for sample in family.samples]
    return {"name": family.name, "type": family.kind, "help": family.help, "samples": samples}


def _escaped(word: str) -> str:
    """A label value: on one line, without what no reader could show, quoted as the format wants it."""
    return one_line(word).replace("\\", "\\\\").replace('"', '\\"')


def _family(name: str, help_: str, values: Iterable[tuple[Labels, Value]], kind: str = "gauge") -> Family:
    return Family(name, kind, help_, tuple(Sample(name, labels, value) for labels, value in values if value is not None))


# The host


def _of_host(host: HostStatus) -> Iterator[Family]:
    yield _family("tunctl_build_info", "The version of tunctl.", [({"version": __version__}, 1)])
    yield _family("tunctl_daemon_running", "1 while a daemon keeps the tunnels.", [({}, int(host.keeper is not None))])
    yield _family(
        "tunctl_orphan_interfaces",
        "Interfaces with the mark of another store.",
        [({}, sum(one.interface is not None for one in host.orphans))],
    )
    yield _family("tunctl_unmanaged_interfaces", "Tunnel devices of somebody else.", [({}, len(host.unmanaged))])


# Tunnels


def _of_tunnels(tunnels: Iterable[TunnelStatus]) -> Iterator[Family]:
    tunnels = tuple(tunnels)
    yield _family("tunctl_tunnel_info", "What a tunnel is.", ((_what(t), 1) for t in tunnels))
    yield _family(
        "tunctl_tunnel_verdict",
        "1 for the verdict of `tunctl status`, 0 for the others.",
        (({"tunnel": t.name, "verdict": v.value}, int(t.judgement.verdict is v)) for t in tunnels for v in Verdict),
    )
    for name, help_, value in _GAUGES:
        yield _family(name, help_, (({"tunnel": t.name}, value(t)) for t in tunnels))
    for name, help_, value in _COUNTERS:
        yield _family(name, help_, ((_where(t), value(t)) for t in tunnels), "counter")


def _what(tunnel: TunnelStatus) -> Labels:
    intent = tunnel.intent
    driver, source = (intent.tunnel.driver, intent.source) if intent else ("", "")
    return {"tunnel": tunnel.name, "driver": driver, "interface": tunnel.interface or "", "source": source}


def _where(tunnel: TunnelStatus) -> Labels:
    return {"tunnel": tunnel.name, "interface": tunnel.interface or ""}


def _seconds(us: int | None) -> Value:
    return None if us is None else us / 1_000_000


def _since(tunnel: TunnelStatus) -> Value:
    progress = tunnel.intent.progress if tunnel.intent else None
    return _seconds((progress.up_since_us or progress.since_us) if progress else None)


_Read = Callable[[TunnelStatus], Value]

_GAUGES: tuple[tuple[str, str, _Read], ...] = (
    ("tunctl_tunnel_held", "1 while a user holds it down.", lambda t: int(t.intent.held) if t.intent else None),
    ("tunctl_tunnel_since_timestamp_seconds", "Since when it is up, or else in the state it is in.", _since),
    ("tunctl_tunnel_generation", "How often its intent was changed.", lambda t: t.intent.generation if t.intent else None),
    ("tunctl_tunnel_attempts", "Attempts to bring it up that failed in a row.",
     lambda t: t.intent.progress.attempt if t.intent else None),
    ("tunctl_tunnel_next_retry_timestamp_seconds", "When the next attempt is due.",
     lambda t: _seconds(t.intent.progress.next_retry_us) if t.intent else None),
    ("tunctl_tunnel_pending_steps", "Steps between what is found and what is wanted.", lambda t: Plan(t.pending).number),
    ("tunctl_tunnel_contested_objects", "Objects that somebody else undoes again and again.",
     lambda t: sum(reason.startswith("contested") for reason in t.judgement.reasons)),
    ("tunctl_tunnel_unobserved", "Kinds of objects that could not be looked at.", lambda t: len(t.judgement.unobserved)),
    ("tunctl_tunnel_healthy", "1 while health checks find that it works, 0 while they find that it does not.",
     lambda t: int(not t.pulse.is_dead) if t.pulse and (t.pulse.is_dead or t.pulse.works) else None),
    ("tunctl_tunnel_owner_running", "1 while the process that moves its packets runs.",
     lambda t: int(t.owner.running) if t.owner else None),
    ("tunctl_tunnel_routes", "Routes that lead into it.", lambda t: t.routes),
    ("tunctl_tunnel_mtu_bytes", "The MTU of its interface.", lambda t: t.mtu),
)  # fmt: skip
_COUNTERS: tuple[tuple[str, str, _Read], ...] = (
    ("tunctl_tunnel_receive_bytes_total", "Received by its interface, as the kernel counts.",
     lambda t: t.counters.rx_bytes if t.counters else None),
    ("tunctl_tunnel_transmit_bytes_total", "Sent by its interface, as the kernel counts.",
     lambda t: t.counters.tx_bytes if t.counters else None),
    ("tunctl_tunnel_receive_packets_total", "Received by its interface, as the kernel counts.",
     lambda t: t.counters.rx_packets if t.counters else None),
    ("tunctl_tunnel_transmit_packets_total", "Sent by its interface, as the kernel counts.",
     lambda t: t.counters.tx_packets if t.counters else None),
)  # fmt: skip


# Peers


def _of_peers(host: HostStatus) -> Iterator[Family]:
    peers = [(_which(tunnel, peer), peer) for tunnel in host.tunnels for peer in tunnel.peers]
    at = [(labels, peer.latest_handshake_s) for labels, peer in peers]
    ages = [(labels, None if s is None else max(0.0, host.now_us / 1_000_000 - s)) for labels, s in at]
    yield _family("tunctl_peer_latest_handshake_timestamp_seconds", "When the latest handshake was.", at)
    yield _family("tunctl_peer_handshake_age_seconds", "How long ago the latest handshake was, when this was written.", ages)
    received = [(labels, peer.rx_bytes) for labels, peer in peers]
    sent = [(labels, peer.tx_bytes) for labels, peer in peers]
    yield _family("tunctl_peer_receive_bytes_total", "Received from the peer, as its engine counts.", received, "counter")
    yield _family("tunctl_peer_transmit_bytes_total", "Sent to the peer, as its engine counts.", sent, "counter")


def _which(tunnel: TunnelStatus, peer: PeerLine) -> Labels:
    return {"tunnel": tunnel.name, "peer": peer.name or "", "public_key": peer.public_key}


# The daemon


def _of_daemon(meter: Meter) -> Iterator[Family]:
    work = meter.work
    yield _family("tunctl_daemon_start_time_seconds", "When the daemon was started.", [({}, _seconds(meter.started_us))])
    yield _family(
        "tunctl_daemon_last_pass_timestamp_seconds", "When it last did a pass to its end.", [({}, _seconds(meter.last_pass_us))]
    )
    yield _histogram(
        "tunctl_pass_duration_seconds",
        "How long passes took; scope tunnel: those that wait for one tunnel's program.",
        [({"scope": scope}, took) for scope, took in meter.passes.items()],
    )
    yield _family(
        "tunctl_passes_unfinished_total",
        "Passes that could not do their work.",
        [({"reason": why}, count) for why, count in meter.unfinished.items()],
        "counter",
    )
    yield _histogram(
        "tunctl_step_duration_seconds",
        "How long steps took that the daemon did by itself.",
        [({"kind": kind, "verb": verb}, took) for (kind, verb), took in work.steps.items()],
    )
    for name, help_, counts in (
        ("tunctl_repairs_total", "Steps that the daemon did by itself.", work.repairs),
        ("tunctl_step_failures_total", "Steps that failed.", work.failures),
    ):
        yield _family(name, help_, (({"tunnel": t, "kind": k}, count) for (t, k), count in counts.items()), "counter")


def _histogram(name: str, help_: str, values: Iterable[tuple[Labels, Histogram]]) -> Family:
    return Family(name, "histogram", help_, tuple(sample for labels, took in values for sample in _buckets(name, labels, took)))


def _buckets(name: str, labels: Labels, took: Histogram) -> Iterator[Sample]:
    below = 0
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), took.counts, strict=True):
        below += count
        yield Sample(f"{name}_bucket", {**labels, "le": bound}, below)
    yield Sample(f"{name}_sum", labels, took.sum_s)
    yield Sample(f"{name}_count", labels, below)
