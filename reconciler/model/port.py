"""Ports that tunnels serve on: sockets as the kernel shows them, and what a `listen` entry means on this machine now."""

from __future__ import annotations

from reconciler.model.names import TunnelName
from reconciler.model.prefix import ntop
from reconciler.model.tunnel import Listen, Tunnel
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TCP, UDP = 6, 17  # IPPROTO_*
PROTOCOLS: Mapping[str, int] = {"tcp": TCP, "udp": UDP, "quic": UDP}
ANY4, ANY6 = bytes(4), bytes(16)
LAST = 65535

Key = tuple[TunnelName, str]  # a tunnel and one of its transports


class Socket(NamedTuple):
    """A bound UDP socket, or a listening TCP one."""

    protocol: int
    address: bytes  # packed; an IPv4 address in an IPv6 socket is the IPv4 one
    port: int
    inode: int = 0  # 0: it belongs to no process any more
    v6only: bool = False
    tunnel: TunnelName | None = None  # whose engine has it open; None: that is not known to be one of ours

    def keeps_out(self, address: bytes) -> bool:
        """Nobody else can bind this address and the same port while it is there."""
        if len(self.address) == len(address):
            return self.address == address or not any(self.address) or not any(address)
        if len(address) == len(ANY4):
            return self.address == ANY6 and not self.v6only
        return address == ANY6  # it would be for IPv4, too: the default of the kernel

    def serves(self, address: bytes) -> bool:
        """What is sent to this address and its port arrives here."""
        if len(self.address) == len(address):
            return self.address in (address, bytes(len(address)))
        return self.address == ANY6 and not self.v6only

    @property
    def place(self) -> str:
        return place(self.address, self.port)


class Port(NamedTuple):
    """One `listen` entry of one tunnel, as things are."""

    entry: Listen
    port: int | None  # the one that it is to have; None: there is none to be had
    bound: str | None = None  # what is bound there, "address:port"; None: nothing
    ours: bool | None = None  # is that the tunnel's own engine? None: nothing is bound, or we may not see whose it is
    holder: str = ""  # of a port that it had, or of the first that it asks for: who has that instead
    told: bool = True  # its engine is told which port to take

    @property
    def requested(self) -> str:
        return place(self.entry.address, self.entry.port)

    @property
    def lost(self) -> str:
        """Somebody else has the port that was the tunnel's; "" when not."""
        return f"bound port held by {self.holder}: {self.entry.transport} {self.bound}" if self.ours is False else ""

    @property
    def refusal(self) -> str:
        """Why there is none to be had."""
        entry, first = self.entry, self.entry.port
        if entry.scan == 1:
            return self.lost or f"{entry.transport} {self.requested} is held by {self.holder}"
        held = self.lost or f"{first} by {self.holder}"
        return f"{entry.transport} {ntop(entry.address)}, ports {first} to {first + entry.scan - 1}: all are taken, {held}"


class Remembered(NamedTuple):
    """What a hint says of one entry: what it asked for, and what it had."""

    requested: str
    bound: str

    @property
    def port(self) -> int | None:
        digits = self.bound.rpartition(":")[2]
        is_number = digits.isascii() and digits.isdecimal() and len(digits) <= 5
        return int(digits) if is_number and int(digits) <= LAST else None


def place(address: bytes, port: int) -> str:
    """``0.0.0.0:8443``, ``[::]:8443``."""
    return f"{ntop(address)}:{port}" if len(address) == len(ANY4) else f"[{ntop(address)}]:{port}"


def addresses(tunnel: Tunnel, entry: Listen) -> tuple[bytes, ...]:
    """What the engine of this tunnel binds: WireGuard takes its port for both families."""
    return (ANY4, ANY6) if tunnel.wireguard else (entry.address,)


def fits(entry: Listen, port: int) -> bool:
    """It is one of those that the entry may have."""
    return entry.port <= port < entry.port + entry.scan


def fixed_ports(tunnel: Tunnel) -> Iterator[Socket]:
    """The ports that a tunnel takes or fails, as the sockets that its engine would bind."""
    if tunnel.wireguard and tunnel.wireguard.listen_port:  # 0 is the kernel's choice, not a port
        yield from (Socket(UDP, address, tunnel.wireguard.listen_port) for address in (ANY4, ANY6))
    for entry in tunnel.listen:
        if entry.scan == 1:
            yield from (Socket(PROTOCOLS[entry.transport], one, entry.port) for one in addresses(tunnel, entry))
