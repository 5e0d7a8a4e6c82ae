"""Routes, split lists and policy rules of one tunnel, as ``checks`` does for the rest."""

from __future__ import annotations

from itertools import product

from reconciler.config.declared import Declared
from reconciler.config.lines import Path
from reconciler.config.schema import RouteTable, RuleTable
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_RULES = 10_000  # what `from` times `to` may come to: each is a rule that the kernel walks for each packet

_JUST_TO = frozenset(("to",))


def check_routes(tunnel: Declared) -> None:
    for at, entry in enumerate(tunnel.table.routes):
        if entry.given == _JUST_TO:  # as most
            continue
        path: Path = ("routes", at)
        if (entry.to is None) == (entry.to_file is None):
            _not_one_of(tunnel, path, "to", "to_file", neither=entry.to is None)
        if entry.type != "unicast":
            for key in ("via", "src"):
                if getattr(entry, key) is not None:
                    tunnel.error((*path, key), f"a route of type {entry.type!r} leads nowhere: it cannot have {key!r}")
        if entry.via is not None or entry.src is not None:
            check_families(tunnel, path, entry, entry.to or ())


def check_split(tunnel: Declared) -> None:
    for key in ("vpn", "direct"):
        for at, entry in enumerate(getattr(tunnel.table.split, key, ())):
            if (entry.cidr is None) == (entry.cidr_file is None):
                _not_one_of(tunnel, ("split", key, at), "cidr", "cidr_file", neither=entry.cidr is None)


def _not_one_of(tunnel: Declared, path: Path, first: str, second: str, *, neither: bool) -> None:
    if neither:
        tunnel.error(path, f"{first!r} or {second!r} is required")
    else:
        tunnel.error((*path, second), f"stands beside {first!r}: make two entries of it")


def check_families(tunnel: Declared, path: Path, entry: RouteTable, prefixes: Iterable[Prefix]) -> None:
    """The next hop is of the family of all the prefixes, the source of the family of some."""
    if entry.via is None and entry.src is None:
        return
    them = Prefixes.of(prefixes)
    sizes = {size for size in (4, 16) if them.of_size(size)}
    if not sizes:
        return
    if entry.via is not None and sizes != {len(entry.via)}:
        tunnel.error((*path, "via"), f"an {_family(len(entry.via))} next hop for an {_family(20 - len(entry.via))} prefix")
    if entry.src is not None and len(entry.src) not in sizes:
        tunnel.error((*path, "src"), f"an {_family(len(entry.src))} source for {_family(20 - len(entry.src))} prefixes only")


def _family(size: int) -> str:
    return "IPv4" if size == 4 else "IPv6"


def check_rules(tunnel: Declared) -> None:
    seen: dict[object, int] = {}
    for at, entry in enumerate(tunnel.table.rules):
        path: Path = ("rules", at)
        if all(getattr(entry, key) is None for key in ("from_", "to", "iif", "fwmark", "uid_range")):
            tunnel.error(path, "at least one of from, to, iif, fwmark and uid_range is required")
            continue
        if () in (entry.from_, entry.to):
            tunnel.error((*path, "from" if entry.from_ == () else "to"), "must not be empty: the rule would match nothing")
            continue
        sources, targets = entry.from_ or (), entry.to or ()
        if sources and targets and not {p.family for p in sources} & {p.family for p in targets}:
            tunnel.error(path, "from and to have no address family in common: no packet could match")
        elif len(sources or [0]) * len(targets or [0]) > MOST_RULES:
            tunnel.error(path, f"every from with every to makes more than {MOST_RULES} rules")
        else:
            _repeated(tunnel, path, entry, seen)


def _repeated(tunnel: Declared, path: Path, entry: RuleTable, seen: dict[object, int]) -> None:
    """The same rule twice in one tunnel; reported once for each entry."""
    at = path[-1]
    assert isinstance(at, int)
    rest = (entry.iif, entry.fwmark, entry.uid_range, entry.lookup)
    for pair in product(set(entry.from_ or (None,)), set(entry.to or (None,))):
        first = seen.setdefault((pair, rest), at)
        if first != at:
            tunnel.error(path, f"says what rules[{first}] says ({tunnel.place(('rules', first))})")
            return
