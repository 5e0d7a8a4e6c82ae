"""What `nat` entries become: passages, rules, switches; and what nft's JSON is read as."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.errors import InvalidFile, NotObserved, Unavailable
from reconciler.kinds.nat import Chain, Let, NatRule, Table, lets, outs
from reconciler.layout.accepts import accepts, blocked
from reconciler.layout.filter import WayBack, table
from reconciler.layout.forwarding import switches
from reconciler.layout.lay import Lay, lay
from reconciler.layout.passage import missing, passages
from reconciler.model.facts import Connected, Drop, Facts, Forwarding, Unknown, Uplink
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6, parse_prefix, pton
from reconciler.model.tunnel import Nat, Tunnel
from reconciler.observe.nat import decoded

DEMO, TUN, CL0, LAN0 = TunnelName("demo"), IfName("tun0"), IfName("cl0"), IfName("lan0")
NUMBERS = Numbers()
UPLINK4 = Uplink(AF_INET, CL0, pton("192.168.50.1"), 0, (pton("192.168.50.2"),))
FACTS = Facts(
    uplinks=(UPLINK4, Uplink(AF_INET6, IfName("cl6"), None, 1024)),
    connected=(
        Connected(parse_prefix("192.168.50.0/24"), CL0),
        Connected(parse_prefix("10.70.0.0/24"), LAN0),
        Connected(parse_prefix("fd70::/64"), LAN0),
    ),
    forwarding=Forwarding(present=frozenset((CL0, LAN0, TUN)), per_interface6=True),
)


def laid(*entries: Nat, addresses: tuple[str, ...] = ("10.9.0.2/24",)) -> Lay:
    tunnel = Tunnel(DEMO, "tun", TUN, addresses=tuple(map(parse_prefix, addresses)), nat=entries)
    return lay(Intent(tunnel, Mark(DEMO, "aaaa", "bbbb"), 1, "s", 1), TUN, (), (), NUMBERS)


def nat(*sources: str, **words: Any) -> Nat:
    return Nat(tuple(map(parse_prefix, sources)), **words)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (nat("10.70.0.0/24"), ["10.70.0.0/24 cl0"]),
        (nat("fd70::/64"), ["fd70::/64 cl6"]),
        (nat("10.70.0.0/24", "fd70::/64"), ["10.70.0.0/24 cl0", "fd70::/64 cl6"]),
        (nat("10.70.0.0/24", out="tunnel"), ["10.70.0.0/24 tun0"]),
        (nat("10.70.0.0/24", out="eth9"), ["10.70.0.0/24 eth9"]),
    ],
)
def test_out(entry: Nat, found: list[str]) -> None:
    assert [f"{one.source} {one.out}" for one in passages(laid(entry), FACTS)] == found


def test_a_family_without_an_uplink_waits_for_one() -> None:
    facts = FACTS._replace(uplinks=(UPLINK4,))
    assert [str(one.source) for one in passages(laid(nat("10.70.0.0/24", "fd70::/64")), facts)] == ["10.70.0.0/24"]
    with pytest.raises(Unavailable, match=r"nat\[0\].*no uplink"):
        passages(laid(nat("fd70::/64")), facts)


@pytest.mark.parametrize("uplinks", [(), Unknown("no answer")])
def test_what_runs_keeps_its_uplink(uplinks: Any) -> None:
    kept = {(DEMO, parse_prefix("10.70.0.0/24")): (TUN, IfName("old0"))}
    entries = laid(nat("10.70.0.0/24"))
    facts = FACTS._replace(uplinks=uplinks, forwarding=FACTS.forwarding._replace(outs=kept))
    assert [one.out for one in passages(entries, facts)] == ["old0"]
    assert passages(entries, facts._replace(forwarding=Forwarding(blind="only root"))) == ()
    with pytest.raises(NotObserved if uplinks else Unavailable, match="uplink"):
        passages(entries, facts._replace(forwarding=Forwarding()))


@pytest.mark.parametrize(
    ("entry", "network"),
    [
        (nat("192.168.50.0/24"), "192.168.50.0/24"),
        (nat("192.168.0.0/16"), "192.168.50.0/24"),
        (nat("192.168.50.2/32"), "192.168.50.2/32"),
        (nat("10.9.0.0/16", out="tunnel"), "10.9.0.0/24"),
        (nat("10.70.0.0/24", out="lan0"), "10.70.0.0/24"),
    ],
)
def test_its_own_outgoing_side(entry: Nat, network: str) -> None:
    with pytest.raises(InvalidFile, match=f"contains {network}, the network of its own outgoing side"):
        passages(laid(entry), FACTS)


@pytest.mark.parametrize("dev", ['a"b', "a*", "a\\b"])
def test_names_that_nft_cannot_say(dev: str) -> None:
    with pytest.raises(Unavailable, match="nft has no words"):
        passages(laid(nat("10.70.0.0/24", out=dev)), FACTS)


def test_an_interface_that_is_not_there() -> None:
    assert list(missing(laid(nat("10.70.0.0/24", out="eth9"), nat("10.70.0.0/24", out="tun0")), FACTS)) == [
        "nat[0]: interface eth9 is not there"
    ]


def rules(*entries: Nat) -> list[str]:
    found = table(passages(laid(*entries), FACTS, 1420), NUMBERS)
    return [str(rule).removesuffix(' comment "tunctl:demo"') for rule in found.rules] if found else []


def test_rules() -> None:
    assert rules(nat("10.70.0.0/24"), nat("fd70::7", masquerade=False)) == [
        'ip saddr 10.70.0.0/24 oifname "cl0" masquerade',
        'iifname "tun0" tcp flags syn tcp option maxseg size set rt mtu',
        'oifname "tun0" tcp flags syn tcp option maxseg size set rt mtu',
        'iifname "tun0" meta nfproto ipv4 tcp flags syn tcp option maxseg size set 0x564',
        'iifname "tun0" meta nfproto ipv6 tcp flags syn tcp option maxseg size set 0x550',
        'ip saddr 10.70.0.0/24 oifname "cl0" accept',
        'ip daddr 10.70.0.0/24 iifname "cl0" ct state established,related accept',
        'ip6 saddr fd70::7 oifname "cl6" accept',
        'ip6 daddr fd70::7 iifname "cl6" ct state established,related accept',
    ]
    assert rules(nat("10.70.0.0/24", forward=False)) == ['ip saddr 10.70.0.0/24 oifname "cl0" masquerade']
    assert rules(nat("10.70.0.0/24"), nat("10.70.0.0/24")) == rules(nat("10.70.0.0/24"))
    assert rules() == []


def test_what_a_table_does() -> None:
    found = table(passages(laid(nat("10.70.0.0/24"), nat("fd70::7", masquerade=False)), FACTS), NUMBERS)
    assert found is not None
    source, host = parse_prefix("10.70.0.0/24"), parse_prefix("fd70::7")
    assert lets(found, DEMO) == [Let(source, CL0, True, True), Let(host, IfName("cl6"), False, True)]
    assert outs(found) == {(DEMO, source): (CL0,), (DEMO, host): (IfName("cl6"),)}
    assert (
        str(found)
        == "nat table inet tunctl (demo 10.70.0.0/24 out cl0: masquerade, forward; demo fd70::7/128 out cl6: forward)"
    )


def test_rules_of_those_of_whom_nothing_is_known_stay() -> None:
    rule = NatRule('ip saddr 10.0.0.0/8 oifname "x" masquerade', TunnelName("other"))
    assert table((), NUMBERS, more=[("source_nat", rule)]) == Table((Chain("source_nat", "nat", "postrouting", 100, (rule,)),))
    assert table((), NUMBERS, WayBack(DEMO, ())) is None


def test_whose_rules_are_meant() -> None:
    one, two = (NatRule("x", TunnelName(name)) for name in ("one", "two"))
    both = Table((Chain("source_nat", "nat", "postrouting", 100, (one, two)),))
    first = Table((Chain("source_nat", "nat", "postrouting", 100, (one,)),))
    assert both.meant(None) == {"one", "two"}
    assert both.meant(first) == {"two"}
    assert both.meant(both._replace(strange=("{}",))) == {"one", "two"}


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        (nat("10.70.0.0/24"), ["net.ipv4.conf.lan0.forwarding", "net.ipv4.conf.cl0.forwarding"]),
        (nat("10.9.0.0/24"), ["net.ipv4.conf.tun0.forwarding", "net.ipv4.conf.cl0.forwarding"]),
        (nat("fd70::/64"), ["net.ipv6.conf.lan0.force_forwarding", "net.ipv6.conf.cl6.force_forwarding"]),
        (nat("10.70.0.0/24", forward=False), []),
        (
            nat("10.99.0.0/24"),
            [f"net.ipv4.conf.{dev}.forwarding" for dev in ("cl0", "lan0", "tun0", "default")] + ["net.ipv4.ip_forward"],
        ),
    ],
)
def test_switches(entry: Nat, names: list[str]) -> None:
    one = laid(entry)
    assert [found.name for found in switches(one, passages(one, FACTS), FACTS)] == names


def test_listening_comes_before_the_global_switch() -> None:
    facts = FACTS._replace(forwarding=FACTS.forwarding._replace(per_interface6=False, accepts_ra=frozenset((IfName("cl6"),))))
    one = laid(nat("fd70::/64"))
    found = [str(switch) for switch in switches(one, passages(one, facts), facts)]
    assert found[0] == "sysctl net.ipv6.conf.cl6.accept_ra=2"
    assert found[-1] == "sysctl net.ipv6.conf.all.forwarding=1"
    assert list(switches(one, passages(one, facts), facts._replace(ipv6=False))) == []


def test_accepts_in_chains_of_others() -> None:
    drops = (
        Drop("iptables-nft", "ip", "filter", "DOCKER-USER", "ip filter FORWARD policy drop", True),
        Drop("iptables-legacy", "ip6", "filter", "FORWARD", "ip6 filter FORWARD policy drop", False),
    )
    facts = FACTS._replace(forwarding=FACTS.forwarding._replace(drops=drops))
    ways = passages(laid(nat("10.70.0.0/24", "fd70::/64")), facts)
    assert [str(one) for one in accepts(ways, facts)] == [
        "forward accept from 10.70.0.0/24 oif cl0 in ip filter DOCKER-USER (iptables-nft)",
        "forward accept to 10.70.0.0/24 iif cl0 established,related in ip filter DOCKER-USER (iptables-nft)",
    ]
    reason = "forwarding blocked by ip6 filter FORWARD policy drop, and iptables-legacy is not installed"
    assert list(blocked(ways, facts)) == [(DEMO, reason)]


RULE = {"family": "inet", "table": "tunctl", "chain": "c", "handle": 7, "comment": "tunctl:a"}
CHAIN = {
    "family": "inet",
    "table": "tunctl",
    "name": "c",
    "handle": 1,
    "type": "filter",
    "hook": "forward",
    "prio": 0,
    "policy": "accept",
}
STATE = {"left": {"ct": {"key": "state"}}}


@pytest.mark.parametrize(
    "right",
    [["related", "established"], ["established", "related"], {"set": ["established", "related"]}],
)
@pytest.mark.parametrize("operator", ["in", "=="])
def test_versions_of_nft_say_the_same_in_other_words(right: Any, operator: str) -> None:
    rule = {**RULE, "expr": [{"match": {"op": operator, **STATE, "right": right}}, {"accept": None}]}
    found = decoded([{"table": {}}, {"chain": CHAIN}, {"rule": rule}])
    assert found.chains[0].rules == (NatRule("ct state established,related accept", TunnelName("a")),)
    assert found.strange == ()


@pytest.mark.parametrize(
    "objects",
    [
        [{"chain": CHAIN}, {"rule": {**RULE, "comment": "mine", "expr": []}}],
        [{"chain": CHAIN}, {"set": {"name": "s"}}],
        [{"chain": {**CHAIN, "policy": "drop"}}],
        [{"chain": {"family": "inet", "table": "tunctl", "name": "plain", "handle": 9}}],
        [{"chain": CHAIN}, {"rule": {**RULE, "chain": "nowhere", "expr": []}}],
    ],
)
def test_what_is_none_of_ours_is_strange(objects: list[dict[str, Any]]) -> None:
    assert decoded(objects).strange


@pytest.mark.parametrize(
    "expression", [{"counter": {"packets": 1}}, {"masquerade": {"flags": "random"}}, {"match": {}}, {"drop": None}]
)
def test_other_words_equal_no_rule_of_ours(expression: dict[str, Any]) -> None:
    (rule,) = decoded([{"chain": CHAIN}, {"rule": {**RULE, "expr": [expression]}}]).rules
    assert rule.text.startswith("{")
