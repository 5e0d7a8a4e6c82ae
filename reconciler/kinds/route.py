"""Routes, both families. There may be 100 000 of them: plain tuples of what the kernel says, compared as such."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import chain

from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.prefix import Prefix, ntop, unpack
from reconciler.model.resource import Resource, differing
from reconciler.typed import NamedTuple

MAIN = 254  # RT_TABLE_MAIN
DEFAULT_METRIC = {4: 0, 16: 1024}  # by address length; IP6_RT_PRIO_USER
UNICAST = "unicast"
BLOCK_METRIC = 0xFF000000  # plus the slot: behind everything that anybody else would set


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
        kind = "" if self.type == UNICAST else f"{self.type} "
        via = f" via {ntop(self.via)}" if self.via else ""
        dev = f" dev {self.dev}" if self.dev else ""
        table = f" table {self.table}" if self.table != MAIN else ""
        src = f" src {ntop(self.src)}" if self.src else ""
        metric = f" metric {self.metric}" if self.metric != DEFAULT_METRIC[len(self.packed)] else ""
        return f"route {kind}{Prefix(self.packed, self.length).brief}{via}{dev}{table}{src}{metric}"


def deviceless_keys(intent: Intent, numbers: Numbers) -> Iterator[tuple[bytes, int, int, int]]:
    """Keys of the routes of an intent that have no device, in whichever table the tunnel's routes stand."""
    tunnel = intent.tunnel
    for entry in tunnel.routes:
        if entry.type == UNICAST:
            continue
        metric = tunnel.metric if entry.metric is None else entry.metric
        table = entry.table or tunnel.table
        for prefix in chain(entry.to, unpack(entry.to_file.packed) if entry.to_file else ()):
            for number in (table,) if table else (MAIN, numbers.table(intent.slot)):
                yield *prefix, number, metric or DEFAULT_METRIC[len(prefix.packed)]
