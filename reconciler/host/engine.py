"""What a WireGuard engine says of itself and takes, the same for the kernel's and for userspace ones."""

from __future__ import annotations

from reconciler.host.keys import Key
from reconciler.model.prefix import Prefix
from reconciler.typed import NamedTuple

NO_KEY = Key(bytes(32))


class RawPeer(NamedTuple):
    """One peer as the engine has it."""

    public_key: bytes
    preshared: Key = NO_KEY
    endpoint: tuple[bytes, int] | None = None  # packed address, port
    keepalive_s: int = 0
    last_handshake_s: int = 0  # since the epoch; 0: never
    rx_bytes: int = 0
    tx_bytes: int = 0
    allowed_ips: tuple[Prefix, ...] = ()


class RawDevice(NamedTuple):
    """A device as the engine has it."""

    private: Key = NO_KEY
    public_key: bytes = b""  # the kernel tells it; b"": derive it from the private one
    listen_port: int = 0
    fwmark: int = 0
    peers: tuple[RawPeer, ...] = ()


class DeviceChange(NamedTuple):
    """What is to be set; None stays as it is."""

    private: Key | None = None
    listen_port: int | None = None
    fwmark: int | None = None


class PeerChange(NamedTuple):
    """What is to be set at one peer; None stays as it is. The other peers are never named."""

    public_key: bytes
    preshared: Key | None = None
    endpoint: tuple[bytes, int] | None = None
    keepalive_s: int | None = None
    allowed_ips: tuple[Prefix, ...] | None = None  # replaces them all
    remove: bool = False
