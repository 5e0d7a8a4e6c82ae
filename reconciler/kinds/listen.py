"""A port that a tunnel's engine has bound. It comes and goes with the engine; nothing else can make it."""

from __future__ import annotations

from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.port import PROTOCOLS, Port, Socket, addresses, place
from reconciler.model.prefix import ntop
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable


class Bound(NamedTuple):
    """One entry of `listen`, wanted or found."""

    tunnel: TunnelName | None
    transport: str  # udp · tcp · quic
    address: bytes  # packed
    port: int
    requested: int | None = None  # wanted only: the port that the file asks for
    addresses: tuple[bytes, ...] = ()  # wanted only: all that its engine binds
    mark: Mark | None = None  # wanted only: of the processes of its engine; None: that is in the kernel
    by_program: bool = False  # wanted only: any program binds it, when it likes
    told: bool = True  # wanted only: its engine is told which port to take
    patience_s: float = 0.0  # wanted only: how long after its start a program may take
    v6only: bool = False  # found only: it is not for IPv4 as well

    @property
    def kind(self) -> str:
        return "listen"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return self.tunnel, self.transport

    @property
    def place(self) -> Hashable:
        return PROTOCOLS[self.transport], self.address, self.port

    @property
    def dev(self) -> IfName | None:
        return None

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("owner", "wireguard")

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 5  # beside the addresses: one that is bound to an address of the tunnel needs that first

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        """A wildcard serves every address."""
        assert isinstance(found, Bound)
        port = ("port",) if found.port != self.port else ()
        return port if found.socket.serves(self.address) else (*port, "address")

    @property
    def socket(self) -> Socket:
        return Socket(PROTOCOLS[self.transport], self.address, self.port, v6only=self.v6only)

    @property
    def text(self) -> str:
        """``0.0.0.0:8446``"""
        return place(self.address, self.port)

    def __str__(self) -> str:
        asked = f" requested {self.requested}" if self.requested not in (None, self.port) else ""
        return f"listen {self.transport} {ntop(self.address)} port {self.port}{asked}"


def wanted(intent: Intent, port: Port, *, by_program: bool, mark: Mark | None, patience_s: float) -> Bound:
    """Of a tunnel that can have one (`Facts.ports_of`)."""
    entry = port.entry
    assert port.port is not None
    return Bound(
        intent.name, entry.transport, entry.address, port.port, entry.port, addresses(intent.tunnel, entry), mark,
        by_program, port.told, patience_s,
    )  # fmt: skip
