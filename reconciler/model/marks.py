"""How everything of ours is recognised in the kernel without any file of ours (PRODUCT section 5)."""

from __future__ import annotations

from reconciler.model.names import TunnelName, is_tunnel_name
from reconciler.typed import NamedTuple

PROTOCOL = 115  # routes, rules, addresses: 's' in ASCII, unassigned in rtnetlink.h and in iproute2's rt_protos
ENVIRONMENT_KEY = "TUNCTL_TUNNEL"

UPLINKS = 8  # that can have a table of their own
_RESERVED, _OVERLAPS = 990, 999  # beside table_base: no tunnel's from here to there
_HEX = "0123456789abcdef"


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
        return f"tunctl:{self.tunnel}:{self.store_id}{self.tunnel_id}"

    @property
    def environment(self) -> str:
        return f"{self.tunnel}:{self.id}"

    def __str__(self) -> str:
        return self.alias


def parse_mark(text: str | None) -> Mark | None:
    """An ifalias (or an environment value with ``tunctl:`` put before it) → Mark; None when it is not one."""
    match (text or "").split(":"):
        case ["tunctl", name, id_] if len(id_) == 8 and not id_.strip(_HEX) and is_tunnel_name(name):
            return Mark(TunnelName(name), id_[:4], id_[4:])
    return None


class Numbers(NamedTuple):
    """The numbers that `[host]` may move."""

    fwmark: int = 0x3174
    fwmask: int = 0x3FFF
    table_base: int = 20000
    priority_base: int = 20000
    link_group: int = 20000

    def table(self, slot: int) -> int:
        """The own table of the tunnel with this slot (slots count from 1)."""
        return self.table_base + slot + (_OVERLAPS - _RESERVED + 1 if slot >= _RESERVED else 0)

    @property
    def overlaps(self) -> int:
        """The table of prefixes that lie inside those of other tunnels: the last one of the thousand."""
        return self.table_base + _OVERLAPS

    def of_uplink(self, number: int) -> int:
        """The table of one of several uplinks (0 to UPLINKS - 1)."""
        return self.table_base + _OVERLAPS - 1 - number

    def mark_of_uplink(self, number: int) -> int | None:
        """What marks the answers that leave by it: another value in the same bits. None: they have no room for it."""
        bits = [1 << at for at in range(32) if self.fwmask >> at & 1]
        flipped = sum(bit for at, bit in enumerate(bits) if (number + 1) >> at & 1)
        return self.fwmark ^ flipped or None if number + 1 < 1 << len(bits) else None

    @property
    def mark_of_judged(self) -> int:
        """What the packet filter puts for a moment on packets that the host begins: neither engines' nor an uplink's. In a
        mask that has no room for one more, a bit beside it."""
        return self.mark_of_uplink(UPLINKS) or next(1 << at for at in range(32) if not self.fwmask >> at & 1)

    def owns_priority(self, priority: int) -> bool:
        return self.priority_base <= priority <= self.priority_base + 999
