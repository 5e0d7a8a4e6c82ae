"""Wanted, found → plan. Pure, generic, knows no kind.

Equal values need nothing, and that is found out at the speed of sets: only what differs is looked at one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import NamedTuple

from reconciler.kinds import KINDS
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Conflict, Plan, Step
from reconciler.model.resource import Resource, Verb

Gone = dict[TunnelName, set[str]]  # the kinds of a tunnel that are made anew in this plan
Blind = Callable[[str, TunnelName | None], bool]  # is this kind unobserved for this tunnel?

_CARRIERS = ("link", "owner", "wireguard")  # what other things hang on


class _Matched(NamedTuple):
    """One comparison of all wanted with all found."""

    steps: list[Step]
    conflicts: list[Conflict]


def plan(
    wanted: Collection[Resource],
    found: Collection[Resource],
    *,
    blind: Blind = lambda _kind, _tunnel: False,
    untouched: Collection[TunnelName] = (),
) -> Plan:
    """The steps that make found into wanted, in the order in which they are to be done.

    `blind` tells what could not be looked at: nothing is planned there, least of all a removal. `untouched`
    tunnels (their wanted is not known) get no steps at all.
    """
    gone = _gone(wanted, found, blind)
    steps: list[Step] = []
    conflicts: list[Conflict] = []
    staying = {w.tunnel for w in wanted}
    by_kind: dict[str, tuple[list[Resource], list[Resource]]] = {kind: ([], []) for kind in KINDS}
    for w in wanted:
        by_kind[w.kind][0].append(w)
    for f in found:
        by_kind[f.kind][1].append(f)
    for kind, (wanted_ones, found_ones) in by_kind.items():
        matched = _compare(kind, wanted_ones, found_ones, gone, blind, staying)
        steps += matched.steps
        conflicts += matched.conflicts
    skip = set(untouched) | _stopped(conflicts, found)
    return Plan(_ordered([step for step in steps if step.tunnel not in skip], staying), tuple(conflicts))


def _gone(wanted: Iterable[Resource], found: Iterable[Resource], blind: Blind) -> Gone:
    """Carriers that will be created or replaced, and carriers that hang on those: to the fixed point."""
    there = {(f.kind, f.key): f for f in found if f.kind in _CARRIERS and f.tunnel is not None}
    mine = [w for w in wanted if w.kind in _CARRIERS]
    gone: Gone = defaultdict(set)
    for w in mine:
        f = there.get((w.kind, w.key))
        anew = f is None or not w.replace_on.isdisjoint(w.differs_from(f))
        if anew and w.tunnel is not None and not (f is None and blind(w.kind, w.tunnel)):
            gone[w.tunnel].add(w.kind)
    for _ in _CARRIERS:
        for w in mine:
            if w.tunnel in gone and not gone[w.tunnel].isdisjoint(w.hangs_on):
                gone[w.tunnel].add(w.kind)
    return gone


def _compare(  # noqa: PLR0913, PLR0917 - the whole comparison in one place
    kind: str, wanted: list[Resource], found: list[Resource], gone: Gone, blind: Blind, staying: set[TunnelName | None]
) -> _Matched:
    same = set(wanted) & set(found)
    left: dict[Hashable, list[Resource]] = defaultdict(list)
    occupied: dict[Hashable, Resource] = {}
    for f in found:
        if f not in same:
            left[f.key].append(f)
            occupied[f.place] = f
    out = _Matched([], [])
    seen: dict[Hashable, Resource] = {}
    for w in wanted:
        name = w.tunnel or HOST
        if (first := seen.setdefault(w.key, w)) is not w:
            out.conflicts.append(Conflict(name, w, first, f"{w}: tunnel {first.tunnel} wants the same"))
            continue
        anew = name in gone and (kind in gone[name] or not gone[name].isdisjoint(w.hangs_on))
        if w in same and not anew:
            continue
        candidates = [w] if w in same else left.pop(w.key, [])
        if blind(kind, name) and not anew:
            continue
        _match(w, candidates, occupied, gone[name] if anew else None, staying, out)
    for rest in left.values():
        out.steps.extend(_removals(rest, gone, blind, staying))
    return out


def _match(  # noqa: PLR0913, PLR0917
    w: Resource,
    candidates: list[Resource],
    occupied: dict[Hashable, Resource],
    gone: set[str] | None,  # None: it is not made anew
    staying: set[TunnelName | None],
    out: _Matched,
) -> None:
    """One wanted object and those that have its key."""
    name = w.tunnel or HOST
    ours = [f for f in candidates if f.tunnel is not None or f.yields]
    foreign = [f for f in candidates if f not in ours]
    occupant = occupied.get(w.place)
    in_the_way = foreign[0] if foreign else occupant
    if in_the_way is not None and in_the_way not in ours and _is_in_the_way(in_the_way, staying):
        out.conflicts.append(Conflict(name, w, in_the_way, _refusal(in_the_way)))
        return
    if not ours:
        out.steps.append(Step(Verb.CREATE, w, None, name))
        return
    best, *doubles = ours
    out.steps.extend(Step(Verb.DELETE, f, f, name) for f in doubles)
    fields = w.differs_from(best)
    if gone is not None:
        out.steps.append(_remake(w, best, fields, gone))
    elif not w.replace_on.isdisjoint(fields):
        out.steps.append(Step(Verb.REPLACE, w, best, name, fields))
    elif fields:
        out.steps.append(Step(Verb.CHANGE, w, best, name, fields))


def _remake(w: Resource, found: Resource, fields: tuple[str, ...], gone: set[str]) -> Step:
    """Made anew: what hangs on something that goes is gone with it; a process outlives that, and is ended first."""
    if w.kind != "owner" and not gone.isdisjoint(w.hangs_on):
        return Step(Verb.CREATE, w, None, w.tunnel or HOST)
    return Step(Verb.REPLACE, w, found, w.tunnel or HOST, fields)


def _refusal(found: Resource) -> str:
    if found.tunnel is None:
        return f"{found} exists but is not owned by tunctl"
    return f"{found} belongs to tunnel {found.tunnel}"


def _is_in_the_way(f: Resource, staying: set[TunnelName | None]) -> bool:
    """Ours that is about to be removed is not in the way: removals of what leaves come first."""
    return f.tunnel is None or f.tunnel in staying


def _removals(found: list[Resource], gone: Gone, blind: Blind, staying: set[TunnelName | None]) -> Iterable[Step]:
    """Ours and no longer wanted. What hangs on something that is removed or made anew goes with it."""
    for f in found:
        if f.tunnel is None or blind(f.kind, f.tunnel):
            continue
        leaves = f.tunnel not in staying
        dies_with = {"link", "owner", "wireguard"} if leaves and f.tunnel is not HOST else gone.get(f.tunnel, set())
        if f.kind in ("link", "owner") or dies_with.isdisjoint(f.hangs_on):
            yield Step(Verb.DELETE, f, f, f.tunnel)


def _stopped(conflicts: Iterable[Conflict], found: Iterable[Resource]) -> set[TunnelName]:
    """Tunnels for which nothing is done: their link's place is taken, or they are not up and would not come up whole."""
    up = {f.tunnel for f in found if f.kind == "link" and f.tunnel is not None}
    return {c.tunnel for c in conflicts if c.wanted.kind == "link" or c.tunnel not in up}


def _ordered(steps: list[Step], staying: set[TunnelName | None]) -> tuple[Step, ...]:
    """First what leaves goes, then creations and changes by rising order, then what is left over goes.

    An owner whose link is replaced is stopped before and started after, in two steps.
    """
    rank = {kind: -at for at, kind in enumerate(KINDS)}
    replaced = {(s.tunnel, s.resource.kind) for s in steps if s.verb is Verb.REPLACE}
    keyed: list[tuple[tuple[int, int], Step]] = []
    for step in steps:
        kind = step.resource.kind
        if step.verb is Verb.DELETE:
            phase = 3 if step.tunnel in staying else 0
            keyed.append(((phase, rank[kind]), step))
        elif step.verb is Verb.REPLACE and kind == "owner" and (step.tunnel, "link") in replaced and step.found:
            keyed.append(((1, 0), Step(Verb.DELETE, step.found, step.found, step.tunnel)))
            keyed.append(((2, step.resource.order), Step(Verb.CREATE, step.resource, None, step.tunnel)))
        else:
            keyed.append(((2, step.resource.order), step))
    keyed.sort(key=lambda pair: pair[0])
    return tuple(step for _, step in keyed)
