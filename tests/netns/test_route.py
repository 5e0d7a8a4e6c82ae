"""Routes on the real kernel: absent, present, twice, changed, deleted, foreign in the way; alone and in bulk."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.actuate import link as actuate_link
from reconciler.actuate import route as actuate
from reconciler.errors import Foreign, StepFailed, TunctlError
from reconciler.host import nl_route
from reconciler.host.machine import Machine
from reconciler.kinds.route import Route
from reconciler.kinds.routes import Places, Routes
from reconciler.model.marks import Mark
from reconciler.model.names import HOST, IfName
from reconciler.model.plan import Step
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, parse_prefix, pton
from reconciler.model.prefixes import Prefixes
from reconciler.model.resource import Verb, each
from reconciler.observe import link as observe_link
from reconciler.observe import route as observe
from tests.netns.test_link import NAME, QUESTION, WANTED, settled
from tests.netns.world import Host

DEV = WANTED.name
OTHER = IfName("tun-other")


def wanted(to: str, **fields: object) -> Route:
    packed, length = parse_prefix(to)
    plain = Route(NAME, packed, length, 254, 0 if len(packed) == 4 else 1024, "unicast", DEV)
    return plain._replace(**fields)  # type: ignore[arg-type]


ROUTES = [
    wanted("10.20.0.0/16"),
    wanted("10.20.0.1/32"),
    wanted("0.0.0.0/0", metric=4_278_198_272),
    wanted("0.0.0.0/1", table=20001),
    wanted("10.20.0.0/16", metric=50),
    wanted("10.21.0.0/16", table=200, metric=7, src=pton("10.8.0.2")),
    wanted("10.22.0.0/16", via=pton("10.8.0.1")),
    wanted("10.23.0.0/16", via=pton("fd00:8::1")),
    wanted("2001:db8:1::/48"),
    wanted("2001:db8:2::1/128", table=20001, metric=1),
    wanted("::/0", metric=4_278_198_272),
    wanted("2001:db8:3::/48", via=pton("fd00:8::1"), src=pton("fd00:8::2")),
    *(
        wanted("10.30.0.0/16", type=t, dev=None, table=n)
        for n, t in enumerate(("blackhole", "unreachable", "prohibit", "throw"), 300)
    ),
    *(
        wanted("fd30::/16", type=t, dev=None, table=n)
        for n, t in enumerate(("blackhole", "unreachable", "prohibit", "throw"), 300)
    ),
]


@pytest.fixture
def machine(host: Host, tmp_path: Path) -> Iterator[Machine]:
    with host.inside(), Machine(tmp_path) as machine:
        actuate_link.create(machine, WANTED)
        host.ip(f"addr add 10.8.0.2/24 dev {DEV}")
        host.ip(f"addr add fd00:8::2/64 dev {DEV} nodad")
        yield machine


def looked(machine: Machine) -> list[Route | Routes]:
    return observe.look(machine, observe_link.devices(*observe_link.look(machine, QUESTION)), QUESTION)


def found(machine: Machine) -> list[Route]:
    return [one for one in each(looked(machine)) if isinstance(one, Route)]


def as_seen(route: Route) -> Route:
    """Without a device, only an own table says whose it is."""
    return route if route.dev or route.table == 20001 else route._replace(tunnel=HOST)


def steps(verb: Verb, routes: list[Route]) -> list[Step]:
    return [Step(verb, route, None if verb is Verb.CREATE else route, NAME) for route in routes]


def errors_of(machine: Machine, todo: list[Step]) -> list[TunctlError | None]:
    """Of single routes, in their order."""
    done = actuate.perform(machine, todo)
    assert [step for step, _ in done] == todo
    return [error for _, error in done]


def test_absent(machine: Machine) -> None:
    assert found(machine) == []


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_create_twice_and_delete_twice(machine: Machine, host: Host, route: Route) -> None:
    before = settled(host)
    actuate.create(machine, route)
    assert found(machine) == [as_seen(route)]
    actuate.create(machine, route)
    assert found(machine) == [as_seen(route)]
    actuate.delete(machine, route)
    assert found(machine) == []
    actuate.delete(machine, route)
    assert settled(host) == before


def test_all_in_bulk(machine: Machine, host: Host) -> None:
    before = settled(host)
    assert errors_of(machine, steps(Verb.CREATE, ROUTES)) == [None] * len(ROUTES)
    assert set(found(machine)) == {as_seen(route) for route in ROUTES}
    assert errors_of(machine, steps(Verb.CREATE, ROUTES)) == [None] * len(ROUTES)
    assert errors_of(machine, steps(Verb.CHANGE, ROUTES)) == [None] * len(ROUTES)
    assert set(found(machine)) == {as_seen(route) for route in ROUTES}
    assert errors_of(machine, steps(Verb.DELETE, ROUTES)) == [None] * len(ROUTES)
    assert errors_of(machine, steps(Verb.DELETE, ROUTES)) == [None] * len(ROUTES)
    assert settled(host) == before
    assert errors_of(machine, []) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(wanted("10.20.0.0/16"), wanted("10.20.0.0/16", dev=OTHER), id="v4-dev"),
        pytest.param(wanted("10.20.0.0/16"), wanted("10.20.0.0/16", via=pton("10.8.0.1")), id="v4-via"),
        pytest.param(wanted("10.20.0.0/16"), wanted("10.20.0.0/16", src=pton("10.8.0.2")), id="v4-src"),
        pytest.param(wanted("10.20.0.0/16"), wanted("10.20.0.0/16", type="unreachable", dev=None), id="v4-type"),
        pytest.param(wanted("10.20.0.0/16", type="throw", dev=None), wanted("10.20.0.0/16"), id="v4-back"),
        pytest.param(wanted("fd20::/16"), wanted("fd20::/16", dev=OTHER), id="v6-dev"),
        pytest.param(wanted("fd20::/16"), wanted("fd20::/16", via=pton("fd00:8::1")), id="v6-via"),
        pytest.param(wanted("fd20::/16", via=pton("fd00:8::1")), wanted("fd20::/16", via=pton("fd00:8::3")), id="v6-other-via"),
        pytest.param(wanted("fd20::/16", via=pton("fd00:8::1")), wanted("fd20::/16"), id="v6-no-via"),
        pytest.param(wanted("fd20::/16"), wanted("fd20::/16", src=pton("fd00:8::2")), id="v6-src"),
        pytest.param(wanted("fd20::/16"), wanted("fd20::/16", type="blackhole", dev=None), id="v6-type"),
        pytest.param(wanted("fd20::/16", type="prohibit", dev=None), wanted("fd20::/16"), id="v6-back"),
    ],
)
@pytest.mark.parametrize("by_create", [False, True])
def test_change_and_create_over_our_own(machine: Machine, before: Route, after: Route, by_create: bool) -> None:
    actuate_link.create(machine, WANTED._replace(name=OTHER, alias=Mark(NAME, "00ab", "9999").alias))
    neighbour = before._replace(metric=99)
    for route in (before, neighbour):
        actuate.create(machine, route)
    if by_create:
        actuate.create(machine, after)
    else:
        actuate.change(machine, after, before, after.differs_from(before))
    assert set(found(machine)) == {as_seen(after), as_seen(neighbour)}


@pytest.mark.parametrize("to", ["10.20.0.0/16", "fd20::/16"])
def test_change_of_one_that_went_makes_it(machine: Machine, to: str) -> None:
    actuate.change(machine, wanted(to), wanted(to), ("dev",))
    assert found(machine) == [wanted(to)]


@pytest.mark.parametrize("to", ["10.20.0.0/16", "fd20::/16"])
def test_a_foreign_route_is_sacred(machine: Machine, host: Host, to: str) -> None:
    route = wanted(to)
    host.ip(f"route add {to} dev lo metric {route.metric}")
    before = settled(host)
    for act in (lambda: actuate.create(machine, route), lambda: actuate.change(machine, route, route, ("dev",))):
        with pytest.raises(Foreign, match=r"a route that is not ours is there \(route .* dev lo, protocol 3\)"):
            act()
    actuate.delete(machine, route)
    assert settled(host) == before
    assert found(machine) == []
    (there,) = observe.foreign(machine, Places([route]))
    assert (there.tunnel, there.dev, there.key) == (None, "lo", route.key)


@pytest.mark.parametrize("to", ["10.20.0.0/16", "fd20::/16"])
def test_a_foreign_one_beside_ours_is_never_replaced(machine: Machine, host: Host, to: str) -> None:
    route = wanted(to)
    actuate.create(machine, route)
    host.ip(f"route append {to} dev lo metric {route.metric}")
    with pytest.raises(Foreign):
        actuate.change(machine, route._replace(src=pton("10.8.0.2" if "." in to else "fd00:8::2")), route, ("src",))
    assert found(machine) == [route]
    actuate.delete(machine, route)
    assert len(observe.foreign(machine, Places([route]))) == 1


def test_foreign_finds_connected_routes_and_nothing_else(machine: Machine) -> None:
    connected = [wanted("10.8.0.0/24"), wanted("fd00:8::/64", metric=256)]
    others = [wanted("10.8.0.0/25"), wanted("10.8.0.0/24", metric=1), wanted("10.8.0.0/24", table=20001), wanted("fd00:8::/64")]
    actuate.create(machine, others[0])
    there = observe.foreign(machine, Places(connected + others))
    assert {route.key for route in there} == {route.key for route in connected}
    assert {route.dev for route in there} == {DEV}


def test_foreign_routes_of_odd_shapes(machine: Machine, host: Host) -> None:
    host.ip("route add 10.40.0.0/16 nexthop via 10.8.0.1 nexthop via 10.8.0.3")
    host.ip(f"route add 10.41.0.0/16 dev {DEV} tos 0x10")
    host.ip(f"-6 route add fd41::/16 from fd00::/8 dev {DEV}")
    host.ip("nexthop add id 7 blackhole")
    host.ip("route add 10.42.0.0/16 nhid 7")
    wished = [wanted(to) for to in ("10.40.0.0/16", "10.41.0.0/16", "10.42.0.0/16", "fd41::/16")]
    there = observe.foreign(machine, Places(wished))
    assert sorted(str(route) for route in there) == ["route 10.40.0.0/16", "route blackhole 10.42.0.0/16"]


@pytest.mark.parametrize(("network", "length"), [("10.{high}.{low}.0", 24), ("fd00:{high:x}:{low:x}::", 48)])
def test_foreign_ones_among_thousands(machine: Machine, host: Host, network: str, length: int) -> None:
    """A list of many is read many at a time: of others at our places, of others elsewhere, of ours."""
    names = [f"{network.format(high=100 + n // 250, low=n % 250)}/{length}" for n in range(4000)]
    batch = host.write("batch", "".join(f"route add {to} dev {DEV} metric 7\n" for to in names[:3000]))
    host.ip(f"-batch {batch}")
    assert set(errors_of(machine, steps(Verb.CREATE, [wanted(to, metric=7) for to in names[3000:]]))) == {None}
    chosen = [wanted(to, metric=7) for to in (names[0], names[1500], names[2999], names[3000], names[3999])]
    chosen += [wanted(names[5], metric=8), wanted(f"{names[6].split('/')[0]}/{length - 1}", metric=7)]
    there = observe.foreign(machine, Places(chosen))
    assert sorted(route.key for route in there) == sorted(route.key for route in chosen[:3])
    assert {route.dev for route in there} == {DEV}


def test_one_wrong_step_fails_alone(machine: Machine, host: Host) -> None:
    host.ip("route add 10.1.0.0/16 dev lo")
    bad = wanted("10.2.0.0/16", via=pton("203.0.113.1"))
    chosen = [
        wanted("10.0.0.0/16"),
        wanted("10.1.0.0/16"),
        bad,
        wanted("10.3.0.0/16", dev=IfName("gone")),
        wanted("10.4.0.0/16"),
    ]
    errors = errors_of(machine, steps(Verb.CREATE, chosen))
    assert [type(error) for error in errors] == [type(None), Foreign, StepFailed, StepFailed, type(None)]
    assert "Network is unreachable: Nexthop has invalid gateway" in str(errors[2])
    assert "there is no link gone" in str(errors[3])
    assert set(found(machine)) == {chosen[0], chosen[4]}


def test_verbs_are_done_in_their_order(machine: Machine) -> None:
    one, two = wanted("10.0.0.0/16"), wanted("10.1.0.0/16")
    mixed = [*steps(Verb.CREATE, [one]), *steps(Verb.DELETE, [one]), *steps(Verb.CREATE, [two]), *steps(Verb.CHANGE, [one])]
    assert errors_of(machine, mixed) == [None] * 4
    assert set(found(machine)) == {one, two}


def test_delete_by_metric_zero_leaves_the_one_for_another_link(machine: Machine) -> None:
    """To the kernel a deletion with metric 0 matches any metric: the device and the type are named, too."""
    actuate_link.create(machine, WANTED._replace(name=OTHER, alias=Mark(NAME, "00ab", "9999").alias))
    others = [wanted("10.0.0.0/8", metric=50, dev=OTHER), wanted("10.0.0.0/8", metric=60, type="unreachable", dev=None)]
    for route in others:
        actuate.create(machine, route)
    actuate.delete(machine, wanted("10.0.0.0/8"))
    assert set(found(machine)) == {as_seen(route) for route in others}


def test_whose_it_is(machine: Machine, host: Host) -> None:
    theirs = Mark(NAME, "ffff", "0001").alias
    actuate_link.create(machine, WANTED._replace(name=OTHER, alias=theirs))
    host.ip("link add v0 type veth peer name v1")
    host.ip("link set v0 up")
    host.ip("link set v1 up")
    for words in (f"10.1.0.0/16 dev {OTHER}", "10.2.0.0/16 dev v0", "10.3.0.0/16 dev v0 table 20001", f"10.4.0.0/16 dev {DEV}"):
        host.ip(f"route add {words} proto 115")
    whose = {str(route): route.tunnel for route in found(machine)}
    assert whose == {
        f"route 10.1.0.0/16 dev {OTHER}": None,
        "route 10.2.0.0/16 dev v0": HOST,
        "route 10.3.0.0/16 dev v0 table 20001": NAME,
        f"route 10.4.0.0/16 dev {DEV}": NAME,
    }


def test_ipv6_switched_off(machine: Machine, host: Host) -> None:
    host.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
    route = wanted("fd20::/16")
    assert found(machine) == []
    actuate.create(machine, route)
    assert found(machine) == [as_seen(route)], "our own device has IPv6 where the host has none"
    actuate.delete(machine, route)
    assert observe.foreign(machine, Places([route])) == []
    with pytest.raises(StepFailed, match="IPv6 is disabled"):
        actuate.create(machine, route._replace(tunnel=HOST, dev=IfName("lo")))


def test_ten_thousand(machine: Machine) -> None:
    routes = [wanted("0.0.0.0/32", packed=number.to_bytes(4, "big")) for number in range(0x0A000000, 0x0A000000 + 10_000)]
    assert errors_of(machine, steps(Verb.CREATE, routes)) == [None] * len(routes)
    assert set(found(machine)) == set(routes)
    assert errors_of(machine, steps(Verb.DELETE, routes)) == [None] * len(routes)
    assert found(machine) == []


def many(like: Route, count: int = 3000) -> Routes:
    size = len(like.packed)
    numbers = range(0x0A000000, 0x0A000000 + count)
    prefixes = (Prefix((n << 8 * (size - 4)).to_bytes(size, "big"), 32) for n in numbers)
    return Routes(like._replace(packed=bytes(size), length=0), Prefixes.of(prefixes))


@pytest.mark.parametrize(
    "like",
    [
        wanted("0.0.0.0/0"),
        wanted("0.0.0.0/0", table=20001, metric=9),
        wanted("0.0.0.0/0", via=pton("10.8.0.1"), src=pton("10.8.0.2")),
        wanted("0.0.0.0/0", type="unreachable", dev=None, table=20001, metric=4_278_190_081),
        wanted("::/0"),
        wanted("::/0", table=20001, metric=9, via=pton("fd00:8::1")),
        wanted("::/0", type="blackhole", dev=None, table=20001),
    ],
    ids=str,
)
def test_many_as_one(machine: Machine, host: Host, like: Route) -> None:
    before = settled(host)
    routes = many(like)
    for _ in range(2):
        ((step, error),) = actuate.perform(machine, [Step(Verb.CREATE, routes, None, NAME)])
        assert (step.resource, error) == (routes, None)
        assert looked(machine) == [routes]
    assert actuate.perform(machine, [Step(Verb.DELETE, routes, routes, NAME)])[0][1] is None
    assert looked(machine) == []
    assert settled(host) == before


def test_what_cannot_be_sent_is_a_step_that_failed(machine: Machine) -> None:
    machine.rtnl._wire.open().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # 4608 bytes: less than 256 routes need
    with pytest.raises(StepFailed, match="routes: Message too long"):
        actuate.perform(machine, [Step(Verb.CREATE, many(wanted("0.0.0.0/0")), None, NAME)])
    assert errors_of(machine, steps(Verb.CREATE, [wanted("10.0.0.0/8")])) == [None]


@pytest.mark.parametrize("like", [wanted("0.0.0.0/0"), wanted("::/0")], ids=["v4", "v6"])
def test_of_many_those_that_fail_are_told_one_by_one(machine: Machine, host: Host, like: Route) -> None:
    """In their way: somebody else's, and one of ours that leads elsewhere."""
    routes = many(like, 1000)
    single = list(routes.each())
    host.ip(f"route add {Prefix(*single[7][1:3])} dev lo metric {like.metric}")
    actuate.create(machine, single[500]._replace(type="unreachable", dev=None))
    (done, none), (step, error) = actuate.perform(machine, [Step(Verb.CREATE, routes, None, NAME)])
    assert none is None
    assert (done.number, step.resource) == (999, single[7])
    assert isinstance(error, Foreign)
    assert str(single[7]) in error.message
    assert set(found(machine)) == {*single[:7], *single[8:]}
    without = routes._replace(like=routes.like._replace(dev=IfName("gone")))
    results = actuate.perform(machine, [Step(Verb.CREATE, without, None, NAME)])
    assert [(step.number, type(error)) for step, error in results] == [(1, StepFailed)] * 1000
    assert actuate.perform(machine, [Step(Verb.DELETE, without, without, NAME)])[0][1] is None


def test_many_of_different_kinds_are_told_apart(machine: Machine, host: Host) -> None:
    """What is alike is found as one, whatever stands between; a default route has no destination."""
    like = wanted("0.0.0.0/0")
    sorts = [many(like, 700), many(like._replace(metric=5), 700), many(like._replace(type="throw", dev=None, table=20001), 700)]
    few = [wanted("0.0.0.0/0", table=20001, metric=3), wanted("10.0.0.5/32", metric=77), wanted("10.0.0.5/32", metric=78)]
    todo = [Step(Verb.CREATE, one, None, NAME) for one in (*sorts, *few)]
    assert [error for _, error in actuate.perform(machine, todo)] == [None] * len(todo)
    assert set(looked(machine)) == {*sorts, *few}
    shown = host.ip(f"-4 -o route show dev {DEV} proto 115")
    assert len(shown.splitlines()) == 1402


def test_a_run_is_what_single_messages_say(machine: Machine) -> None:
    """On lists of the real kernel: as one table, and message by message."""
    for like in (wanted("0.0.0.0/0"), wanted("::/0", via=pton("fd00:8::1"))):
        actuate.perform(machine, [Step(Verb.CREATE, many(like), None, NAME)])
    for family in (AF_INET, AF_INET6):
        single = machine.rtnl.routes(family, nl_route.decode, protocol=115)
        runs = machine.rtnl.routes(family, nl_route.decode, protocol=115, whole=nl_route.as_run)
        assert any(isinstance(one, nl_route.Run) for one in runs)
        assert _told(runs) == single


def test_runs_of_several_links_are_what_single_messages_say(host: Host, machine: Machine) -> None:
    for number in range(40):
        host.ip(f"tuntap add d{number} mode tun")
        host.ip(f"link set d{number} up")
        host.ip(f"route add 10.{100 + number}.0.0/16 dev d{number} proto 115")
        host.ip(f"route add 10.{100 + number}.7.0/24 dev d{number} proto 115")
        host.ip(f"-6 route add fd00:{number}::/48 dev d{number} proto 115")
    for family, count in ((AF_INET, 80), (AF_INET6, 40)):
        single = machine.rtnl.routes(family, nl_route.decode, protocol=115)
        runs = machine.rtnl.routes(family, nl_route.decode, protocol=115, whole=nl_route.as_run)
        assert max(len(one.by_device) for one in runs if isinstance(one, nl_route.Run)) >= 39
        assert sorted(_told(runs), key=repr) == sorted(single, key=repr)
        assert len(single) >= count


def _told(runs: list[nl_route.RouteRow | nl_route.Run]) -> list[nl_route.RouteRow]:
    told: list[nl_route.RouteRow] = []
    for one in runs:
        if isinstance(one, nl_route.Run):
            before, after = one.row[2:5], one.row[6:]
            for index, records in one.by_device.items():
                told += [(record[:-1], record[-1], *before, index, *after) for record in records]
        else:
            told.append(one)
    return told
