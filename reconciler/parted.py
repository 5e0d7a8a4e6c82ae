"""Routes wanted and found, cut so that many can be planned as one.

The planner compares single objects and knows no kind. So what is many is cut before: each part equals one of the other side,
or meets nothing there. What does meet something (somebody else's route, one with another gateway, a second one that wants its
place) is taken out as single routes, and judged as these always are. All of it is arithmetic of sets.
"""

from __future__ import annotations

from _operator import eq
from itertools import compress, islice

from reconciler.kinds.route import Ground, Route
from reconciler.kinds.routes import Routes, Some, bundled, like, prefixes_of
from reconciler.model.prefixes import NONE, Prefixes, records_of
from reconciler.model.resource import FEW, Resource
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def parted(wanted: Sequence[Resource], found: Sequence[Resource]) -> tuple[list[Resource], list[Resource]]:
    """The same routes on both sides, cut so that what is many equals something on the other side or meets nothing there."""
    mine, theirs = _gathered(wanted), _gathered(found)
    odd = _met_twice(mine, theirs)
    if not odd and not theirs and len(mine) == len(wanted):
        return list(wanted), []
    here: list[Resource] = []
    there: list[Resource] = []
    for pattern, several in mine.items():
        for prefixes in several:
            here += _cut(pattern, prefixes, theirs.get(pattern, ()), odd)
    for pattern, several in theirs.items():
        there += _cut(pattern, several[0], mine.get(pattern, ()), odd)
    return here, there


def _cut(pattern: Route, prefixes: Prefixes, others: Sequence[Prefixes], odd: Mapping[Ground, Prefixes]) -> Iterable[Some]:
    """What both sides have, what only one has, and those that meet something else. A few that have lost the others are
    repaired one by one."""
    if not others and not odd:
        return bundled(pattern, prefixes)
    both, alone, _ = prefixes.apart(others[0]) if others else (NONE, prefixes, NONE)
    single = odd.get(pattern.ground, NONE)
    left = bundled(pattern, alone - single, FEW if both else 1)
    return [*bundled(pattern, both - single), *left, *Routes(pattern, prefixes & single).each()]


def _gathered(some: Sequence[Resource]) -> dict[Route, list[Prefixes]]:
    """By what they have in common. More than one set: what stands in the later ones is wanted a second time."""
    parts: dict[Route, list[Prefixes]] = {}
    loose: dict[Route, list[bytes]] = {}
    for one in some:
        if isinstance(one, Routes):
            parts.setdefault(one.like, []).append(one.prefixes)
        elif isinstance(one, Route):
            pattern = like(one)
            parts.setdefault(pattern, [])
            loose.setdefault(pattern, []).extend(one.records)
    for pattern, records in loose.items():
        parts[pattern] += (prefixes_of(len(pattern.packed), some) for some in (records, _again(records)) if some)
    for pattern in [pattern for pattern, several in parts.items() if several[1:]]:
        parts[pattern] = _stacked(parts[pattern])
    return parts


def _again(records: list[bytes]) -> set[bytes]:
    """Those that come more than once."""
    if len(set(records)) == len(records):
        return set()
    several = sorted(records)
    return {*compress(several, map(eq, several, islice(several, 1, None)))}


def _stacked(several: list[Prefixes]) -> list[Prefixes]:
    first, *more = several
    repeated = []
    for prefixes in more:
        if first & prefixes:
            repeated.append(first & prefixes)
        first |= prefixes
    return [first, *repeated]


def _met_twice(mine: Mapping[Route, list[Prefixes]], theirs: Mapping[Route, list[Prefixes]]) -> dict[Ground, Prefixes]:
    """Prefixes at which more stands, or is to stand, than one route and its equal."""
    claims: dict[Ground, list[Prefixes]] = {}
    for pattern, several in mine.items():
        claims.setdefault(pattern.ground, []).extend(several)
    for pattern, several in theirs.items():
        surplus = several[0] - mine[pattern][0] if pattern in mine else several[0]
        claims.setdefault(pattern.ground, []).extend((surplus,) if surplus else ())
    return {where: odd for where, several in claims.items() if (odd := _repeated(several, where[0]))}


def _repeated(several: Sequence[Prefixes], size: int) -> Prefixes:
    """Those that stand in more than one of them."""
    if len(several) < 3:
        return several[0] & several[1] if several[1:] else NONE
    return prefixes_of(size, _again(records_of(several, size)))
