"""What the format has and this version of tunctl does not do yet: refused by name, never accepted and ignored."""

from __future__ import annotations

from reconciler.config.declared import Declared, Routed
from reconciler.config.lines import Path
from reconciler.config.schema import TunnelTable
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOT_YET = "not supported by this version of tunctl yet"
_ENGINES = ("openvpn", "openconnect")
_SECTIONS = ("openvpn", "openconnect", "accept")


def refuse(tunnel: Declared) -> None:
    """Every key of the tunnel that stands for something which is not built yet."""
    table = tunnel.table
    if table.driver in _ENGINES or not table.given.isdisjoint(_SECTIONS):
        for path, words in _keys(table):
            tunnel.refuse(path, f"{words} is {NOT_YET}")


def _keys(table: TunnelTable) -> Iterable[tuple[Path, str]]:
    if table.driver in _ENGINES:
        yield ("driver",), f"the driver {table.driver!r}"
    for key in _SECTIONS:
        if getattr(table, key) not in (None, ()):
            yield (key,), f"`{key}`"


def is_full(tunnel: Declared, routed: Sequence[Routed]) -> bool:
    """PRODUCT section 3: what goes into it covers a family, and no rule `lookup = "tunnel"` narrows it."""
    prefixes = Prefixes.union(Prefixes.of(entry.prefixes) for entry in routed if entry.table is None)
    return not tunnel.has_own_table and bool(prefixes.whole())
