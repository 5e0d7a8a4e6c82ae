"""Interface addresses, both families."""

from __future__ import annotations

from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix, ntop
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable

_new = tuple.__new__  # as in `routes`


class Address(NamedTuple):
    """One address. Found with our protocol on our link it is the tunnel's; without it, foreign."""

    tunnel: TunnelName | None
    dev: IfName
    packed: bytes
    length: int
    is_bare: bool = False  # without the route to its network: that network is connected somewhere else, or has a route of ours

    @property
    def kind(self) -> str:
        return "address"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return (self.dev, self.packed, self.length)

    @property
    def place(self) -> Hashable:
        return self.key

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("link",)

    @property
    def yields(self) -> bool:
        return self.tunnel is None

    @property
    def order(self) -> int:
        return 5

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        assert isinstance(found, Address)
        marked = () if found.tunnel == self.tunnel else ("protocol",)
        return marked if found.is_bare == self.is_bare else (*marked, "is_bare")

    def __str__(self) -> str:
        bare = " noprefixroute" if self.is_bare else ""
        return f"address {ntop(self.packed)}/{self.length} dev {self.dev}{bare}"


def wanted(intent: Intent, dev: IfName, local: Collection[Prefix], is_routed: Callable[[Prefix], bool]) -> list[Address]:
    """The addresses of a tunnel on its link `dev`; `local`: networks that stay where they are; `is_routed`: has the tunnel
    a route of its own for the network of an address?"""
    tunnel = intent.tunnel
    name = tunnel.name
    out: list[Address] = []
    for packed, length in tunnel.addresses:
        is_bare = False
        if length < len(packed) * 8:
            network = Prefix(packed, length).network
            is_bare = is_routed(network) or any(one.covers(network) or network.covers(one) for one in local)
        out.append(_new(Address, (name, dev, packed, length, is_bare)))
    return out
