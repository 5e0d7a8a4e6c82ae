"""Wanted, found → plan. Pure and generic: of the kinds it knows their order, and which ones carry others.

Equal values need nothing, and that is found out at the speed of sets: only what differs is looked at one by one.
"""

from __future__ import annotations

from _operator import attrgetter
from itertools import chain, compress

from reconciler.kinds import KINDS
from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.resolver import Resolver
from reconciler.lean import defaultdict
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Conflict, Plan, Step
from reconciler.model.resource import Resource, Verb
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping

    Blind = Callable[[str, TunnelName | None], bool]  # is this kind unobserved for this tunnel?
    ByKind = dict[str, list[Resource]]
    Differences = Mapping[Hashable, tuple[str, ...]]


CARRIERS = ("link", "owner", "wireguard")  # what other things hang on
_ALL_CARRIERS = frozenset(CARRIERS)
_NONE = frozenset[str]()
_tunnel_of = attrgetter("tunnel")


def plan(
    wanted: Collection[Resource],
    found: Collection[Resource],
    *,
    blind: Blind = lambda _kind, _tunnel: False,
    untouched: Collection[TunnelName] = (),
    armed: Collection[TunnelName] = (),
    guards: Callable[[Resource], bool] = lambda _resource: False,
    kept: Collection[str] = (),
) -> Plan:
    """The steps that make found into wanted, in the order in which they are to be done.

    `blind` tells what could not be looked at: nothing is planned there, least of all a removal. `untouched`
    tunnels (what they want is not known) get no steps at all. `armed` ones block their prefixes even where a conflict
    stops everything else of them; `guards` is what that takes beside the routes that block: it is made whatever else
    fails, and first of all where their link is gone. `kept`: kinds of which HOST keeps what it has; guards come in addition.
    """
    comparison = _Comparison(_by_kind(wanted), _by_kind(found), blind)
    for kind in KINDS:
        comparison.of_kind(kind)
    if kept:
        comparison.keep(kept, guards)
    skipped = comparison.stopped().union(untouched)
    steps = comparison.steps
    if armed:
        steps = [s._replace(regardless=True) if s.tunnel in armed and _is_made(s) and guards(s.resource) else s for s in steps]
    if skipped:
        steps = [s for s in steps if s.tunnel not in skipped or s.regardless or (s.tunnel in armed and s.resource.order < 0)]
    begun = {name for name in comparison.dark if "owner" not in comparison.anew.get(name, ())}  # not ready yet
    steps = [s for s in steps if s.needs is None or s.needs not in skipped | begun]
    if not steps:
        return Plan((), tuple(comparison.conflicts))
    from reconciler.ordered import ordered  # most passes find nothing to do

    at_once = guards if any(name not in comparison.up for name in armed) else None
    return Plan(ordered(steps, comparison.staying, at_once, comparison.first), tuple(comparison.conflicts))


def _is_made(step: Step) -> bool:
    return step.verb is Verb.CREATE


def _by_kind(resources: Collection[Resource]) -> ByKind:
    """Asked once of each class: all values of it are of the same kind."""
    out: ByKind = {kind: [] for kind in KINDS}
    of_class = {cls: one.kind for cls, one in dict(zip(map(type, resources), resources, strict=True)).items()}
    kinds = [*map(of_class.__getitem__, map(type, resources))]
    for kind in {*of_class.values()}:
        out[kind] += compress(resources, map(kind.__eq__, kinds))
    return out


class _Comparison:
    """All wanted with all found, one kind after the other."""

    def __init__(self, wanted: ByKind, found: ByKind, blind: Blind) -> None:
        self.wanted = wanted
        self.found = found
        self.blind = blind
        self.staying = set(map(_tunnel_of, chain.from_iterable(wanted.values())))  # tunnels of which something is wanted
        self.up = set(map(_tunnel_of, found["link"]))
        self.dark = _dark(wanted, found)
        self.differences = {kind: _differences(wanted[kind], found[kind]) for kind in CARRIERS}
        self.anew = _made_anew(wanted, found, self.differences, blind)
        self.steps: list[Step] = []
        self.conflicts: list[Conflict] = []
        self.first: set[Resource] = set()  # what goes before something is made in its place

    def are_same(self, kind: str, wanted: list[Resource], found: list[Resource]) -> bool:
        """Nearly always: there is nothing to be done about this kind."""
        if kind == "link":  # everybody's are found, and each has a name of its own
            found = [f for f in found if f.tunnel is not None]
        if self.anew or len(wanted) != len(found):
            return False
        if kind in CARRIERS:
            return _are_as_wanted(wanted, self.differences[kind])
        return len(set(wanted).intersection(found)) == len(wanted)

    def of_kind(self, kind: str) -> None:
        """Adds the steps and conflicts of one kind."""
        wanted, found = self.wanted[kind], self.found[kind]
        if self.are_same(kind, wanted, found):
            return
        if _are_many(wanted) or _are_many(found):
            from reconciler.parted import parted  # few tunnels have so many routes

            wanted, found = parted(wanted, found)
        if not self.are_same(kind, wanted, found):
            self._compare(kind, wanted, found)

    def _compare(self, kind: str, wanted: list[Resource], found: list[Resource]) -> None:
        same = set(wanted).intersection(found) if found else ()
        left: dict[Hashable, list[Resource]] = defaultdict(list)  # found that is not exactly as wanted, by identity
        occupants: dict[Hashable, Resource] = {}
        for f in found:
            if f not in same:
                left[f.key].append(f)
                occupants[f.place] = f
        claimed: dict[Hashable, Resource] = {}
        for w in wanted:
            key = w.key
            first = claimed.setdefault(key, w)
            if first is not w:
                self._refuse(w, first, f"{w}: tunnel {first.tunnel} wants the same")
            elif same and w in same:
                if self._is_made_anew(w):
                    self._meet(w, [w], None)
            else:
                candidates, occupant = (left.pop(key, None), occupants.get(w.place)) if occupants else (None, None)
                if self.blind(kind, w.tunnel) and not self._is_made_anew(w):
                    continue
                if candidates or occupant is not None:
                    self._meet(w, candidates or [], occupant)
                else:
                    self.steps.append(Step(Verb.CREATE, w, None, w.tunnel or HOST, (), self._needs(w)))
        for rest in left.values():
            self.steps.extend(step for f in rest for step in self._removal(f))

    def keep(self, kinds: Collection[str], guards: Callable[[Resource], bool]) -> None:
        """Of these kinds HOST keeps what it has, and gets what guards."""
        self.steps = [
            step
            for step in self.steps
            if step.tunnel != HOST or step.resource.kind not in kinds or (_is_made(step) and guards(step.resource))
        ]
        self.conflicts = [c for c in self.conflicts if c.tunnel != HOST or c.wanted.kind not in kinds]

    def stopped(self) -> set[TunnelName]:
        """Tunnels for which nothing is done: their link's place is taken, or they are not up and would not come up whole."""
        return {c.tunnel for c in self.conflicts if c.wanted.kind == "link" or c.tunnel not in self.up} - {HOST}

    def _is_made_anew(self, w: Resource) -> bool:
        anew = self.anew.get(w.tunnel or HOST)
        return anew is not None and (w.kind in anew or not anew.isdisjoint(w.hangs_on))

    def _meet(self, w: Resource, candidates: list[Resource], occupant: Resource | None) -> None:
        """One wanted object, those that have its identity, and who is in its place."""
        name = w.tunnel or HOST
        ours = [f for f in candidates if f.tunnel is not None or f.yields]
        in_the_way = next((f for f in (*candidates, occupant) if f is not None and f not in ours and self._stays(f, w)), None)
        if in_the_way is not None:
            self._refuse(w, in_the_way, _refusal(in_the_way))
            return
        if not ours:
            self.steps.append(Step(Verb.CREATE, w, None, name, needs=self._needs(w)))
            return
        best, *doubles = ours
        self.steps.extend(Step(Verb.DELETE, f, f, name) for f in doubles)
        self._settle(w, best, name)

    def _settle(self, w: Resource, found: Resource, name: TunnelName) -> None:
        """What hangs on something that goes is gone with it; a process outlives that, and is ended first."""
        fields = w.differs_from(found)
        if self._is_made_anew(w) and w.kind != "owner" and not self.anew[name].isdisjoint(w.hangs_on):
            self.steps.append(Step(Verb.CREATE, w, None, name))
        elif self._is_made_anew(w) or not w.replace_on.isdisjoint(fields):
            self.steps.append(Step(Verb.REPLACE, w, found, name, fields))
        elif fields:
            self.steps.append(Step(Verb.CHANGE, w, found, name, fields, self._needs(w)))

    def _needs(self, w: Resource) -> TunnelName | None:
        """Name servers of a tunnel are of no use before it is up, and its program may need those of before to find its way."""
        if not isinstance(w, Resolver):
            return None
        works = w.owner in self.up and w.owner not in self.dark and "owner" not in self.anew.get(w.owner, ())
        return None if works else w.owner

    def _refuse(self, w: Resource, in_the_way: Resource, message: str) -> None:
        self.conflicts.append(Conflict(w.tunnel or HOST, w, in_the_way, message))

    def _stays(self, f: Resource, w: Resource) -> bool:
        """Ours that is about to be removed is not in the way: removals of what leaves come first."""
        return f.tunnel in self.staying if f.tunnel is not None else not self._gives_way(f, w)

    def _gives_way(self, f: Resource, w: Resource) -> bool:
        """The kernel's own route to a network goes with our addresses that bring it, and these go before anything takes its
        place: those of a tunnel that leaves, and those that this one wants no more, or without that route."""
        if f.kind != "route":
            return False
        from reconciler.kinds.connected import bringing  # seldom is anything in the way

        those = bringing(self.found["address"], f)
        kept = {a.key for a in self.wanted["address"] if isinstance(a, Address) and not a.is_bare}
        for a in those:
            leaves = a.tunnel is not None and a.tunnel not in self.staying
            if not leaves and (a.tunnel != w.tunnel or w.dev not in (None, f.dev) or a.key in kept):
                return False
        self.first.update(those)
        return bool(those)

    def _removal(self, f: Resource) -> Iterator[Step]:
        """Ours and no longer wanted. What hangs on something that is removed or made anew goes with it."""
        if f.tunnel is None or self.blind(f.kind, f.tunnel):
            return
        leaves = f.tunnel != HOST and f.tunnel not in self.staying
        dies_with = _ALL_CARRIERS if leaves else self.anew.get(f.tunnel, frozenset())
        if f.kind in ("link", "owner", "resolver") or dies_with.isdisjoint(f.hangs_on):
            yield Step(Verb.DELETE, f, f, f.tunnel)


def _are_many(resources: Iterable[Resource]) -> bool:
    return any(hasattr(cls, "each") for cls in set(map(type, resources)))


def _dark(wanted: ByKind, found: ByKind) -> set[TunnelName]:
    """The tunnels whose program does not have their link open yet, or any more."""
    programs = {w.tunnel for w in wanted["owner"] if w.tunnel}
    if not programs:
        return programs
    return programs.intersection(f.tunnel for f in found["link"] if isinstance(f, Link) and f.carrier is False)


def _differences(wanted: Iterable[Resource], found: Iterable[Resource]) -> Differences:
    """Of the carriers of one kind that are there: the fields in which they are not as wanted, by key."""
    there = {f.key: f for f in found if f.tunnel is not None}
    return {key: w.differs_from(there[key]) for w in wanted if (key := w.key) in there}


def _are_as_wanted(wanted: Collection[Resource], differences: Differences) -> bool:
    """All carriers of a kind are there, and none of them differs."""
    return len(differences) == len(wanted) and not any(differences.values())


def _made_anew(
    wanted: ByKind, found: ByKind, differences: Mapping[str, Differences], blind: Blind
) -> dict[TunnelName, frozenset[str]]:
    """For each tunnel the carriers that will be created or replaced, and those that hang on these: the fixed point."""
    if all(_are_as_wanted(wanted[kind], differences[kind]) for kind in CARRIERS):
        return {}
    owners = {f.tunnel: f for f in found["owner"] if isinstance(f, Owner)}
    starting = {tunnel for tunnel, f in owners.items() if not f.ready}
    anew: dict[TunnelName, frozenset[str]] = {}
    for kind in CARRIERS:
        for w in wanted[kind]:
            fields = differences[kind].get(w.key)
            comes = isinstance(w, Link) and w.by_program and w.tunnel in starting  # its program is about to make it
            absent = fields is None and not comes and not blind(kind, w.tunnel)
            if absent or (fields and not w.replace_on.isdisjoint(fields)):
                anew[w.tunnel or HOST] = anew.get(w.tunnel or HOST, _NONE) | {kind}
    hanging = [w for kind in CARRIERS for w in wanted[kind] if w.hangs_on]
    for _ in CARRIERS:
        for w in hanging:
            kinds = anew.get(w.tunnel or HOST)
            if kinds is not None and not kinds.isdisjoint(w.hangs_on):
                anew[w.tunnel or HOST] = kinds | {w.kind}
    return anew


def _refusal(found: Resource) -> str:
    if found.tunnel is None:
        return f"{found} exists but is not owned by tunctl"
    return f"{found} belongs to tunnel {found.tunnel}"
