"""Routes, both families. There may be 100 000 of them: plain tuples of what the kernel says, compared as such."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import Prefix, ntop, unpack
from reconciler.model.resource import Resource, differing

MAIN = 254  # RT_TABLE_MAIN
DEFAULT_METRIC = {4: 0, 16: 1024}  # by address length; IP6_RT_PRIO_USER
UNICAST = "unicast"


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
        return 6

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


def wanted(intent: Intent, dev: IfName, allowed: Iterable[Prefix], numbers: Numbers) -> Iterator[Route]:
    """The routes of a tunnel: the prefixes its engine lets through, and its `routes`."""
    tunnel = intent.tunnel
    table = tunnel.table or (numbers.table(intent.slot) if tunnel.has_own_table else MAIN)
    name = intent.name
    for packed, length in allowed:
        metric = DEFAULT_METRIC[len(packed)] if tunnel.metric is None else tunnel.metric
        yield Route(name, packed, length, table, _real_metric(metric, packed), UNICAST, dev, None, _src(tunnel.src, packed))
    for entry in tunnel.routes:
        metric_wanted = tunnel.metric if entry.metric is None else entry.metric
        metrics = {
            size: default if metric_wanted is None else metric_wanted or default if size == 16 else metric_wanted
            for size, default in DEFAULT_METRIC.items()
        }
        entry_dev = dev if entry.type == UNICAST else None
        src = entry.src or tunnel.src
        in_table = entry.table or table
        in_file = unpack(entry.to_file.packed) if entry.to_file else ()
        for packed, length in chain(entry.to, in_file):
            yield Route(
                name,
                packed,
                length,
                in_table,
                metrics[len(packed)],
                entry.type,
                entry_dev,
                entry.via,
                _src(src, packed) if entry_dev else None,
            )


def _real_metric(metric: int, packed: bytes) -> int:
    """IPv6 has no metric 0: the kernel makes it 1024."""
    return metric or DEFAULT_METRIC[len(packed)]


def _src(src: bytes | None, packed: bytes) -> bytes | None:
    """The preferred source counts for its own family only."""
    return src if src is not None and len(src) == len(packed) else None
