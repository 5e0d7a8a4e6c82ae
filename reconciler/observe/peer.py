"""Peers of a WireGuard device, from what its engine says (observe.wireguard asks it)."""

from __future__ import annotations

from reconciler.host import keys
from reconciler.host.engine import RawPeer
from reconciler.kinds.peer import Address, Peer
from reconciler.kinds.wireguard import Device
from reconciler.model.intent import Intent


def of_device(intent: Intent, device: Device, raw: tuple[RawPeer, ...]) -> list[Peer]:
    """In the order of the engine; each with the name that the file gives it."""
    settings = intent.tunnel.wireguard
    names = {peer.public_key: peer.name for peer in settings.peers} if settings else {}
    return [_peer(device, peer, names) for peer in raw]


def _peer(device: Device, raw: RawPeer, names: dict[str, str | None]) -> Peer:
    public_key = keys.as_text(raw.public_key)
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
        latest_handshake_s=raw.last_handshake_s or None,
        rx_bytes=raw.rx_bytes,
        tx_bytes=raw.tx_bytes,
    )
