"""Wanted against found where they differ → steps and conflicts, in no order yet. Pure and generic."""

from __future__ import annotations

from _operator import attrgetter
from itertools import chain, repeat

from reconciler.kinds import CARRIERS
from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.kinds.resolver import Resolver
from reconciler.lean import defaultdict
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Conflict, Step
from reconciler.model.resource import Resource, Verb, are_equal
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence

    Blind = Callable[[str, TunnelName | None], bool]  # is this kind unobserved for this tunnel?
    ByKind = dict[str, list[Resource]]
    Anew = dict[str, set[TunnelName | None]]  # of each kind of carriers the tunnels of which it is made anew

_ALL_CARRIERS = frozenset(CARRIERS)
_tunnel_of, _key_of, _place_of = map(attrgetter, ("tunnel", "key", "place"))
_new = tuple.__new__  # a third of what the constructor costs


class Compared:
    """All wanted with all found, one kind after the other."""

    def __init__(self, wanted: ByKind, found: ByKind, anew: Anew, blind: Blind | None) -> None:
        self.wanted = wanted
        self.found = found
        self.anew = anew
        self.renewed = {*chain.from_iterable(anew.values())}
        self.blind = blind
        self.staying = set(map(_tunnel_of, chain.from_iterable(wanted.values())))  # tunnels of which something is wanted
        self.up = set(map(_tunnel_of, found["link"]))
        self.dark = _dark(wanted, found)
        self.steps: list[Step] = []
        self.conflicts: list[Conflict] = []
        self.first: set[Resource] = set()  # what goes before something is made in its place

    def of_kind(self, kind: str) -> None:
        """Adds the steps and conflicts of one kind."""
        wanted, found = self.wanted[kind], self.found[kind]
        if _are_many(wanted) or _are_many(found):
            from reconciler.parted import parted  # few tunnels have so many routes

            wanted, found = parted(wanted, found)
            if not self.renewed and are_equal(wanted, found):
                return
        self._compare(kind, wanted, found)

    def _compare(self, kind: str, wanted: list[Resource], found: list[Resource]) -> None:
        same = set(wanted).intersection(found) if found else set[Resource]()
        left: dict[Hashable, list[Resource]] = defaultdict(list)  # found that is not exactly as wanted, by identity
        occupants: dict[Hashable, Resource] = {}
        for f in found:
            if f not in same:
                left[f.key].append(f)
                occupants[f.place] = f
        if not self.blind and not same and _are_nowhere(wanted, left, occupants):
            self._create(kind, wanted)
        else:
            self._meet_each(kind, wanted, same, left, occupants)
        for rest in left.values():
            self.steps.extend(step for f in rest for step in self._removal(f))

    def _meet_each(
        self,
        kind: str,
        wanted: list[Resource],
        same: set[Resource],
        left: dict[Hashable, list[Resource]],
        occupants: dict[Hashable, Resource],
    ) -> None:
        """Wanted objects one by one, each with what has its identity (taken from `left`) and with what is in its place."""
        claimed: dict[Hashable, Resource] = {}
        for w in wanted:
            key = w.key
            first = claimed.setdefault(key, w)
            if first is not w:
                self._refuse(w, first, f"{w}: tunnel {first.tunnel} wants the same")
            elif w in same:
                if self._is_made_anew(w):
                    self._meet(w, [w], None)
            else:
                candidates, occupant = left.pop(key, None), occupants.get(w.place)
                if self._is_unseen(w) and not self._is_made_anew(w):
                    continue
                if candidates or occupant is not None:
                    self._meet(w, candidates or [], occupant)
                else:
                    self._create(kind, (w,))

    def _create(self, kind: str, wanted: Sequence[Resource]) -> None:
        """Of one kind what is nowhere, all at once."""
        needs = map(self._needs, wanted) if kind == "resolver" else repeat(None)
        rows = zip(repeat(Verb.CREATE), wanted, repeat(None), map(_tunnel_of, wanted), repeat(()), needs, repeat(False))
        self.steps += map(_new, repeat(Step), rows)

    def keep(self, kinds: Collection[str], guards: Callable[[Resource], bool]) -> None:
        """Of these kinds HOST keeps what it has, and gets what guards."""
        self.steps = [
            step
            for step in self.steps
            if step.tunnel != HOST or step.resource.kind not in kinds or (step.verb is Verb.CREATE and guards(step.resource))
        ]
        self.conflicts = [c for c in self.conflicts if c.tunnel != HOST or c.wanted.kind not in kinds]

    def stopped(self) -> set[TunnelName]:
        """Tunnels for which nothing is done: their link's place is taken, or they are not up and would not come up whole."""
        return {c.tunnel for c in self.conflicts if c.wanted.kind == "link" or c.tunnel not in self.up} - {HOST}

    def _carriers_of(self, tunnel: TunnelName | None) -> set[str]:
        """Those of a tunnel that are made anew."""
        return {kind for kind, tunnels in self.anew.items() if tunnel in tunnels}

    def _is_made_anew(self, w: Resource) -> bool:
        """It, or what it hangs on."""
        if w.tunnel not in self.renewed:
            return False
        anew = self._carriers_of(w.tunnel)
        return w.kind in anew or not anew.isdisjoint(w.hangs_on)

    def _is_unseen(self, r: Resource) -> bool:
        return self.blind is not None and self.blind(r.kind, r.tunnel)

    def _meet(self, w: Resource, candidates: list[Resource], occupant: Resource | None) -> None:
        """One wanted object, those that have its identity, and who is in its place."""
        name = w.tunnel or HOST
        ours = [f for f in candidates if f.tunnel is not None or f.yields]
        in_the_way = next((f for f in (*candidates, occupant) if f is not None and f not in ours and self._stays(f, w)), None)
        if in_the_way is not None:
            self._refuse(w, in_the_way, _refusal(in_the_way))
            return
        if not ours:
            self._create(w.kind, (w,))
            return
        best, *doubles = ours
        self.steps.extend(Step(Verb.DELETE, f, f, name) for f in doubles)
        self._settle(w, best, name)

    def _settle(self, w: Resource, found: Resource, name: TunnelName) -> None:
        """What hangs on something that goes is gone with it; a process outlives that, and is ended first."""
        fields = w.differs_from(found)
        if w.kind != "owner" and not self._carriers_of(w.tunnel).isdisjoint(w.hangs_on):
            self.steps.append(Step(Verb.CREATE, w, None, name))
        elif self._is_made_anew(w) or not w.replace_on.isdisjoint(fields):
            self.steps.append(Step(Verb.REPLACE, w, found, name, fields))
        elif fields:
            self.steps.append(Step(Verb.CHANGE, w, found, name, fields, self._needs(w)))

    def _needs(self, w: Resource) -> TunnelName | None:
        """Name servers of a tunnel are of no use before it is up, and its program may need those of before to find its way."""
        if not isinstance(w, Resolver):
            return None
        works = w.owner in self.up and w.owner not in self.dark and w.owner not in self.anew["owner"]
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
        if f.tunnel is None or self._is_unseen(f):
            return
        leaves = f.tunnel != HOST and f.tunnel not in self.staying
        dies_with = _ALL_CARRIERS if leaves else self._carriers_of(f.tunnel)
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


def _are_nowhere(wanted: Collection[Resource], left: Collection[Hashable], occupants: Mapping[Hashable, Resource]) -> bool:
    """No two of them are the same object, none has the identity of what is there, and none its place."""
    keys = {*map(_key_of, wanted)}
    are_free = not occupants or occupants.keys().isdisjoint(map(_place_of, wanted))
    return are_free and len(keys) == len(wanted) and keys.isdisjoint(left)


def _refusal(found: Resource) -> str:
    if found.tunnel is None:
        return f"{found} exists but is not owned by tunctl"
    return f"{found} belongs to tunnel {found.tunnel}"
