"""The planner as a table of (wanted, found, steps), in the words of `ip`, and as properties of any world."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.kinds.address import Address
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner, fingerprint
from reconciler.kinds.peer import Peer
from reconciler.kinds.route import BLOCK_METRIC, Route
from reconciler.kinds.rule import Rule
from reconciler.kinds.wireguard import Device
from reconciler.model.marks import Mark
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.plan import Conflict, Plan, Step
from reconciler.model.prefix import parse_network, parse_prefix
from reconciler.model.resource import Resource, Verb
from reconciler.plan import plan

A, B, C, D = map(TunnelName, "abcd")


def link(tunnel: str | None = "a", name: str = "tun-a", **fields: object) -> Link:
    alias = f"tunctl:{tunnel}:00000000" if tunnel else ""
    base = Link(TunnelName(tunnel) if tunnel else None, IfName(name), "tun", 1400, up=True, alias=alias, group=20000)
    return base._replace(**fields)  # type: ignore[arg-type]


def there(wanted: Link, **fields: object) -> Link:
    """The same as a look would find it."""
    return wanted._replace(ifindex=7, carrier=True, **fields)  # type: ignore[arg-type]


def owner(tunnel: str = "a", dev: str = "tun-a", **fields: object) -> Owner:
    made = Owner(TunnelName(tunnel), Mark(TunnelName(tunnel), "0000", "0000"), IfName(dev), ("/bin/vpn",))
    return made._replace(**fields)  # type: ignore[arg-type]


def address(text: str = "10.9.0.2/32", tunnel: str | None = "a", dev: str = "tun-a") -> Address:
    return Address(TunnelName(tunnel) if tunnel else None, IfName(dev), *parse_prefix(text))


def route(text: str = "10.20.0.0/16", tunnel: str | None = "a", dev: str | None = "tun-a", **fields: object) -> Route:
    made = Route(
        TunnelName(tunnel) if tunnel is not None else None,
        *parse_network(text),
        254,
        0,
        "unicast",
        IfName(dev) if dev else None,
    )
    return made._replace(**fields)  # type: ignore[arg-type]


def rule(tunnel: str = "a", priority: int = 20100) -> Rule:
    return Rule(TunnelName(tunnel), 2, priority, 20001, parse_network("192.168.50.0/24"))


def lines(steps: Iterable[Step]) -> list[str]:
    return [f"{step.verb.value} {step.resource.kind}" for step in steps]


WG = (link(), owner(), Device(A, IfName("tun-a"), "KEY=", None, None), Peer(A, IfName("tun-a"), "PEER=", (), 0, None, ""))
WG_THERE = (there(link()), owner(fingerprint=None, pid=7, start_ticks=1), *WG[2:])
BY_PROGRAM = (link(by_program=True), owner(by_program=True))
BY_PROGRAM_THERE = (there(link()), owner(by_program=True, pid=7, start_ticks=1))
BLOCKS = route(dev=None, type="unreachable", metric=0xFF000001, table=20001)
WIDE, BARE = address("10.9.0.2/24"), address("10.9.0.2/24")._replace(is_bare=True)
CONNECTED = route("10.9.0.0/24", None, src=WIDE.packed)  # the kernel's own
NETWORK = route("10.9.0.0/24")


def starting(of: Owner) -> Owner:
    """Somebody has just started it, and waits for it beside us."""
    return of._replace(pid=7, start_ticks=1, fingerprint=fingerprint(of), ready=False)


CASES: dict[str, tuple[tuple[Resource, ...], tuple[Resource, ...], list[str]]] = {
    "nothing": ((), (), []),
    "bring-up, the link first": (
        (rule(), route(), address(), link()), (), ["+ link", "+ address", "+ route", "+ rule"],
    ),
    "its program is about to make its link": (
        (*BY_PROGRAM, address()), (starting(BY_PROGRAM[1]),), ["~ owner", "+ link", "+ address"],
    ),
    "its program is about to open its link": (
        (link(), owner()), (there(link())._replace(carrier=False), starting(owner())), ["~ owner"],
    ),
    "its program starts as it was wanted before": (
        (*BY_PROGRAM, address()), (starting(owner(by_program=True, argv=("/bin/old",))),), ["! owner", "+ link", "+ address"],
    ),
    "all is there": ((link(), address(), route()), (there(link()), address(), route()), []),
    "teardown, the link last": ((), (there(link()), address(), route(), rule()), ["- rule", "- link"]),
    "a route without a device does not die with the link": (
        (), (there(link()), route(dev=None, type="blackhole")), ["- route", "- link"],
    ),
    "mtu": ((link(),), (there(link(), mtu=1300),), ["~ link"]),
    "no opinion on the mtu": ((link(mtu=None),), (there(link(), mtu=1300),), []),
    "renamed": ((link(),), (there(link(), name=IfName("tun-zz")),), ["~ link"]),
    "another user: the link is replaced, what stood on it is made anew": (
        (link(uid=5), address(), route()), (there(link()), address(), route()), ["! link", "+ address", "+ route"],
    ),
    "an owner is stopped before its link is replaced": (
        (link(uid=5), owner()), (there(link()), owner(pid=7)), ["- owner", "! link", "+ owner"],
    ),
    "owner gone, its persistent link stays": (WG, (there(link()),), ["+ owner", "+ wireguard", "+ peer"]),
    "link gone under a living owner": (WG, WG_THERE[1:], ["+ link", "! owner", "+ wireguard", "+ peer"]),
    "the program makes the device": (BY_PROGRAM, (), ["+ owner", "+ link"]),
    "the program makes the device, and it is gone": (BY_PROGRAM, BY_PROGRAM_THERE[1:], ["! owner", "+ link"]),
    "the program died and left its device": (BY_PROGRAM, BY_PROGRAM_THERE[:1], ["+ owner", "+ link"]),
    "teardown of an owner": ((), WG_THERE, ["- owner", "- link"]),
    "a second owner of the same tunnel ends": (
        (link(), owner()), (there(link()), owner(pid=7), owner(pid=9)), ["- owner"],
    ),
    "doubles end before a new one is started": (
        (link(), owner(argv=("/bin/new",))), (there(link()), owner(pid=7), owner(pid=9)), ["- owner", "! owner"],
    ),
    "doubles end before its link is replaced": (
        (link(uid=5), owner()), (there(link()), owner(pid=7), owner(pid=9)), ["- owner", "- owner", "! link", "+ owner"],
    ),
    "an owner that is not wanted any more ends before its link is replaced": (
        (link(uid=5),), (there(link()), owner(pid=7)), ["- owner", "! link"],
    ),
    "what blocks is there before an owner is stopped": (
        (link(uid=5), owner(), BLOCKS), (there(link()), owner(pid=7)), ["+ route", "- owner", "! link", "+ owner"],
    ),
    "one peer changes alone": (
        WG, (*WG_THERE[:3], WG[3]._replace(keepalive_s=9)), ["~ peer"],  # type: ignore[union-attr]
    ),
    "an unmarked address on our own link is taken over": (
        (link(), address()), (there(link()), address(tunnel=None)), ["~ address"],
    ),
    "another device: the route changes in place": (
        (link(), link("b", "tun-b"), route(tunnel="b", dev="tun-b")),
        (there(link()), there(link("b", "tun-b")), route()),
        ["~ route"],
    ),
    "new before old": (
        (link(), route("10.21.0.0/16")), (there(link()), route("10.20.0.0/16")), ["+ route", "- route"],
    ),
    "what leaves goes first, and frees its place": (
        (link("b", "tun-a"),), (there(link()),), ["- link", "+ link"],
    ),
    "its own connected network becomes a prefix of it": (
        (link(), BARE, NETWORK), (there(link()), WIDE, CONNECTED), ["~ address", "+ route"],
    ),
    "its own connected network, of two addresses": (
        (link(), BARE, NETWORK), (there(link()), WIDE, address("10.9.0.3/24"), CONNECTED),
        ["~ address", "- address", "+ route"],
    ),
    "its own connected network, which goes with the address": (
        (link(), address(), NETWORK), (there(link()), WIDE, CONNECTED), ["+ address", "- address", "+ route"],
    ),
    "its own connected network, to be a hole": (
        (link(), BARE, NETWORK._replace(dev=None, type="blackhole")), (there(link()), WIDE, CONNECTED),
        ["~ address", "+ route"],
    ),
    "the connected network of a tunnel that leaves": (
        (link("b", "tun-b"), NETWORK._replace(tunnel=B, dev=IfName("tun-b"))), (there(link()), WIDE, CONNECTED),
        ["- link", "+ link", "+ route"],
    ),
    "ours, but of no known tunnel": ((), (route(tunnel="", dev=None, type="blackhole"),), ["- route"]),
    "foreign things are not ours to touch": ((), (there(link(None, "eth0")), route(tunnel=None, dev="eth0")), []),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "found", "steps"), CASES.values(), ids=CASES)
def test_steps(wanted: tuple[Resource, ...], found: tuple[Resource, ...], steps: list[str]) -> None:
    made = plan(wanted, found)
    assert lines(made.steps) == steps
    assert not made.conflicts


CONFLICTS = {
    "an interface of the same name": ((link(), address()), (there(link(None)),), [], "exists but is not owned by tunctl"),
    "a route of the same prefix, before the first bring-up": (
        (link(), route()), (route(tunnel=None, dev="eth0"),), [], "exists but is not owned by tunctl",
    ),
    "a route of the same prefix, while up": (
        (link(), route(), route("10.21.0.0/16")),
        (there(link()), route(tunnel=None, dev="eth0")),
        ["+ route"],
        "route 10.20.0.0/16",
    ),
    "two tunnels want the same route": (
        (link(), link("b", "tun-b"), route(), route(tunnel="b", dev="tun-b")),
        (there(link()), there(link("b", "tun-b"))),
        ["+ route"],
        "tunnel a wants the same",
    ),
    "its own connected network, which somebody else's address keeps": (
        (link(), BARE, NETWORK), (there(link()), WIDE, address("10.9.0.9/24", None), CONNECTED), ["~ address"],
        "route 10.9.0.0/24 dev tun-a src 10.9.0.2 exists",
    ),
    "its own connected network, and a route that somebody has set there": (
        (link(), BARE, NETWORK), (there(link()), WIDE, CONNECTED, route("10.9.0.0/24", None)), ["~ address"],
        "route 10.9.0.0/24 dev tun-a exists",
    ),
    "a network that is connected elsewhere": (
        (link(), BARE, NETWORK), (there(link()), WIDE, CONNECTED._replace(dev=IfName("eth0"))), ["~ address"], "dev eth0",
    ),
    "the connected network of another tunnel, which stays": (
        (link(), link("b", "tun-b"), WIDE, NETWORK._replace(tunnel=B, dev=IfName("tun-b"))),
        (there(link()), there(link("b", "tun-b")), WIDE, CONNECTED),
        [],
        "dev tun-a src 10.9.0.2 exists",
    ),
    "renamed, and the old name is taken": (
        (link(),), (there(link(), name=IfName("tun-zz")), there(link(None))), [], "exists but is not owned by tunctl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("field", ["type", "name", "mtu", "up", "alias", "group", "uid", "gid", "multi_queue", "dies_openly"])
def test_each_field_of_a_link_alone_is_a_difference(field: str) -> None:
    wanted = link(uid=0, gid=0, dies_openly=True)
    assert wanted.differs_from(there(wanted)) == ()
    assert wanted.differs_from(there(wanted, **{field: None})) == (field,)


@pytest.mark.parametrize(("wanted", "found", "steps", "message"), CONFLICTS.values(), ids=CONFLICTS)
def test_conflicts(wanted: tuple[Resource, ...], found: tuple[Resource, ...], steps: list[str], message: str) -> None:
    made = plan(wanted, found)
    assert lines(made.steps) == steps
    assert message in made.conflicts[0].message


def test_what_could_not_be_read_is_neither_made_nor_removed() -> None:
    made = plan((link(), route("10.21.0.0/16")), (there(link()), route()), blind=lambda kind, _tunnel: kind == "route")
    assert made.steps == ()
    made = plan((), (there(link()), owner(pid=7)), blind=lambda kind, tunnel: (kind, tunnel) == ("owner", "a"))
    assert lines(made.steps) == ["- link"]


def test_an_unseen_owner_is_planned_where_its_link_is_gone() -> None:
    made = plan((link(), owner()), (), blind=lambda kind, _tunnel: kind == "owner")
    assert lines(made.steps) == ["+ link", "+ owner"]


def test_tunnels_whose_wishes_are_unknown_are_left_alone() -> None:
    assert plan((), (there(link()), there(link("b", "tun-b"))), untouched=(A,)).steps[0].tunnel == B


# A world of few names, so that things meet.
_tunnels = st.sampled_from(["a", "b"])
_prefixes = st.sampled_from(["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "fd00::/16"])


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Resource, ...]:
    out: list[Resource] = []
    for name in draw(st.sets(_tunnels)):
        dev = f"tun-{name}"
        out.append(link(name, dev, mtu=draw(st.sampled_from([1300, 1400])), uid=draw(st.sampled_from([None, 5]))))
        if draw(st.booleans()):
            out.append(owner(name, dev, argv=(draw(st.sampled_from(["/bin/x", "/bin/y"])),)))
        for text in draw(st.sets(_prefixes)):
            if draw(st.booleans()):
                out.append(route(text, name, dev, metric=draw(st.sampled_from([0, 50]))))
            else:
                out.append(route(text, name, None, type="blackhole"))
        if draw(st.booleans()):
            out.append(rule(name, 20100 if name == "a" else 20101))
    return tuple(out)


@st.composite
def strangers(draw: st.DrawFn) -> tuple[Resource, ...]:
    routes = [route(text, None, "eth0") for text in draw(st.sets(_prefixes, max_size=1))]
    links = [there(link(None, f"tun-{name}")) for name in draw(st.sets(_tunnels, max_size=1))]
    return (*routes, *(links if draw(st.integers(0, 3)) == 0 else ()))


class World:
    """A machine that is a set of resources: what the kernel does with links that go, and nothing of any kind else."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self.resources = {(r.kind, r.key): r for r in resources}

    def do(self, step: Step) -> None:
        if step.verb in (Verb.DELETE, Verb.REPLACE) and step.found is not None:
            self._remove(step.found)
        if step.verb is not Verb.DELETE:
            made = step.resource
            if isinstance(made, Link):
                made = there(made)
            elif isinstance(made, Owner):
                made = made._replace(pid=7, start_ticks=1)
            self.resources[made.kind, made.key] = made

    def _remove(self, found: Resource) -> None:
        self.resources.pop((found.kind, found.key), None)
        if found.kind == "link":
            on_it = [k for k, r in self.resources.items() if r.dev == found.dev and r.kind in ("route", "address")]
            for key in on_it:
                del self.resources[key]

    @property
    def all(self) -> tuple[Resource, ...]:
        return tuple(self.resources.values())


def _no_conflicts(wanted: tuple[Resource, ...], found: Iterable[Resource]) -> bool:
    return not plan(wanted, tuple(found)).conflicts


@settings(max_examples=200, deadline=None)
@given(wanted=wishes(), found=wishes(), foreign=strangers())
def test_it_is_the_same_one_by_one(
    wanted: tuple[Resource, ...], found: tuple[Resource, ...], foreign: tuple[Resource, ...]
) -> None:
    """What is nowhere is made all at once, unless something could not be looked at. (Here nothing is that.)"""
    one_by_one = plan(wanted, (*foreign, *found), blind=lambda _kind, _tunnel: False)
    assert plan(wanted, (*foreign, *found)) == one_by_one


@pytest.mark.parametrize("blocking", [(), (A,), (A, B)], ids=repr)
@pytest.mark.parametrize(
    "scope", [(), (A,), (B,), (HOST, A), (HOST, A, B, C), (HOST, A, B, D), (HOST, A, C, D), (HOST, A, B, C, D)], ids=repr
)
def test_a_part_of_it(scope: tuple[TunnelName, ...], blocking: tuple[TunnelName, ...]) -> None:
    block = route(dev=None, type="unreachable", metric=BLOCK_METRIC)
    needing = Step(Verb.CREATE, rule(), None, HOST, needs=C)
    steps = (
        Step(Verb.CREATE, block, None, A),
        Step(Verb.CREATE, link(), None, A),
        needing,
        Step(Verb.DELETE, rule(), rule(), B),
    )
    whole = Plan(steps, (Conflict(D, link("d"), link(None), "taken"),), ("a warning",))
    part = whole.only(frozenset(scope), blocking)
    assert part.steps == tuple(
        s for s in steps if (s.tunnel in scope and s.needs in (None, *scope)) or (s.tunnel in blocking and s.resource is block)
    )
    assert part.conflicts == (whole.conflicts if D in scope else ())
    assert part.warnings == whole.warnings


@settings(max_examples=300, deadline=None)
@given(before=wishes(), foreign=strangers(), after=wishes(), cut=st.integers(0, 12))
def test_any_world_converges_wherever_it_was_cut(
    before: tuple[Resource, ...], foreign: tuple[Resource, ...], after: tuple[Resource, ...], cut: int
) -> None:
    """From any start, stopped anywhere: the next pass converges, the one after it has nothing to do, and nothing
    foreign ever stands in a plan."""
    world = World(foreign)
    for step in plan(before, world.all).steps:
        world.do(step)
    for step in plan(after, world.all).steps[:cut]:
        world.do(step)
    for step in plan(after, world.all).steps:
        assert step.found is None or step.found.tunnel is not None
        world.do(step)
    assert plan(after, world.all).steps == ()
    assert {r for r in world.all if r.tunnel is None} == set(foreign)
    if _no_conflicts(after, world.all):
        assert {(r.kind, r.key) for r in world.all if r.tunnel is not None} == {(w.kind, w.key) for w in after}
    for step in plan((), world.all).steps:
        world.do(step)
    assert {r for r in world.all if r.tunnel not in (None, HOST)} == set()
