"""What two tunnels, or two keys that route, cannot both have."""

from __future__ import annotations

from itertools import chain
from operator import attrgetter

from reconciler.config.declared import Declared, Routed
from reconciler.config.lines import Path
from reconciler.config.portchecks import check_ports
from reconciler.config.problems import path_text
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    Whole = tuple[Declared, Sequence[Routed]]  # a tunnel whose own tables are good, and all that it routes

MAIN = 254  # RT_TABLE_MAIN
MOST_REPEATS = 20  # of one pair of keys
_DEFAULT_METRIC = {4: 0, 16: 1024}  # IP6_RT_PRIO_USER


def check(tunnels: Sequence[Whole]) -> None:
    """All of it; errors go to the findings of the later of the two tunnels."""
    declared = [tunnel for tunnel, _ in tunnels]
    for path, value, words in _SINGLE:
        _unique(declared, path, list(map(value, declared)), words)
    check_ports(declared)
    _addresses(declared)
    _routes(tunnels)


def _listen_port(tunnel: Declared) -> int | None:
    return tunnel.table.wireguard.listen_port if tunnel.table.wireguard else None


_SINGLE: tuple[tuple[Path, Callable[[Declared], Hashable], str], ...] = (
    (("interface",), attrgetter("interface"), "interface"),
    (("wireguard", "listen_port"), _listen_port, "listen port"),
    (("table",), attrgetter("table.table"), "table"),
)


def _differ(values: Iterable[Hashable]) -> bool:
    """No two of them are the same: so it mostly is, and that is known in no time."""
    several = list(values)
    return len(set(several)) == len(several)


def _unique(tunnels: Sequence[Declared], path: Path, values: Sequence[Hashable], words: str) -> None:
    if _differ(value for value in values if value is not None):
        return
    first: dict[Hashable, Declared] = {}
    for tunnel, wanted in zip(tunnels, values, strict=True):
        other = first.setdefault(wanted, tunnel) if wanted is not None else tunnel
        if other is not tunnel:
            tunnel.error(path, f"{words} {wanted} is that of {path_text(other.path)} already ({other.place(path)})")


def _addresses(tunnels: Sequence[Declared]) -> None:
    if _differ(prefix.packed for tunnel in tunnels for prefix in tunnel.table.addresses):
        return
    first: dict[bytes, Declared] = {}
    for tunnel in tunnels:
        for at, prefix in enumerate(tunnel.table.addresses):
            other = first.setdefault(prefix.packed, tunnel)
            if other is not tunnel:
                path: Path = ("addresses", at)
                tunnel.warn(
                    path, f"{prefix.address} is an address of {path_text(other.path)} too ({other.place(('addresses',))})"
                )


def _routes(tunnels: Sequence[Whole]) -> None:
    """One prefix, table and metric is one route in the kernel, whatever device it leads to."""
    lists = [routed.prefixes for _, all_routed in tunnels for routed in all_routed]
    if Prefixes not in map(type, lists) and _differ(chain.from_iterable(lists)):  # those of files are too many to do it twice
        return
    places: dict[tuple[int, int | str, int], list[tuple[Declared, Routed]]] = {}
    for tunnel, all_routed in tunnels:
        for routed in all_routed:
            if routed.path[-1] == "to" and not isinstance(routed.prefixes, Prefixes):
                _repeated(tunnel, routed, routed.prefixes)
            table = routed.table or (f"own {tunnel.name}" if tunnel.has_own_table else MAIN)
            for size, default in _DEFAULT_METRIC.items():
                metric = default if routed.metric is None else routed.metric or default
                if routed.prefixes:
                    places.setdefault((size, table, metric), []).append((tunnel, routed))
    for (size, _, _), several in places.items():
        if len(several) > 1:
            _same_routes(size, several)


def _repeated(tunnel: Declared, routed: Routed, prefixes: Sequence[Prefix]) -> None:
    if len(set(prefixes)) == len(prefixes):
        return
    seen: set[Prefix] = set()
    for at, prefix in enumerate(prefixes):
        if prefix in seen:
            tunnel.error((*routed.path, at), f"{prefix} stands in the list already")
        seen.add(prefix)


def _same_routes(size: int, several: list[tuple[Declared, Routed]]) -> None:
    lists = [routed.prefixes for _, routed in several]
    if len(set().union(*lists)) == sum(map(len, lists)):  # each prefix once, as in most files
        return
    seen: dict[Prefix, tuple[Declared, Routed]] = {}
    shared: dict[tuple[int, int], list[Prefix]] = {}
    by_id = {id(entry): entry for entry in several}
    for entry in several:
        for prefix in entry[1].prefixes:
            if len(prefix[0]) == size:
                first = seen.setdefault(prefix, entry)
                if first is not entry:
                    shared.setdefault((id(first), id(entry)), []).append(prefix)
    for (first_id, second_id), prefixes in shared.items():
        _tell(by_id[first_id], by_id[second_id], prefixes)


def _tell(first: tuple[Declared, Routed], second: tuple[Declared, Routed], prefixes: list[Prefix]) -> None:
    (other, there), (tunnel, here) = first, second
    key = f"{path_text((*other.path, *there.path))} ({other.place(there.path)})"
    if other is tunnel and here.path[0] == there.path[0] == "wireguard":
        return  # `checks` says it: no prefix can be allowed at two peers
    if other is tunnel:
        for prefix in prefixes[:MOST_REPEATS]:
            tunnel.error(here.path, f"{prefix} is routed by {key} already, in the same table with the same metric")
        if len(prefixes) > MOST_REPEATS:
            tunnel.error(here.path, f"{len(prefixes) - MOST_REPEATS} more prefixes are routed by {key} already")
    elif tunnel.table.enabled and other.table.enabled:
        more = f" and {len(prefixes) - 1} more" if len(prefixes) > 1 else ""
        tunnel.warn(here.path, f"{prefixes[0]}{more} routed by {key} too, in the same table with the same metric")
