"""Kernel switches that forwarding needs. Host-wide: what was there before is in the ledger, and is given back."""

from __future__ import annotations

from reconciler.model.names import IfName, TunnelName
from reconciler.model.resource import Resource, differing
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

PREFIX = "sysctl:"
GLOBAL = {"net.ipv4.ip_forward": "net.ipv4", "net.ipv6.conf.all.forwarding": "net.ipv6"}  # they overwrite every interface's


class Sysctl(NamedTuple):
    """One switch for one tunnel: each tunnel that needs it has one, and the last one gives the value back."""

    tunnel: TunnelName | None
    name: str  # as sysctl(8) writes it; a dot in an interface name is a slash
    value: str | None  # None: found only, the interface is gone
    link: IfName | None = None  # that it is a switch of; wanted only
    always: bool = False  # remembered even where it is as wanted: the global switch overwrites it

    @property
    def kind(self) -> str:
        return "sysctl"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return (self.tunnel, self.name)

    @property
    def place(self) -> Hashable:
        return self.key

    @property
    def dev(self) -> IfName | None:
        return None

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ()

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        return 10

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        return differing(self, found, ("value",))

    def __str__(self) -> str:
        return f"sysctl {self.name}={self.value}"


def interface_key(family: str, dev: str, switch: str) -> str:
    """``interface_key("net.ipv4", "eth0.5", "forwarding")`` → ``net.ipv4.conf.eth0/5.forwarding``."""
    return f"{family}.conf.{dev.replace('.', '/')}.{switch}"
