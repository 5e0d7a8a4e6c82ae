"""Interface addresses, both families."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Resource


class Address(NamedTuple):
    """One address. Found with our protocol on our link it is the tunnel's; without it, foreign."""

    tunnel: TunnelName | None
    dev: IfName
    packed: bytes
    length: int

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
        return () if found.tunnel == self.tunnel else ("protocol",)

    def __str__(self) -> str:
        return f"address {Prefix(self.packed, self.length)} dev {self.dev}"


def wanted(intent: Intent, dev: IfName) -> Iterator[Address]:
    """The addresses of a tunnel on its link `dev`."""
    for packed, length in intent.tunnel.addresses:
        yield Address(intent.name, dev, packed, length)
