"""What goes into one tunnel, and where its routes stand."""

from __future__ import annotations

from reconciler.model.facts import Connected
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import NONE, Prefixes
from reconciler.model.tunnel import PrefixFile, RouteSettings
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

MAIN = 254  # RT_TABLE_MAIN
UNICAST = "unicast"
_NO_FAMILY, _NO_PREFIX = frozenset[int](), frozenset[Prefix]()
_new = tuple.__new__  # as in `kinds.routes`


class Excluded(NamedTuple):
    """A prefix that the file wants in the tunnel and that stays out of it."""

    to: Prefix
    reason: str


class Lay(NamedTuple):
    """One tunnel that is to be up."""

    intent: Intent
    dev: IfName
    prefixes: Prefixes  # through it, without a table of their own
    entries: tuple[tuple[RouteSettings, Prefixes], ...]  # `routes`, each with what is left of it
    table_less: Prefixes  # all unicast ones that stand where `table` says
    direct: Prefixes  # these never go in
    full: frozenset[int]  # families that it takes whole
    table: int  # where routes without a table stand
    blocks: bool  # dead, its prefixes become unreachable
    excluded: tuple[Excluded, ...] = ()
    is_dead: bool = False  # it is there, and health checks say that it does not work
    displaced: frozenset[Prefix] = frozenset()  # in `main` the kernel's own route for a connected network stands in their place

    @property
    def owns_table(self) -> bool:
        return self.table not in (MAIN, self.intent.tunnel.table)

    @property
    def is_plain(self) -> bool:
        """Nothing is to be said of it but which prefixes it has in `main`. Nearly all are, where there are many."""
        return self.table == MAIN and not (self.full or self.blocks or self.displaced or self.excluded or self.direct)

    @property
    def is_selected(self) -> bool:
        """Only packets that its rules select go into its table."""
        return self.intent.tunnel.has_own_table

    @property
    def is_open(self) -> bool:
        """Every packet looks into its table."""
        return self.owns_table and not self.is_selected


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
    direct = _all(split.direct, split.direct_files) if split else NONE
    inside = (split and _all(split.vpn, split.vpn_files)) or Prefixes.of(allowed)
    listed = [(e, _all(e.to, (e.to_file,)) if e.to_file else Prefixes.of(e.to)) for e in tunnel.routes]
    through = _through(inside, listed)
    table, on_failure = tunnel.table, tunnel.on_failure
    is_selected = bool(tunnel.rules) and tunnel.has_own_table
    full = _NO_FAMILY if is_selected or table is not None else through.whole()  # not every packet looks there
    blocks = on_failure == "block" or (on_failure is None and bool(full))
    directs = split is not None and bool(direct)
    table = table or (numbers.table(intent.slot) if full or directs or blocks or is_selected else MAIN)
    excluded: tuple[Excluded, ...] = ()
    if directs or (kept and any(through.inside(one.prefix) for one in kept)):  # most tunnels are about other networks
        leave_out = _LeaveOut(kept, direct)
        inside = leave_out.rest(inside)
        listed = [(entry, leave_out.rest(to) if _is_through(entry) else to) for entry, to in listed]
        through, excluded = _through(inside, listed), leave_out.excluded
    displaced = frozenset(filter(through.__contains__, covered)) if covered and table == MAIN else _NO_PREFIX
    laid: Lay = _new(
        Lay, (intent, dev, inside, tuple(listed), through, direct, full, table, blocks, excluded, False, displaced)
    )
    return laid


def _all(inline: Iterable[Prefix], files: Iterable[PrefixFile]) -> Prefixes:
    return Prefixes.union((Prefixes.of(inline), *(file.prefixes for file in files)))


def _through(inside: Prefixes, listed: Iterable[tuple[RouteSettings, Prefixes]]) -> Prefixes:
    parts = [to for entry, to in listed if _is_through(entry)]
    return parts[0] if inside is NONE and len(parts) == 1 else Prefixes.union((inside, *parts))


def _is_through(entry: RouteSettings) -> bool:
    """What an entry in a table of its own, or one that leads nowhere, says is meant as it is."""
    return entry.table is None and entry.type == UNICAST


_DIRECT = IfName("")  # no network of a device


class _LeaveOut:
    """Takes out what equals or lies inside a local network, or a direct prefix; a wider one stays."""

    def __init__(self, kept: Sequence[Connected], direct: Prefixes) -> None:
        self._networks = [(one.prefix, one.dev) for one in kept]
        self._networks += [(prefix, _DIRECT) for prefix in direct]
        self._found: dict[Prefix, tuple[Prefix, IfName]] = {}

    @property
    def excluded(self) -> tuple[Excluded, ...]:
        return tuple(
            Excluded(prefix, f"LAN {network} on {dev}" if dev else f"direct {network}")
            for prefix, (network, dev) in self._found.items()
        )

    def rest(self, prefixes: Prefixes) -> Prefixes:
        if not prefixes:
            return prefixes
        out: set[Prefix] = set()
        for one in self._networks:
            for prefix in prefixes.inside(one[0]):
                if prefix not in out:
                    out.add(prefix)
                    self._found[prefix] = one
        return prefixes - Prefixes.of(out) if out else prefixes
