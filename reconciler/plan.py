"""Wanted, found → plan. Pure and generic: of the kinds it knows their order, and which ones carry others.

Equal values need nothing, and that is found out at the speed of sets: only what differs is compared one by one.
"""

from __future__ import annotations

from _operator import attrgetter
from itertools import compress

from reconciler.kinds import CARRIERS, KINDS
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.model.names import TunnelName
from reconciler.model.plan import Plan
from reconciler.model.resource import Resource, Verb, are_equal
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Mapping

    from reconciler.compared import Anew, Blind, ByKind

    Differences = Mapping[Hashable, tuple[str, ...]]

_tunnel_of = attrgetter("tunnel")


def plan(
    wanted: Collection[Resource],
    found: Collection[Resource],
    *,
    blind: Blind | None = None,
    untouched: Collection[TunnelName] = (),
    armed: Collection[TunnelName] = (),
    guards: Callable[[Resource], bool] = lambda _resource: False,
    kept: Collection[str] = (),
) -> Plan:
    """The steps that make found into wanted, in the order in which they are to be done.

    `blind` tells what could not be looked at (None: everything could): nothing is planned there, least of all a removal.
    `untouched` tunnels (what they want is not known) get no steps at all. `armed` ones block their prefixes even where a
    conflict stops everything else of them; `guards` is what that takes beside the routes that block: it is made whatever else
    fails, and first of all where their link is gone. `kept`: kinds of which HOST keeps what it has; guards come in addition.
    """
    sides = _Sides(_by_kind(wanted), _by_kind(found), blind)
    odd = [kind for kind in KINDS if not sides.are_same(kind)]
    if not odd:
        return Plan()
    from reconciler.compared import Compared  # most passes find nothing to do
    from reconciler.ordered import ordered

    compared = Compared(sides.wanted, sides.found, sides.anew, blind)
    for kind in odd:
        compared.of_kind(kind)
    if kept:
        compared.keep(kept, guards)
    skipped = compared.stopped().union(untouched)
    steps = compared.steps
    if armed:
        steps = [
            s._replace(regardless=True) if s.tunnel in armed and s.verb is Verb.CREATE and guards(s.resource) else s
            for s in steps
        ]
    if skipped:
        steps = [s for s in steps if s.tunnel not in skipped or s.regardless or (s.tunnel in armed and s.resource.order < 0)]
    later = skipped | (compared.dark - sides.anew["owner"])  # these are begun, and not ready yet
    if later:
        steps = [s for s in steps if s.needs not in later]
    at_once = guards if any(name not in compared.up for name in armed) else None
    return Plan(ordered(steps, compared.staying, at_once, compared.first), tuple(compared.conflicts))


def _by_kind(resources: Collection[Resource]) -> ByKind:
    """Asked once of each class: all values of it are of the same kind."""
    out: ByKind = {kind: [] for kind in KINDS}
    of_class = {cls: one.kind for cls, one in dict(zip(map(type, resources), resources, strict=True)).items()}
    kinds = [*map(of_class.__getitem__, map(type, resources))]
    for kind in {*of_class.values()}:
        out[kind] += compress(resources, map(kind.__eq__, kinds))
    return out


class _Sides:
    """Wanted and found as a whole: is there anything to do?"""

    def __init__(self, wanted: ByKind, found: ByKind, blind: Blind | None) -> None:
        self.wanted = wanted
        self.found = found
        self.differences = {kind: _differences(wanted[kind], found[kind]) for kind in CARRIERS}
        self.anew = _made_anew(wanted, found, self.differences, blind)
        self._is_any_anew = any(self.anew.values())

    def are_same(self, kind: str) -> bool:
        """Nearly always: there is nothing to be done about this kind."""
        wanted, found = self.wanted[kind], self.found[kind]
        if self._is_any_anew:
            return False
        if kind not in CARRIERS:
            return are_equal(wanted, found)
        if kind == "link":  # everybody's are found, and each has a name of its own
            found = [f for f in found if f.tunnel is not None]
        return len(wanted) == len(found) and _are_as_wanted(wanted, self.differences[kind])


def _differences(wanted: Iterable[Resource], found: Iterable[Resource]) -> Differences:
    """Of the carriers of one kind that are there: the fields in which they are not as wanted, by key."""
    there = {f.key: f for f in found if f.tunnel is not None}
    return {key: w.differs_from(there[key]) for w in wanted if (key := w.key) in there}


def _are_as_wanted(wanted: Collection[Resource], differences: Differences) -> bool:
    """All carriers of a kind are there, and none of them differs."""
    return len(differences) == len(wanted) and not any(differences.values())


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
            if any(w.tunnel in anew.get(kind, ()) for kind in w.hangs_on):
                anew[w.kind].add(w.tunnel)
    return anew
