"""Who may take the way back of IPv6, and the filter that judges it."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.kinds.rule import FULL_TABLES, UNMARKED
from reconciler.layout import begun, lan, overlaps, shared
from reconciler.layout.ground import Ground
from reconciler.layout.lay import Lay
from reconciler.model.facts import Unknown, Uplink
from reconciler.model.intent import Progress
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.model.policy import Policy
from reconciler.model.prefix import AF_INET6, parse_network, pton
from reconciler.model.tunnel import RouteSettings, RuleSettings
from tests.unit.test_layout import FACTS, UP4, N, laid

UP6 = Uplink(AF_INET6, IfName("cl0"), pton("2001:db8:50::1"), 1024, (pton("2001:db8:50::2"),))
BOTH = FACTS._replace(uplinks=(UP4, UP6))
BLOCKED = "rule -6 priority 20040 from 2001:db8:50::2/128 fwmark 0x0/0xffffffff lookup main"


def way_back(*lays: Lay) -> list[str]:
    ground = Ground(lays, lan.kept(BOTH.connected or (), Policy()), {}, BOTH, Policy())  # type: ignore[arg-type]
    lines = map(str, shared.shared(ground, overlaps.overlaps(lays, BOTH, N)))
    return [line for line in lines if "-6 priority 2004" in line]


def test_a_tunnel_that_has_or_hides_ipv6_is_judged() -> None:
    assert way_back(laid("0.0.0.0/0")) == [BLOCKED]
    assert way_back(laid("0.0.0.0/0", "::/0")) == [BLOCKED]
    assert way_back(laid("fd99::/16", on_failure="block")) == [BLOCKED]
    unreachable = RouteSettings((parse_network("fd99::/16"),), type="unreachable")
    assert way_back(laid("10.0.0.0/8", on_failure="block", routes=(unreachable,))) == [BLOCKED]


def test_where_nothing_is_unreachable_nobody_is_judged() -> None:
    plain = BLOCKED.replace(" fwmark 0x0/0xffffffff", "")
    assert way_back(laid("0.0.0.0/0", ipv6_leak="allow")) == [plain]
    assert way_back(laid("10.20.0.0/16", on_failure="block")) == [plain]
    assert way_back(laid("fd99::/16"))[0] == f"{plain} suppress_ifgroup 20000"
    assert begun.judged_for([laid("0.0.0.0/0")], BOTH._replace(ipv6=False)) is None


@pytest.mark.parametrize(
    ("chosen", "others"),
    [
        ([], [None]),
        ([(1000, 1000)], [(0, 999), (1001, 4294967294)]),
        ([(0, 10), (5, 20), (22, 22)], [(21, 21), (23, 4294967294)]),
        ([(7, 4294967294)], [(0, 6)]),
        ([(0, 4294967294)], []),
    ],
)
def test_users_whose_packets_a_tunnel_selects_have_none(chosen: list[Any], others: list[Any]) -> None:
    dead = laid("::/0", rules=tuple(RuleSettings(uid_range=one) for one in chosen) or (RuleSettings(iif="lan0"),))
    full = laid("0.0.0.0/0", name="b", slot=2)
    ground = Ground((dead, full), (), {}, BOTH, Policy())
    rules = [rule for rule in shared.shared(ground, overlaps.overlaps((dead, full), BOTH, N)) if getattr(rule, "from_", None)]
    assert [rule.uid_range for rule in rules if rule.fwmark == UNMARKED] == others  # type: ignore[attr-defined]


def test_the_filter() -> None:
    assert next(begun.words([IfName("tun-b"), IfName("tun-a")], N)) == (
        'oifname != { "lo", "tun-a", "tun-b" } ip6 saddr != fe80::/10 meta mark == 0x0 tcp flags syn meta mark set 0x317d'
    )


@pytest.mark.parametrize(
    ("mark", "mask"), [(0x3174, 0x3FFF), (0xCA6C, 0xFFFFFFFF), (0x1, 0x1), (0x3, 0x3), (0x80000000, 0x80000000)]
)
def test_its_mark_is_nobodys(mark: int, mask: int) -> None:
    numbers = Numbers(fwmark=mark, fwmask=mask)
    judged = numbers.mark_of_judged
    assert judged
    assert judged & mask != mark
    assert judged & mask not in {numbers.mark_of_uplink(number) for number in range(8)}


def held_back(*lays: Lay, leading: frozenset[str] = frozenset(), worked: bool = True) -> list[str]:
    there = [lay._replace(intent=lay.intent._replace(progress=Progress(worked=worked))) for lay in lays]
    return list(map(str, begun.held_back(there, BOTH._replace(leading6=leading), N)))  # type: ignore[arg-type]


HELD_BACK = ["rule -6 priority 20499 from all fwmark 0x317d/0xffffffff unreachable"]


def test_the_filter_hears_of_a_way_with_the_look_after_it_came() -> None:
    full = laid("0.0.0.0/0", "::/0")
    assert held_back(full) == HELD_BACK
    assert held_back(full, leading=frozenset("a")) == []
    assert held_back(full._replace(is_dead=True), leading=frozenset("a")) == HELD_BACK
    assert held_back(full, worked=False) == [], "it blocks nothing yet"
    assert FULL_TABLES[0] > begun.JUDGED_ELSE


def test_only_the_tunnel_that_decides_holds_back() -> None:
    first, second = laid("::/0", name="a"), laid("::/0", name="b", slot=2)
    assert held_back(first, second, leading=frozenset("a")) == []
    assert held_back(first, second, leading=frozenset("b")) == HELD_BACK
    bypass = laid("::/0", name="a", on_failure="bypass")
    assert held_back(bypass, second, leading=frozenset("b")) == [], "what is told of no way there asks the next one"
    assert held_back(bypass) == []


def test_no_way_ever_comes_where_a_family_is_only_kept_from_leaking() -> None:
    assert held_back(laid("0.0.0.0/0")) == []
    assert held_back(laid("2000::/3", on_failure="block")) == [], "its prefixes are not all of IPv6"


def test_nothing_is_held_back_that_could_not_be_seen() -> None:
    unread = BOTH._replace(leading6=Unknown("routes could not be read"))
    assert list(begun.held_back([laid("::/0")], unread, N)) == []
