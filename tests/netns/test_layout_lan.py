"""The LAN under full tunnels: which link and which address packets to it take."""

from __future__ import annotations

import pytest

from tests.netns.layouts import BYPASS, apply, is_settled, tun, way
from tests.netns.world import Uplink


def test_each_network_of_a_link_is_reached_from_its_own_address(uplink: Uplink) -> None:
    """Two networks on one wire: an answer to the first one's address would never come back to the second."""
    cl, gw = uplink
    cl.ip("addr add 172.20.0.2/24 dev cl0")
    gw.ip("addr add 172.20.0.1/24 dev gw0")
    before = cl.snapshot()
    apply(cl, tun("f", "0.0.0.0/0"))
    assert "src 172.20.0.2" in cl.ip("route get 172.20.0.1")
    assert "src 192.168.50.2" in cl.ip("route get 192.168.50.1")
    assert is_settled(cl)
    cl.tunctl("down", "f")
    assert cl.snapshot() == before


def test_of_two_links_into_one_network_the_uplink_is_taken(uplink: Uplink) -> None:
    """Cable and radio in the same network."""
    cl = uplink.cl
    cl.ip("link add a0 type bridge")  # its name and its number are not what decides
    cl.ip("link set a0 up")
    cl.ip("addr add 192.168.50.77/24 dev a0 metric 600")
    apply(cl, tun("f", "0.0.0.0/0"))
    assert way(cl, "192.168.50.1") == "cl0"
    assert is_settled(cl)


def test_a_network_that_comes_and_goes(uplink: Uplink) -> None:
    """S44, S45: wider than a prefix of ours."""
    cl = uplink.cl
    apply(cl, tun("f", "0.0.0.0/0 10.0.0.0/24"))
    cl.ip("link add br0 type bridge")
    cl.ip("link set br0 up")
    cl.ip("addr add 10.0.0.1/16 dev br0")
    cl.tunctl("reconcile")
    assert way(cl, "10.0.0.9") == "br0"
    assert is_settled(cl)
    cl.ip("link del br0")
    cl.tunctl("reconcile")
    assert way(cl, "10.0.0.9") == "tun-f"
    assert is_settled(cl)


@pytest.mark.parametrize(
    ("host", "network", "expected"),
    [
        ("", "198.18.5.2/24", "cl0"),
        ('lan = "private"', "198.18.5.2/24", "tun-f"),
        ('lan_except = ["198.18.0.0/16"]', "198.18.5.2/24", "tun-f"),
        ('lan_except = ["c?0"]', "198.18.5.2/24", "tun-f"),
        ('lan = "tunnel"', "198.18.5.2/24", "tun-f"),
        ("", "198.0.0.2/7", "tun-f"),
    ],
)
def test_which_networks_stay_local(uplink: Uplink, host: str, network: str, expected: str) -> None:
    cl = uplink.cl
    cl.ip(f"addr add {network} dev cl0")
    done = apply(cl, tun("f", "0.0.0.0/0"), top=f"[host]\n{host}\n")
    assert way(cl, "198.18.5.9") == expected
    is_public = expected == "cl0"
    assert ("198.18.5.0/24 on cl0 is public and stays outside the tunnel" in done.stdout) is is_public
    status = cl.json("status", "f", expect=3)["tunnels"][0]["reasons"]  # nobody has opened the device
    assert any("198.18.5.0/24 on cl0 is public" in reason for reason in status) is is_public
    assert ("198.0.0.0/7 on cl0 is too wide to be believed" in done.stdout) is (network == "198.0.0.2/7")
    assert is_settled(cl)


def test_ipv6_networks_stay_local(uplink: Uplink) -> None:
    cl = uplink.cl
    cl.ip("-6 addr add fd50::2/64 dev cl0 nodad")
    apply(cl, tun("f", "0.0.0.0/0 ::/0 fd50::/64 fd50::/48"))
    assert way(cl, "fd50::9") == "cl0"
    assert way(cl, "fd50:0:0:1::9") == "tun-f"
    assert is_settled(cl)


def test_an_address_of_a_network_that_is_the_lan(uplink: Uplink) -> None:
    """The LAN comes and goes under the tunnel's own address."""
    cl = uplink.cl
    apply(cl, tun("f", "10.20.0.0/16", lines=f'{BYPASS}\naddresses = ["192.168.50.77/24"]'))
    for _ in range(2):
        assert way(cl, "192.168.50.1") == "cl0"
        assert is_settled(cl)
        cl.ip("addr flush dev cl0 scope global")
        cl.tunctl("reconcile")
        assert way(cl, "192.168.50.9") == "tun-f"
        cl.ip("addr add 192.168.50.2/24 dev cl0")
        cl.tunctl("reconcile")
