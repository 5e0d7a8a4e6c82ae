"""One peer of a WireGuard device. Changed one by one: the sessions of the others never notice."""

from __future__ import annotations

from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix, ntop
from reconciler.model.resource import Resource, differing
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable


class Address(NamedTuple):
    """A UDP address."""

    packed: bytes
    port: int

    def __str__(self) -> str:
        return f"{ntop(self.packed)}:{self.port}" if len(self.packed) == 4 else f"[{ntop(self.packed)}]:{self.port}"


class Peer(NamedTuple):
    """A peer, wanted or found. The preshared key is known by a keyed digest only."""

    tunnel: TunnelName | None
    dev: IfName
    public_key: str  # base64
    allowed_ips: tuple[Prefix, ...]  # sorted
    keepalive_s: int  # 0: off
    endpoints: tuple[Address, ...] | None = None  # wanted: any of these will do, None: no opinion; found: at most one
    preshared_digest: str | None = None  # "" in wanted and found: there is none; None in wanted: not compared
    preshared_key_file: str | None = None  # wanted only
    userspace: bool = False
    name: str | None = None
    latest_handshake_s: int | None = None  # found only: seconds since the epoch, None: never
    told_handshake_s: int | None = None  # found only: the same as the engine keeps it, by the clock as it went then
    rx_bytes: int = 0  # found only
    tx_bytes: int = 0  # found only

    @property
    def kind(self) -> str:
        return "peer"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return (self.tunnel, self.public_key)

    @property
    def place(self) -> Hashable:
        return (self.dev, self.public_key)

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("link", "owner", "wireguard")

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 4

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        assert isinstance(found, Peer)
        fields = differing(self, found, ("allowed_ips", "keepalive_s", "preshared_digest"))
        if self.endpoints is not None and not set(found.endpoints or ()) & set(self.endpoints):
            return (*fields, "endpoints")
        return fields

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name else ""
        endpoint = f" endpoint {self.endpoints[0]}" if self.endpoints else ""
        allowed = ",".join(str(prefix) for prefix in self.allowed_ips) or "(none)"
        keepalive = f" persistent-keepalive {self.keepalive_s}" if self.keepalive_s else ""
        preshared = " preshared-key (hidden)" if self.preshared_digest else ""
        return f"peer {self.public_key}{name} dev {self.dev}{endpoint} allowed-ips {allowed}{keepalive}{preshared}"
