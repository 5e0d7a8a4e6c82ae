"""Peers of a WireGuard device, from what its engine says (observe.wireguard asks it)."""

from __future__ import annotations

from reconciler.host import keys, timeline
from reconciler.host.engine import RawPeer
from reconciler.host.machine import Machine
from reconciler.kinds.peer import Address, Peer
from reconciler.kinds.wireguard import Device
from reconciler.model.intent import Intent
from reconciler.model.timeline import Timeline


def of_device(machine: Machine, intent: Intent, device: Device, raw: tuple[RawPeer, ...]) -> list[Peer]:
    """In the order of the engine; each with the name that the file gives it."""
    settings = intent.tunnel.wireguard
    names = {peer.public_key: peer.name for peer in settings.peers} if settings else {}
    clock = timeline.read(machine.run_dir, machine.handles.boot_id)
    return [_peer(device, peer, names, clock) for peer in raw]


def _peer(device: Device, raw: RawPeer, names: dict[str, str | None], clock: Timeline) -> Peer:
    public_key = keys.as_text(raw.public_key)
    told_us = raw.last_handshake_s * 1_000_000  # 0: never
    return Peer(
        device.tunnel,
        device.dev,
        public_key,
        raw.allowed_ips,
        raw.keepalive_s,
        (Address(*raw.endpoint),) if raw.endpoint else None,
        keys.preshared_digest(raw.preshared),
        userspace=device.userspace,
        name=names.get(public_key),
        latest_handshake_s=clock.translated(told_us) // 1_000_000 if told_us else None,
        told_handshake_s=raw.last_handshake_s or None,
        rx_bytes=raw.rx_bytes,
        tx_bytes=raw.tx_bytes,
    )
