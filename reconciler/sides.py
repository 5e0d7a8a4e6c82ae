"""Both sides of a plan, by kind, and what can be said of them as a whole: is there anything to do? Pure and generic: of the
kinds it knows which ones carry others."""

from __future__ import annotations

from _operator import attrgetter

from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.model.names import TunnelName
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

    Blind = Callable[[str, TunnelName | None], bool]  # is this kind unobserved for this tunnel?
    ByKind = dict[str, list[Resource]]
    Differences = Mapping[Hashable, tuple[str, ...]]
    Anew = dict[str, set[TunnelName | None]]

CARRIERS = ("link", "owner", "wireguard")  # what other things hang on
_tunnel_of = attrgetter("tunnel")


class Sides:
    """Wanted and found."""

    def __init__(self, wanted: ByKind, found: ByKind, blind: Blind | None) -> None:
        self.wanted = wanted
        self.found = found
        self.blind = blind
        self.differences = {kind: _differences(wanted[kind], found[kind]) for kind in CARRIERS}
        self.anew = _made_anew(wanted, found, self.differences, blind)
        self.renewed = set().union(*self.anew.values())  # tunnels with a carrier that is made anew

    def are_same(self, kind: str, wanted: list[Resource], found: list[Resource]) -> bool:
        """Nearly always: there is nothing to be done about this kind."""
        if kind == "link":  # everybody's are found, and each has a name of its own
            found = [f for f in found if f.tunnel is not None]
        if self.renewed or len(wanted) != len(found):
            return False
        if kind in CARRIERS:
            return _are_as_wanted(wanted, self.differences[kind])
        return len(set(wanted).intersection(found)) == len(wanted)

    def carriers_of(self, tunnel: TunnelName | None) -> set[str]:
        """Those of a tunnel that are made anew."""
        return _carriers_of(tunnel, self.anew)

    def is_made_anew(self, w: Resource) -> bool:
        """It, or what it hangs on."""
        if w.tunnel not in self.renewed:
            return False
        anew = self.carriers_of(w.tunnel)
        return w.kind in anew or not anew.isdisjoint(w.hangs_on)

    def is_unseen(self, r: Resource) -> bool:
        return self.blind is not None and self.blind(r.kind, r.tunnel)


def _differences(wanted: Iterable[Resource], found: Iterable[Resource]) -> Differences:
    """Of the carriers of one kind that are there: the fields in which they are not as wanted, by key."""
    there = {f.key: f for f in found if f.tunnel is not None}
    return {key: w.differs_from(there[key]) for w in wanted if (key := w.key) in there}


def _are_as_wanted(wanted: Collection[Resource], differences: Differences) -> bool:
    """All carriers of a kind are there, and none of them differs."""
    return len(differences) == len(wanted) and not any(differences.values())


def _carriers_of(tunnel: TunnelName | None, anew: Mapping[str, Collection[TunnelName | None]]) -> set[str]:
    return {kind for kind, tunnels in anew.items() if tunnel in tunnels}


def _made_anew(wanted: ByKind, found: ByKind, differences: Mapping[str, Differences], blind: Blind | None) -> Anew:
    """For each kind of carriers the tunnels whose ones will be created or replaced, or hang on such: the fixed point."""
    anew: Anew = {kind: set() for kind in CARRIERS}
    if all(_are_as_wanted(wanted[kind], differences[kind]) for kind in CARRIERS):
        return anew
    owners = {f.tunnel: f for f in found["owner"] if isinstance(f, Owner)}
    starting = {tunnel for tunnel, f in owners.items() if not f.ready}

    def is_put_off(w: Resource) -> bool:
        """Its program is about to make it, or nobody could see whether it is there."""
        comes = isinstance(w, Link) and w.by_program and w.tunnel in starting
        return comes or (blind is not None and blind(w.kind, w.tunnel))

    for kind in CARRIERS:
        differ = differences[kind]
        those = [w for w in wanted[kind] if (odd := differ.get(w.key)) is None or not w.replace_on.isdisjoint(odd)]
        if starting or blind:
            those = [w for w in those if w.key in differ or not is_put_off(w)]
        anew[kind].update(map(_tunnel_of, those))
    hanging = [w for kind in CARRIERS for w in wanted[kind] if w.hangs_on]
    for _ in CARRIERS:
        for w in hanging:
            if not _carriers_of(w.tunnel, anew).isdisjoint(w.hangs_on):
                anew[w.kind].add(w.tunnel)
    return anew
