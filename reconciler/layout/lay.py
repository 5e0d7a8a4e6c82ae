"""What goes into one tunnel, and where its routes stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

from reconciler.model.facts import Connected
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, unpack
from reconciler.model.tunnel import RouteSettings
from reconciler.typed import NamedTuple

MAIN = 254  # RT_TABLE_MAIN
UNICAST = "unicast"


class Excluded(NamedTuple):
    """A prefix that the file wants in the tunnel and that stays out of it."""

    to: Prefix
    reason: str


class Lay(NamedTuple):
    """One tunnel that is to be up."""

    intent: Intent
    dev: IfName
    prefixes: tuple[Prefix, ...]  # through it, without a table of their own
    entries: tuple[tuple[RouteSettings, tuple[Prefix, ...]], ...]  # `routes`, each with what is left of it
    direct: tuple[Prefix, ...]  # these never go in
    full: frozenset[int]  # families that it takes whole
    table: int  # where routes without a table stand
    blocks: bool  # dead, its prefixes become unreachable
    excluded: tuple[Excluded, ...] = ()
    displaced: frozenset[Prefix] = frozenset()  # in `main` the kernel's own route for a connected network stands in their place

    @property
    def owns_table(self) -> bool:
        return self.table not in (MAIN, self.intent.tunnel.table)

    @property
    def is_selected(self) -> bool:
        """Only packets that its rules select go into its table."""
        return self.intent.tunnel.has_own_table

    @property
    def is_open(self) -> bool:
        """Every packet looks into its table."""
        return self.owns_table and not self.is_selected

    def table_less(self) -> Iterator[Prefix]:
        """All unicast prefixes that stand where `table` says."""
        yield from self.prefixes
        for entry, prefixes in self.entries:
            if entry.table is None and entry.type == UNICAST:
                yield from prefixes


def lay(
    intent: Intent,
    dev: IfName,
    allowed: Iterable[Prefix],
    kept: Sequence[Connected],
    numbers: Numbers,
    covered: Collection[Prefix] = (),
) -> Lay:
    """`allowed`: what the engine lets through, if `split.vpn` says nothing. `kept`: networks that stay local; `covered`:
    those that tunnels may cover."""
    tunnel = intent.tunnel
    split = tunnel.split
    direct = _all(split.direct, split.direct_files) if split else ()
    inside = (_all(split.vpn, split.vpn_files) if split else ()) or tuple(allowed)
    leave_out = _LeaveOut(kept, direct)
    prefixes = tuple(dict.fromkeys(leave_out.rest(inside)))
    entries = tuple((entry, _entry(entry, leave_out)) for entry in tunnel.routes)
    full = frozenset[int]()
    if tunnel.table is None and not tunnel.has_own_table:
        through = [p for entry in tunnel.routes if entry.table is None and entry.type == UNICAST for p in _listed(entry)]
        full = frozenset(family for family in (AF_INET, AF_INET6) if covers_all(chain(inside, through), family))
    blocks = tunnel.on_failure == "block" or (tunnel.on_failure is None and bool(full))
    own = bool(full or direct or blocks or tunnel.has_own_table)
    table = tunnel.table or (numbers.table(intent.slot) if own else MAIN)
    laid = Lay(intent, dev, prefixes, entries, direct, full, table, blocks, leave_out.excluded)
    if not covered or table != MAIN:
        return laid
    return laid._replace(displaced=frozenset(covered).intersection(laid.table_less()))


def _all(inline: tuple[Prefix, ...], files: Iterable[object]) -> tuple[Prefix, ...]:
    return (*inline, *(prefix for file in files for prefix in unpack(file.packed)))  # type: ignore[attr-defined]


def _listed(entry: RouteSettings) -> Iterator[Prefix]:
    return chain(entry.to, unpack(entry.to_file.packed) if entry.to_file else ())


def _entry(entry: RouteSettings, leave_out: _LeaveOut) -> tuple[Prefix, ...]:
    """What a route entry in a table of its own, or one that leads nowhere, says is meant as it is."""
    prefixes = _listed(entry)
    return tuple(leave_out.rest(prefixes) if entry.table is None and entry.type == UNICAST else prefixes)


class _LeaveOut:
    """Takes out what equals or lies inside a local network, or a direct prefix; a wider one stays."""

    def __init__(self, kept: Sequence[Connected], direct: Sequence[Prefix]) -> None:
        self._networks = [(one.prefix, f"LAN {one.prefix} on {one.dev}") for one in kept]
        self._networks += [(prefix, f"direct {prefix}") for prefix in direct]
        self._found: dict[Prefix, str] = {}

    @property
    def excluded(self) -> tuple[Excluded, ...]:
        return tuple(Excluded(prefix, reason) for prefix, reason in self._found.items())

    def rest(self, prefixes: Iterable[Prefix]) -> Iterable[Prefix]:
        return self._without(prefixes) if self._networks else prefixes

    def _without(self, prefixes: Iterable[Prefix]) -> Iterator[Prefix]:
        tests = [_inside(network) for network, _ in self._networks]
        for prefix in prefixes:
            for at, (size, length, shift, value) in enumerate(tests):
                packed = prefix.packed
                if len(packed) == size and prefix.length >= length and int.from_bytes(packed, "big") >> shift == value:
                    self._found[prefix] = self._networks[at][1]
                    break
            else:
                yield prefix


def _inside(network: Prefix) -> tuple[int, int, int, int]:
    """Size, length, shift and value: a prefix lies inside if its address, shifted, is the value."""
    shift = network.bits - network.length
    return len(network.packed), network.length, shift, int.from_bytes(network.packed, "big") >> shift


def covers_all(prefixes: Iterable[Prefix], family: int) -> bool:
    """True when these prefixes leave no address of the family out: `/0`, or its halves, or many."""
    size = 4 if family == AF_INET else 16
    mine = {prefix for prefix in prefixes if len(prefix.packed) == size}
    if not mine or len(mine) < 1 << min(prefix.length for prefix in mine):
        return False  # too few, even if all were as wide as the widest: the usual case, found quickly
    end = 0
    for prefix in sorted(mine):
        start = int.from_bytes(prefix.packed, "big")
        if start > end:
            return False
        end = max(end, start + (1 << (prefix.bits - prefix.length)))
    return end == 1 << (size * 8)
