"""Sets up WireGuard devices: private key, port, mark. The key is read here and nowhere kept."""

from __future__ import annotations

from reconciler.actuate import engine
from reconciler.host.engine import NO_KEY, DeviceChange
from reconciler.host.machine import Machine
from reconciler.kinds.wireguard import Device


def create(machine: Machine, wanted: Device) -> None:
    """A device without a key gets all of it."""
    key = engine.read_key(wanted, wanted.private_key_file)
    engine.set_device(machine, wanted, DeviceChange(key, wanted.listen_port, wanted.fwmark))


def change(machine: Machine, wanted: Device, found: Device, fields: tuple[str, ...]) -> None:
    """Only what differs: a new private key ends all sessions."""
    key = engine.read_key(wanted, wanted.private_key_file) if "public_key" in fields else None
    port = wanted.listen_port if "listen_port" in fields else None
    fwmark = wanted.fwmark if "fwmark" in fields else None
    engine.set_device(machine, wanted, DeviceChange(key, port, fwmark))


def delete(machine: Machine, found: Device) -> None:
    """The link stays, its identity goes: without a key it talks to nobody."""
    engine.set_device(machine, found, DeviceChange(NO_KEY, 0, 0))
