"""Where routes and rules stand, as text in the idiom of `ip`: one tunnel or several, and what the host adds."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.layout import lan, overlaps, routes, rules, shared
from reconciler.layout.ground import Ground
from reconciler.layout.lay import Lay, lay
from reconciler.model.facts import Connected, Facts, Uplink
from reconciler.model.intent import Intent, Progress
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.policy import Policy
from reconciler.model.prefix import AF_INET, parse_network, pton
from reconciler.model.tunnel import RouteSettings, RuleSettings, Split, Tun, Tunnel, WireGuard

LAN = Connected(parse_network("192.168.50.0/24"), IfName("cl0"))
UP4 = Uplink(AF_INET, IfName("cl0"), pton("192.168.50.1"), 0, (pton("192.168.50.2"),))
FACTS = Facts(uplinks=(UP4,), connected=(LAN,), ipv6=True)
N = Numbers()


def intent(name: str = "a", slot: int = 1, marks: bool = False, worked: bool = False, **fields: Any) -> Intent:
    engine: dict[str, Any] = {"wireguard": WireGuard("k")} if marks else {"tun": Tun()}
    tunnel = Tunnel(TunnelName(name), "wireguard" if marks else "tun", IfName(f"tun-{name}"), **engine, **fields)
    return Intent(tunnel, Mark(TunnelName(name), "0000", "0000"), slot, "s", 1, progress=Progress(worked=worked))


def laid(*prefixes: str, kept: tuple[Connected, ...] = (LAN,), **fields: Any) -> Lay:
    made = intent(**fields)
    return lay(made, IfName(f"tun-{made.name}"), map(parse_network, prefixes), kept, N)


def told(*lays: Lay, endpoints: dict[str, tuple[str, ...]] | None = None, facts: Facts = FACTS) -> list[str]:
    packed = {TunnelName(name): tuple(map(pton, texts)) for name, texts in (endpoints or {}).items()}
    ground = Ground(lays, lan.kept(facts.connected or (), Policy()), packed, facts, Policy())  # type: ignore[arg-type]
    own = [route for one in lays for route in routes.of_tunnel(one, facts)]
    return [
        str(one) for one in (*shared.shared(ground, overlaps.overlaps(lays, facts, N)), *rules.of_tables(lays, facts, N), *own)
    ]


def test_a_split_tunnel_stands_in_main_and_keeps_the_way_back() -> None:
    assert told(laid("10.20.0.0/16")) == [
        "route default via 192.168.50.1 dev cl0 table 20000",
        "rule -4 priority 20040 from 192.168.50.2/32 lookup main suppress_ifgroup 20000",
        "rule -4 priority 20041 from 192.168.50.2/32 lookup 20000",
        "route 10.20.0.0/16 dev tun-a",
    ]


def test_a_full_tunnel_that_marks() -> None:
    assert told(laid("0.0.0.0/0", marks=True), endpoints={"a": ("203.0.113.10",)}) == [
        "route 192.168.50.0/24 dev cl0 table 20000",
        "route 224.0.0.0/4 dev cl0 table 20000",
        "route 255.255.255.255 dev cl0 table 20000",
        "rule -4 priority 20010 from all fwmark 0x3174/0x3fff lookup main",
        "rule -4 priority 20020 from all fwmark 0x3174/0x3fff unreachable",
        "rule -4 priority 20030 from all lookup 20000 suppress_prefixlength 0",
        "rule -4 priority 20040 from 192.168.50.2/32 lookup main",
        "rule -4 priority 20050 from all lookup main suppress_ifgroup 0 suppress_prefixlength 0",
        "rule -6 priority 20010 from all fwmark 0x3174/0x3fff lookup main",
        "rule -6 priority 20020 from all fwmark 0x3174/0x3fff unreachable",
        "rule -6 priority 20050 from all lookup main suppress_ifgroup 0 suppress_prefixlength 0",
        "rule -4 priority 20500 from all lookup 20001",
        "rule -6 priority 20500 from all lookup 20001",
        "route unreachable default table 20001 metric 4278190081",
        "route unreachable ::/0 table 20001 metric 4278190081",
        "route default dev tun-a table 20001",
    ]


def test_one_that_cannot_mark_is_pinned() -> None:
    lines = told(laid("0.0.0.0/0"), endpoints={"a": ("203.0.113.10",)})
    assert "route 203.0.113.10 via 192.168.50.1 dev cl0 table 20000" in lines


def test_an_endpoint_in_the_lan_needs_no_pin_and_no_gateway() -> None:
    one = laid("0.0.0.0/0")
    assert not any("192.168.50.9" in line for line in told(one, endpoints={"a": ("192.168.50.9",)}))
    facts, name = FACTS._replace(uplinks=()), TunnelName("a")
    near = Ground([one], (LAN,), {name: (pton("192.168.50.9"),)}, facts, Policy())
    assert shared.needing_uplink(near) == set()
    away = Ground([one], (LAN,), {name: (pton("203.0.113.10"),)}, facts, Policy())
    assert shared.needing_uplink(away) == {name}


def test_a_prefix_in_main_that_covers_an_endpoint_is_pinned_there_though_the_engine_marks() -> None:
    lines = told(laid("203.0.113.0/24", marks=True), endpoints={"a": ("203.0.113.10",)})
    assert "route 203.0.113.10 via 192.168.50.1 dev cl0" in lines


def test_full_tunnels_stand_behind_each_other_by_metric_then_slot() -> None:
    pair = (laid("0.0.0.0/0", name="a", slot=1, metric=50), laid("0.0.0.0/0", name="b", slot=2))
    lines = [line for line in told(*pair) if "lookup 2000" in line and "-4" in line and "priority 205" in line]
    assert lines == ["rule -4 priority 20501 from all lookup 20001", "rule -4 priority 20500 from all lookup 20002"]


def test_one_that_has_no_ipv6_does_not_take_it_from_one_that_has() -> None:
    """One tunnel for IPv4, another one for IPv6; and beside one for both."""
    for second, four in (("::/0",), []), (("0.0.0.0/0", "::/0"), ["rule -4 priority 20501 from all lookup 20002"]):
        lines = [line for line in told(laid("0.0.0.0/0"), laid(*second, name="b", slot=2)) if "priority 205" in line]
        assert [line for line in lines if "-6" in line] == [
            "rule -6 priority 20501 from all lookup 20001",
            "rule -6 priority 20500 from all lookup 20002",
        ]
        assert [line for line in lines if "-4" in line] == ["rule -4 priority 20500 from all lookup 20001", *four]


def test_what_blocks_without_being_full_has_its_own_table_and_an_open_rule() -> None:
    lines = told(laid("10.20.0.0/16", on_failure="block"))
    assert "rule -4 priority 20100 from all lookup 20001" in lines
    assert "route unreachable 10.20.0.0/16 table 20001 metric 4278190081" in lines
    assert "route 10.20.0.0/16 dev tun-a table 20001" in lines
    assert not any("20050" in line for line in lines)


def test_selected_packets_only() -> None:
    one = laid("0.0.0.0/0", rules=(RuleSettings(from_=(parse_network("192.168.50.0/24"),)),))
    assert not one.full
    assert one.table == 20001
    assert told(one) == ["route default dev tun-a table 20001"]


def test_direct_prefixes_by_the_uplink_and_never_in() -> None:
    one = laid("10.0.0.0/8", "10.1.2.0/24", split=Split(direct=(parse_network("10.1.0.0/16"),)))
    assert [str(prefix) for prefix in one.prefixes] == ["10.0.0.0/8"]
    assert [(str(e.to), e.reason) for e in one.excluded] == [("10.1.2.0/24", "direct 10.1.0.0/16")]
    assert "route 10.1.0.0/16 via 192.168.50.1 dev cl0 table 20000" in told(one)


def test_a_full_tunnel_of_which_all_is_direct_has_nothing_to_route() -> None:
    nothing = laid("0.0.0.0/0", split=Split(direct=(parse_network("0.0.0.0/0"),)))
    assert not nothing.table_less
    assert nothing.full
    assert [line for line in told(nothing) if "tun-a" in line] == []


def test_split_vpn_takes_the_place_of_what_the_engine_lets_through() -> None:
    one = laid("10.0.0.0/8", split=Split(vpn=(parse_network("172.18.0.0/16"),)))
    assert [str(prefix) for prefix in one.prefixes] == ["172.18.0.0/16"]


EXCLUDED = {
    "equal": ("192.168.50.0/24", True),
    "inside": ("192.168.50.128/25", True),
    "a host": ("192.168.50.7/32", True),
    "wider": ("192.168.0.0/16", False),
    "beside": ("192.168.51.0/24", False),
    "all": ("0.0.0.0/0", False),
    "another family": ("fd00::/8", False),
}


@pytest.mark.parametrize(("text", "out"), EXCLUDED.values(), ids=EXCLUDED)
def test_what_lies_in_the_lan_stays_out(text: str, out: bool) -> None:
    one = laid(text)
    assert bool(one.excluded) == out
    assert bool(one.prefixes) != out


def test_routes_with_a_table_of_their_own_are_meant_as_they_are() -> None:
    entry = RouteSettings((parse_network("192.168.50.0/24"),), table=77)
    lines = told(laid(routes=(entry,)))
    assert lines == ["route 192.168.50.0/24 dev tun-a table 77"]


NETWORKS = (
    LAN,
    Connected(parse_network("203.0.113.0/24"), IfName("wan0")),
    Connected(parse_network("172.17.0.0/16"), IfName("docker0")),
    Connected(parse_network("10.0.0.0/7"), IfName("rogue0")),
    Connected(parse_network("fd00::/31"), IfName("rogue0")),
    Connected(parse_network("fd50::/64"), IfName("cl0")),
)
POLICIES = {
    "keep": (Policy(), ["192.168.50.0/24", "203.0.113.0/24", "172.17.0.0/16", "fd50::/64"]),
    "private": (Policy(lan="private"), ["192.168.50.0/24", "172.17.0.0/16", "fd50::/64"]),
    "tunnel": (Policy(lan="tunnel"), []),
    "except an interface": (Policy(lan_except=("docker*", "wan0")), ["192.168.50.0/24", "fd50::/64"]),
    "except prefixes": (Policy(lan_except=("172.16.0.0/12", "fd00::/8")), ["192.168.50.0/24", "203.0.113.0/24"]),
}


@pytest.mark.parametrize(("policy", "kept"), POLICIES.values(), ids=POLICIES)
def test_which_networks_stay_local(policy: Policy, kept: list[str]) -> None:
    assert [str(one.prefix) for one in lan.kept(NETWORKS, policy)] == kept


def test_what_the_host_does_for_tunnels_follows_from_those_that_are_not_plain() -> None:
    """A tunnel of which anything is asked beside its prefixes in `main` must not be passed over."""
    beyond = (
        laid("0.0.0.0/0"),
        laid("0.0.0.0/0", on_failure="bypass"),
        laid("10.20.0.0/16", on_failure="block"),
        laid("10.20.0.0/16", table=254, on_failure="block"),
        laid("10.20.0.0/16", split=Split(direct=(parse_network("10.20.1.0/24"),))),
        laid("10.20.0.0/16", table=100),
        laid("10.20.0.0/16", rules=(RuleSettings(),)),
        laid("192.168.50.0/24"),
        lay(intent(), IfName("tun-a"), (LAN.prefix,), (), N, frozenset((LAN.prefix,))),
    )
    plain = laid("10.30.0.0/16")
    for one in beyond:
        assert Ground((plain, one, plain), (), {}, FACTS, Policy()).special == [one]
    assert Ground((plain,), (), {}, FACTS, Policy()).special == []
