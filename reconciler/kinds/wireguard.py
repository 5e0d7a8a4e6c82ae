"""The WireGuard device behind a link: key, port, mark. The same for the kernel's and for a userspace engine."""

from __future__ import annotations

from reconciler.model.names import IfName, TunnelName
from reconciler.model.publickey import PublicKey
from reconciler.model.resource import Resource, differing
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

    from reconciler.kinds.listen import Bound


class Device(NamedTuple):
    """A configured device, wanted or found. The private key itself is never in here."""

    tunnel: TunnelName | None
    dev: IfName
    public_key: PublicKey | None  # None in wanted: the key file could not be read, no opinion
    listen_port: int | None  # None in wanted: the engine chooses
    fwmark: int | None
    private_key_file: str = ""  # wanted only
    userspace: bool = False
    chosen: Bound | None = None  # wanted only: its port, where that was chosen among several

    @property
    def kind(self) -> str:
        return "wireguard"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return self.tunnel

    @property
    def place(self) -> Hashable:
        return self.dev

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("link", "owner")

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 3

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        return differing(self, found, ("public_key", "listen_port", "fwmark"))

    def __str__(self) -> str:
        key = f" public-key {self.public_key}" if self.public_key else ""
        port = f" listen-port {self.listen_port}" if self.listen_port is not None else ""
        mark = f" fwmark {self.fwmark:#x}" if self.fwmark else ""
        return f"wireguard dev {self.dev}{key}{port}{mark}"
