"""Rules of ours in somebody else's chain: where one drops what is forwarded, an accept of ours elsewhere does not help."""

from __future__ import annotations

from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable


class Accept(NamedTuple):
    """One direction of one passage. All of it is its identity."""

    tunnel: TunnelName | None
    keeper: str  # who writes this table: iptables-nft · iptables-legacy · nft
    family: str  # ip · ip6 · inet, of the table
    table: str
    chain: str
    source: Prefix
    out: IfName
    answers: bool  # False: from the source, True: the answers to it

    @property
    def kind(self) -> str:
        return "forward"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return self

    @property
    def place(self) -> Hashable:
        return self

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
        return 9

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        return ()

    def __str__(self) -> str:
        way = f"from {self.source} oif {self.out}"
        if self.answers:
            way = f"to {self.source} iif {self.out} established,related"
        by = "" if self.keeper == "nft" else f" ({self.keeper})"
        return f"forward accept {way} in {self.family} {self.table} {self.chain}{by}"
