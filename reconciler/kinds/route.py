"""Routes, both families. Plain tuples of what the kernel says, compared as such; where there are many, see routes."""

from __future__ import annotations

from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import Prefix, ntop
from reconciler.model.resource import Resource, differing
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

MAIN = 254  # RT_TABLE_MAIN
DEFAULT_METRIC = {4: 0, 16: 1024}  # by address length; IP6_RT_PRIO_USER
UNICAST = "unicast"
BLOCK_METRIC = 0xFF000000  # plus the slot: behind everything that anybody else would set


Ground = tuple[int, int, int]  # bytes of an address, table, metric: where equal prefixes are the same place


class Route(NamedTuple):
    """One route. The same prefix, metric and table is the same route, whatever device it points to."""

    tunnel: TunnelName | None
    packed: bytes
    length: int
    table: int
    metric: int
    type: str  # unicast · blackhole · unreachable · prohibit · throw; of foreign ones also others
    dev: IfName | None  # None for all but unicast
    via: bytes | None = None  # packed
    src: bytes | None = None  # packed

    @property
    def kind(self) -> str:
        return "route"

    @property
    def replace_on(self) -> frozenset[str]:
        return frozenset()

    @property
    def key(self) -> Hashable:
        return self[1:5]

    @property
    def place(self) -> Hashable:
        return self[1:5]

    @property
    def ground(self) -> Ground:
        return len(self.packed), self.table, self.metric

    @property
    def records(self) -> tuple[bytes]:
        """Its prefix, as in `Prefixes`."""
        return (self.packed + bytes((self.length,)),)

    @property
    def hangs_on(self) -> tuple[str, ...]:
        return ("link",) if self.dev else ()

    @property
    def yields(self) -> bool:
        return False

    @property
    def order(self) -> int:
        """What blocks a tunnel's prefixes stands before anything that could leak; what blocks behind a pin, after the pin."""
        return -1 if self.is_block and self.tunnel != HOST else 6

    @property
    def is_block(self) -> bool:
        return self.type == "unreachable" and self.metric >= BLOCK_METRIC

    def differs_from(self, found: Resource) -> tuple[str, ...]:
        assert isinstance(found, Route)
        fields = differing(self, found, ("type", "dev", "src"))
        return fields if self.via == found.via else (*fields, "via")

    def __str__(self) -> str:
        before, after = self.words
        return f"{before}{Prefix(self.packed, self.length).brief}{after}"

    @property
    def words(self) -> tuple[str, str]:
        """What its line says before the prefix, and after it."""
        _, packed, _, table, metric, type_, dev, via, src = self
        after = f" via {ntop(via)}" if via else ""
        if dev:
            after += f" dev {dev}"
        if table != MAIN:
            after += f" table {table}"
        if src:
            after += f" src {ntop(src)}"
        if metric != DEFAULT_METRIC[len(packed)]:
            after += f" metric {metric}"
        return "route " if type_ == UNICAST else f"route {type_} ", after
