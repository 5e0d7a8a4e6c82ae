"""Uplinks as they are found in the field: several, with a gateway that is in no network, in a group, of one family only."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.netns import world
from tests.netns.layouts import BYPASS, OUTSIDE, apply, is_settled, is_unreachable, tun, way
from tests.netns.world import Host, Uplink

DIRECT = '[[tunnels.f.split.direct]]\ncidr = ["198.51.100.0/24"]'
Make = Callable[[str], Host]


class Two(NamedTuple):
    """A host with two uplinks, the second one worse."""

    cl: Host
    gw: Host
    other: Host


@pytest.fixture
def two(hosts: Make) -> Two:
    cl, gw = world.uplink(hosts("cl"), hosts("gw"))
    other = hosts("other")
    cl.ip(f"link add cl1 type veth peer name gw1 netns {other.name}")
    cl.ip("addr add 192.168.60.2/24 dev cl1")
    other.ip("addr add 192.168.60.1/24 dev gw1")
    cl.ip("link set cl1 up")
    other.ip("link set gw1 up")
    world.wait_until(lambda: "scope link" in cl.ip("-6 addr show dev cl1 -tentative"), 30, "cl1 is up")
    cl.ip("route add default via 192.168.60.1 metric 600")
    return Two(cl, gw, other)


def test_answers_from_an_address_of_any_uplink_leave_by_that_one(two: Two) -> None:
    """Guarantee 15. Without a tunnel the kernel takes the better one for both."""
    cl = two.cl
    before = cl.snapshot()
    addresses = ("192.168.50.2", "192.168.60.2")
    assert [way(cl, OUTSIDE, "from", address) for address in addresses] == ["cl0", "cl0"]
    apply(cl, tun("f", "0.0.0.0/0"))
    assert way(cl, OUTSIDE) == "tun-f"
    assert [way(cl, OUTSIDE, "from", address) for address in addresses] == ["cl0", "cl1"]
    assert is_settled(cl)
    cl.tunctl("down", "f")
    assert cl.snapshot() == before


def test_what_is_direct_follows_the_better_uplink(two: Two) -> None:
    """S41, F21, F24: exactly one."""
    cl = two.cl
    apply(cl, tun("f", "0.0.0.0/0", more=DIRECT))
    assert way(cl, "198.51.100.1") == "cl0"
    cl.ip("link set cl0 down")
    cl.tunctl("reconcile")
    assert cl.ip("route show table 20000 198.51.100.0/24").split()[:5] == [
        "198.51.100.0/24",
        "via",
        "192.168.60.1",
        "dev",
        "cl1",
    ]
    cl.ip("link set cl0 up")
    cl.ip("route add default via 192.168.50.1 dev cl0")
    cl.tunctl("reconcile")
    assert cl.ip("route show table 20000 198.51.100.0/24").count("via") == 1
    assert way(cl, "198.51.100.1") == "cl0"
    assert way(cl, OUTSIDE) == "tun-f"
    assert is_settled(cl)


@pytest.mark.parametrize("gateway", ["onlink", "host route"])
def test_a_gateway_that_is_in_no_network_of_the_host(uplink: Uplink, gateway: str) -> None:
    """Rented machines have a /32. While a full tunnel is up, the kernel looks for the gateway in the tunnel."""
    cl, gw = uplink
    cl.ip("addr flush dev cl0 scope global")
    cl.ip("addr add 10.9.9.9/32 dev cl0")
    if gateway == "host route":
        cl.ip("route add 172.31.1.1 dev cl0")
    cl.ip(f"route add default via 172.31.1.1 dev cl0 {gateway if gateway == 'onlink' else ''}")
    gw.ip("addr add 172.31.1.1/32 dev gw0")
    gw.ip("addr add 198.51.100.7/32 dev lo")
    gw.ip("route add 10.9.9.9/32 dev gw0")
    before = cl.snapshot()
    apply(cl, tun("f", "0.0.0.0/0", more=DIRECT))
    assert is_settled(cl)
    cl.ip("route flush table 20000")
    cl.tunctl("reconcile")
    cl.run(["ping", "-c", "1", "-W", "2", "198.51.100.7"])
    assert way(cl, OUTSIDE) == "tun-f"
    cl.tunctl("down", "f")
    assert cl.snapshot() == before


def test_the_lan_in_the_tunnel_does_not_hide_the_gateway(uplink: Uplink) -> None:
    cl = uplink.cl
    apply(cl, tun("f", "0.0.0.0/0", more=DIRECT), top='[host]\nlan = "tunnel"\n')
    assert way(cl, "192.168.50.1") == "tun-f"
    cl.ip("route flush table 20000")
    cl.tunctl("reconcile")
    assert way(cl, "198.51.100.1") == "cl0"


def test_an_uplink_in_a_group_of_somebody_else_is_no_way_past_the_tunnel(uplink: Uplink) -> None:
    cl = uplink.cl
    cl.ip("link set cl0 group 7")
    apply(cl, tun("f", "0.0.0.0/0") + tun("split", "198.51.100.0/24"))
    assert way(cl, OUTSIDE) == "tun-f"
    assert way(cl, "198.51.100.1") == "tun-split"


def test_direct_prefixes_of_a_family_without_an_uplink_go_nowhere(uplink: Uplink) -> None:
    """Lists of both families on a host of one: not refused, and never into the tunnel."""
    cl = uplink.cl
    direct = '[[tunnels.f.split.direct]]\ncidr = ["198.51.100.0/24", "2001:db8:1::/48"]'
    apply(cl, tun("f", "0.0.0.0/0 ::/0", more=direct, lines=f'{BYPASS}\naddresses = ["fd77::1/128"]'))
    assert way(cl, "198.51.100.1") == "cl0"
    assert is_unreachable(cl, "2001:db8:1::1")
    assert way(cl, "2001:db8:2::1") == "tun-f"
    assert is_settled(cl)


def test_a_default_route_with_several_gateways_is_an_uplink(uplink: Uplink) -> None:
    cl = uplink.cl
    cl.ip("route del default")
    cl.ip("route add default nexthop via 192.168.50.1 dev cl0 nexthop via 192.168.50.3 dev cl0")
    apply(cl, tun("f", "0.0.0.0/0", more=DIRECT))
    assert "via 192.168.50.1 dev cl0" in cl.ip("route show table 20000 198.51.100.0/24")
    assert is_settled(cl)


def test_ipv6_by_a_gateway_that_is_link_local(uplink: Uplink) -> None:
    cl = uplink.cl
    cl.ip("-6 addr add 2001:db8:50::2/64 dev cl0 nodad")
    cl.ip("-6 route add default via fe80::1 dev cl0")
    before = cl.snapshot()
    direct = '[[tunnels.f.split.direct]]\ncidr = ["2001:db8:1::/48"]'
    apply(cl, tun("f", "0.0.0.0/0 ::/0", more=direct, lines=f'{BYPASS}\naddresses = ["fd77::1/128"]'))
    for _ in range(2):
        assert way(cl, "2001:db8:1::1") == "cl0"
        assert way(cl, "2001:db8:50::77") == "cl0"
        assert way(cl, "2001:db8:50:1::77") == "tun-f"
        assert way(cl, "2001:db8:9::1", "from", "2001:db8:50::2") == "cl0"
        assert is_settled(cl)
        cl.ip("-6 route flush table 20000")
        cl.tunctl("reconcile")
    cl.tunctl("down", "f")
    assert cl.snapshot() == before


def test_of_two_full_tunnels_the_metric_of_the_default_route_decides(uplink: Uplink) -> None:
    cl = uplink.cl
    apply(cl, tun("a", "0.0.0.0/0", entry="metric = 100") + tun("b", "0.0.0.0/0", entry="metric = 50"))
    assert way(cl, OUTSIDE) == "tun-b"
    cl.tunctl("down", "b")
    assert way(cl, OUTSIDE) == "tun-a"
