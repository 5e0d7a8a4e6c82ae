"""Many routes as one object give the same plan as each of them alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.kinds.route import Route
from reconciler.kinds.routes import Places, Routes, bundled, like, missing
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.plan import Plan
from reconciler.model.prefix import Prefix
from reconciler.model.prefixes import Prefixes
from reconciler.model.resource import FEW, Resource, each, number
from reconciler.plan import plan
from reconciler.report.changes import plan_json, plan_text
from tests.unit.test_plan import link, there

A, B = TunnelName("a"), TunnelName("b")
PATTERNS = [
    Route(tunnel, bytes(size), 0, table, metric, type_, dev, via)
    for size in (4, 16)
    for tunnel, table, metric, type_, dev, via in (
        (A, 254, 7, "unicast", IfName("tun-a"), None),
        (A, 254, 7, "unicast", IfName("tun-a"), bytes(size)),
        (A, 20001, 9, "unreachable", None, None),
        (B, 254, 7, "unicast", IfName("tun-b"), None),
        (B, 254, 8, "unicast", IfName("tun-b"), None),
        (HOST, 20000, 7, "throw", None, None),
        (None, 254, 7, "unicast", IfName("eth0"), None),
    )
]
OURS = [pattern for pattern in PATTERNS if pattern.tunnel is not None]


def numbered(first: int, count: int, size: int = 4) -> Prefixes:
    """Neighbours, so that two such sets meet in many."""
    wide = range(first, min(first + count, 150))
    return Prefixes.of(Prefix((n << 8 * (size - 2)).to_bytes(size, "big"), 8 + size) for n in wide)


def sides(patterns: list[Route]) -> st.SearchStrategy[list[Routes]]:
    def made(parts: list[tuple[Route, int, int]]) -> list[Routes]:
        many = [Routes(pattern, numbered(first, count, len(pattern.packed))) for pattern, first, count in parts]
        return [one for one in many if one.number]

    one = st.tuples(st.sampled_from(patterns), st.integers(0, 149), st.sampled_from((1, 3, 40, 150)))
    return st.lists(one, max_size=5, unique_by=lambda part: part[0]).map(made)


def alone(many: Iterable[Resource]) -> list[Resource]:
    return list(each(many))


def judged(made: Plan) -> tuple[Counter[object], Counter[object]]:
    """What it does to single objects, whatever it calls one step."""
    steps = Counter((s.verb, s.resource, s.found, s.tunnel, s.fields, s.needs, s.regardless) for s in made.each())
    return Counter(steps), Counter(made.conflicts)


Links = tuple[list[Resource], list[Resource]]  # wanted, found
LINKS: list[Links] = [
    ([link("a", "tun-a"), link("b", "tun-b")], [there(link("a", "tun-a")), there(link("b", "tun-b"))]),
    ([link("a", "tun-a"), link("b", "tun-b")], [there(link("b", "tun-b"))]),  # a link that was lost
    ([link("a", "tun-a")], [there(link("a", "tun-a")), there(link("b", "tun-b"))]),  # b leaves
    ([link("a", "tun-a", type="tap"), link("b", "tun-b")], [there(link("a", "tun-a")), there(link("b", "tun-b"))]),
    ([], []),
]


def test_what_is_as_wanted_is_left_alone_however_it_is_told() -> None:
    """Also two routes of one place, which only somebody else can have made so."""
    side = [Routes(PATTERNS[0], numbered(0, 3)), Routes(PATTERNS[1], numbered(2, 3))]
    nothing = judged(plan([*LINKS[0][0], *alone(side)], [*LINKS[0][1], *alone(side)]))
    assert nothing == (Counter(), Counter())
    assert judged(plan([*LINKS[0][0], *alone(side)], [*LINKS[0][1], side[0], *side[1].each()])) == nothing
    assert judged(plan([*LINKS[0][0], *side], [*LINKS[0][1], *side])) == nothing


@settings(max_examples=60)
@given(sides(OURS), sides(PATTERNS), st.sampled_from(LINKS), st.data())
def test_the_plan_is_the_same(wanted: list[Routes], found: list[Routes], links: Links, data: st.DataObject) -> None:
    def some_apart(side: list[Routes]) -> list[Resource]:
        return [part for one in side for part in ((one,) if data.draw(st.booleans()) else one.each())]

    expected = plan([*links[0], *alone(wanted)], [*links[1], *alone(found)])
    got = plan([*links[0], *some_apart(wanted)], [*links[1], *some_apart(found)])
    assert judged(got) == judged(expected)
    assert got.number == expected.number == plan_json(got, ())["changes"]
    assert sorted(plan_text(got)) == sorted(plan_text(expected))
    assert [step.resource.order for step in got.each()] == [step.resource.order for step in expected.each()]


@given(sides(OURS), sides(OURS))
def test_missing_is_what_has_no_place_taken(wanted: list[Routes], found: list[Routes]) -> None:
    taken = {one.place for one in alone(found)}
    expected = {one for one in alone(wanted) if one.place not in taken}
    assert set(alone(missing(wanted, found))) == expected
    assert set(alone(missing(alone(wanted), found))) == expected  # type: ignore[arg-type]
    where = Places(missing(wanted, found))
    for one in alone([*wanted, *found]):
        assert isinstance(one, Route)
        assert ((len(one.packed), one.table) in where.tables and one.records[0] in where.records(one.ground)) is (
            one.place in {other.place for other in expected}
        )


def test_what_is_there_already_is_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal ones never become single objects."""
    many = Routes(OURS[0], numbered(0, 100))
    monkeypatch.setattr(Prefixes, "records", None)
    assert plan([*LINKS[0][0], many], [*LINKS[0][1], many]).steps == ()


def test_ten_thousand_are_one_step() -> None:
    many = Routes(OURS[0], Prefixes.of(Prefix((n << 8).to_bytes(4, "big"), 24) for n in range(10_000)))
    made = plan([*LINKS[0][0], many], LINKS[0][1])
    (step,) = made.steps
    assert (made.number, step.number) == (10_000, 10_000)
    assert str(step) == "+ route 0.0.0.0/24 … 0.39.15.0/24 dev tun-a metric 7 (10000 of them)"
    assert sum(1 for _ in plan_text(made)) == 10_000


def test_a_change_is_made_to_single_ones_and_the_rest_stays() -> None:
    """One of a thousand leads elsewhere: it alone is changed."""
    prefixes = numbered(0, 100)
    first, *_ = prefixes
    rest = prefixes - Prefixes.of([first])
    found = [*bundled(OURS[0], rest), *bundled(OURS[1], Prefixes.of([first]))]
    (step,) = plan([*LINKS[0][0], Routes(OURS[0], prefixes)], [*LINKS[0][1], *found]).steps
    assert (step.verb.name, step.fields, number(step.resource)) == ("CHANGE", ("via",), 1)


@pytest.mark.parametrize("count", [0, 1, 2, FEW + 1])
def test_more_than_one_are_one_object(count: int) -> None:
    made = list(bundled(OURS[0], numbered(0, count)))
    assert [type(one) for one in made] == ([Routes] if count > 1 else [Route] * count)
    assert {like(one) for one in alone(made) if isinstance(one, Route)} <= {OURS[0]}


@pytest.mark.parametrize("count", [2, FEW, FEW + 1])
def test_a_few_that_have_lost_the_others_are_repaired_one_by_one(count: int) -> None:
    """Each of them has a line in the log and a history of its own then."""
    many = Routes(OURS[0], numbered(0, count + 1))
    (left,) = bundled(OURS[0], numbered(count, 1))
    steps = plan([*LINKS[0][0], many], [*LINKS[0][1], left]).steps
    assert [step.number for step in steps] == ([count] if count > FEW else [1] * count)
    (whole,) = plan([*LINKS[0][0], many], LINKS[0][1]).steps
    assert whole.number == count + 1
