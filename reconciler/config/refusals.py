"""What the format has and this version of tunctl does not do yet: refused by name, never accepted and ignored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reconciler.config.declared import Declared, Routed
from reconciler.config.lines import Path
from reconciler.config.problems import Document, Findings
from reconciler.config.schema import HostTable, TunnelTable
from reconciler.layout.lay import covers_all
from reconciler.model.prefix import AF_INET, AF_INET6

NOT_YET = "not supported by this version of tunctl yet"
_HOST_DEFAULTS: dict[str, object] = {"runtime_file": "run"}
_ENGINES = ("openvpn", "openconnect")
_SECTIONS = ("openvpn", "openconnect", "accept", "listen", "health")


def refuse_host(table: HostTable, document: Document, findings: Findings) -> None:
    for key, default in _HOST_DEFAULTS.items():
        value = getattr(table, key)
        if value is not None and value != default:
            words = f'{key} = "{value}"' if isinstance(value, str) else f"`{key}`"
            findings.refuse(document, ("host", key), f"{words} is {NOT_YET}")


def refuse(tunnel: Declared) -> None:
    """Every key of the tunnel that stands for something which is not built yet."""
    for path, words in _keys(tunnel.table):
        tunnel.refuse(path, f"{words} is {NOT_YET}")


def _keys(table: TunnelTable) -> Iterable[tuple[Path, str]]:
    if table.driver in _ENGINES:
        yield ("driver",), f"the driver {table.driver!r}"
    for key in _SECTIONS:
        if getattr(table, key) not in (None, []):
            yield (key,), f"`{key}`"


def is_full(tunnel: Declared, routed: Sequence[Routed]) -> bool:
    """PRODUCT section 3: what goes into it covers a family, and no rule `lookup = "tunnel"` narrows it."""
    prefixes = [prefix for entry in routed if entry.table is None for prefix in entry.prefixes]
    return not tunnel.has_own_table and any(covers_all(prefixes, family) for family in (AF_INET, AF_INET6))
