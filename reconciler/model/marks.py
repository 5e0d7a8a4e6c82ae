"""How everything of ours is recognised in the kernel without any file of ours (PRODUCT section 5)."""

from __future__ import annotations

from reconciler.model.names import TunnelName, is_tunnel_name
from reconciler.typed import NamedTuple

PROTOCOL = 115  # routes, rules, addresses: 's' in ASCII, unassigned in rtnetlink.h and in iproute2's rt_protos
ENVIRONMENT_KEY = "TUNCTL_TUNNEL"

_OVERLAPS = 999  # beside table_base
_HEX = frozenset("0123456789abcdef")


class Mark(NamedTuple):
    """``tunctl:<name>:<id>``: on the ifalias of links; without ``tunctl:`` in the environment of processes."""

    tunnel: TunnelName
    store_id: str  # four hex digits, the same for all tunnels of one store
    tunnel_id: str  # four hex digits, made when the tunnel was first stored

    @property
    def id(self) -> str:
        return self.store_id + self.tunnel_id

    @property
    def alias(self) -> str:
        return f"tunctl:{self.tunnel}:{self.id}"

    @property
    def environment(self) -> str:
        return f"{self.tunnel}:{self.id}"

    def __str__(self) -> str:
        return self.alias


def parse_mark(text: str | None) -> Mark | None:
    """An ifalias (or an environment value with ``tunctl:`` put before it) → Mark; None when it is not one."""
    prefix, _, rest = (text or "").partition(":")
    name, _, mark_id = rest.partition(":")
    if prefix != "tunctl" or not is_tunnel_name(name) or len(mark_id) != 8 or not _HEX.issuperset(mark_id):
        return None
    return Mark(TunnelName(name), mark_id[:4], mark_id[4:])


class Numbers(NamedTuple):
    """The numbers that `[host]` may move."""

    fwmark: int = 0x3174
    fwmask: int = 0x3FFF
    table_base: int = 20000
    priority_base: int = 20000
    link_group: int = 20000

    def table(self, slot: int) -> int:
        """The own table of the tunnel with this slot (slots count from 1)."""
        return self.table_base + slot + (slot >= _OVERLAPS)

    @property
    def overlaps(self) -> int:
        """The table of prefixes that lie inside those of other tunnels: the last one of the thousand."""
        return self.table_base + _OVERLAPS

    def owns_priority(self, priority: int) -> bool:
        return self.priority_base <= priority <= self.priority_base + 999
