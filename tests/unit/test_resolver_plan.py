"""Name servers in plans: told last, taken back first, and never those of a tunnel that is not there."""

from __future__ import annotations

from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.resolver import Resolver
from reconciler.kinds.route import Route
from reconciler.model.facts import Facts
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent, Progress
from reconciler.model.marks import Mark
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.plan import Plan
from reconciler.model.prefix import parse_network, pton
from reconciler.model.resource import Resource
from reconciler.model.tunnel import Tun, Tunnel
from reconciler.model.verdict import Verdict
from reconciler.plan import plan
from reconciler.verdict import Evidence, judge

A, B = TunnelName("a"), TunnelName("b")
SERVER = (pton("10.0.0.53"),)


def link(name: TunnelName, ifindex: int | None = None) -> Link:
    made = Link(name, IfName(f"tun-{name}"), "tun", 1400, up=True, alias=f"tunctl:{name}:00000000", group=20000)
    return made._replace(ifindex=ifindex, carrier=ifindex and True)


def owner(name: TunnelName, pid: int | None = None) -> Owner:
    return Owner(name, Mark(name, "0000", "0000"), IfName(f"tun-{name}"), ("/bin/vpn",), pid=pid)


def route(name: TunnelName) -> Route:
    return Route(name, *parse_network("10.0.0.0/8" if name == A else "172.16.0.0/12"), 254, 0, "unicast", IfName(f"tun-{name}"))


def file(name: TunnelName, **fields: object) -> Resolver:
    made = Resolver(HOST, "file", name, None, SERVER, (), (".",), default_route=True, record="/etc/resolv.conf")
    return made._replace(**{"mark": Mark(name, "0000", "0000"), **fields})  # type: ignore[arg-type]


def of_link(name: TunnelName, **fields: object) -> Resolver:
    return Resolver(name, "resolved", name, IfName(f"tun-{name}"), SERVER, (), (".",), default_route=True)._replace(**fields)  # type: ignore[arg-type]


def steps(wanted: list[Resource], found: list[Resource]) -> list[str]:
    return [f"{s.verb.value} {s.resource.kind} {s.resource.tunnel or 'host'}" for s in plan(wanted, found).steps]


def test_told_last_and_taken_back_first() -> None:
    for names in (file(A), of_link(A)):
        whose = names.tunnel or "host"
        assert steps([names, link(A), route(A)], []) == ["+ link a", "+ route a", f"+ resolver {whose}"]
        assert steps([], [link(A, 5), route(A), names]) == [f"- resolver {whose}", "- link a"]


def test_another_tunnels_servers_come_before_its_own_go() -> None:
    there: list[Resource] = [link(A, 5), route(A), link(B, 6), route(B), file(A)]
    assert steps([link(B), route(B), file(B)], there) == ["~ resolver host", "- link a"]


def test_settings_of_a_link_are_told_anew_to_its_successor() -> None:
    found: list[Resource] = [link(A, 5)._replace(type="tap"), of_link(A)]
    assert steps([link(A), of_link(A)], found) == ["! link a", "+ resolver a"]


def test_servers_of_a_tunnel_that_does_not_come_up_are_not_told() -> None:
    foreign = link(A, 5)._replace(tunnel=None, alias="")
    assert steps([link(A), file(A)], [foreign]) == []
    fresh = plan([link(A), file(A)], [])
    assert [s.needs for s in fresh.steps] == [None, A]
    assert [s.resource.kind for s in fresh.only(frozenset((HOST, B))).steps] == []
    assert plan([link(A), file(A)], [link(A, 5)]).steps[-1].needs is None


def test_a_link_whose_program_is_not_there_is_not_up() -> None:
    """The program may look for its server by name: until it is back, nobody is told to ask through the tunnel."""
    wanted: list[Resource] = [link(A), owner(A), file(A)]
    assert [s.needs for s in plan(wanted, [link(A, 5)]).steps] == [None, A]
    assert plan(wanted, [link(A, 5), owner(A, pid=7)]).steps[-1].needs is None
    assert steps(wanted, [link(A, 5)._replace(carrier=False), owner(A, pid=7)]) == [], "it is not ready yet"
    assert plan([link(A), file(A)], [link(A, 5)._replace(carrier=False)]).steps[-1].needs is None, "nobody is waited for"
    assert steps(wanted, [link(A, 5), file(A)]) == ["+ owner a"], "what is there stays: names do not go past the tunnel"


def test_what_others_wrote_is_a_change_of_ours() -> None:
    (step,) = plan([link(A), file(A)], [link(A, 5), file(A, servers=(), mark=None, overwritten=True)]).steps
    assert step.fields == ("servers", "mark", "overwritten")


def test_blind_for_names_is_no_removal() -> None:
    assert plan([], [file(A)], blind=lambda kind, tunnel: (kind, tunnel) == ("resolver", HOST)).steps == ()


INTENT = Intent(
    Tunnel(A, "tun", IfName("tun-a"), tun=Tun()), Mark(A, "0000", "0000"), 1, "s", 1, progress=Progress("up", 1, 1, worked=True)
)
FACTS = Facts(boot_id="boot")


def judged(left: Plan, *blind: Unobserved, lacks: tuple[str, ...] = (), intent: Intent = INTENT) -> tuple[Verdict, str]:
    judgement = judge(intent, Evidence((link(A, 5),), left, blind, FACTS, lacks=lacks))
    return judgement.verdict, "; ".join(judgement.reasons)


def test_trouble_with_names_degrades() -> None:
    missing = plan([link(A), file(A)], [link(A, 5)])
    gone = "DNS missing: resolver /etc/resolv.conf for a dns 10.0.0.53 domain ~."
    assert judged(missing) == (Verdict.DEGRADED, gone)
    assert judged(missing, intent=INTENT._replace(progress=Progress("waiting"))) == (Verdict.DEGRADED, gone)
    theirs = file(A, servers=(pton("192.0.2.1"),), overwritten=True)
    overwritten = plan([link(A), file(A)], [link(A, 5), theirs])
    assert judged(overwritten) == (Verdict.DEGRADED, "DNS overwritten: /etc/resolv.conf names 192.0.2.1")
    assert judged(Plan(), lacks=("dns owned by b",)) == (Verdict.DEGRADED, "dns owned by b")


def test_names_that_could_not_be_compared_are_not_unknown() -> None:
    """PRODUCT: unknown is for the interface, addresses, routes and rules."""
    silent = Unobserved(A, "resolver", "no answer")
    assert judged(Plan(), silent) == (Verdict.DEGRADED, "dns could not be compared: no answer")
    assert judged(Plan(), silent._replace(privilege=True)) == (Verdict.CONNECTED, "")
