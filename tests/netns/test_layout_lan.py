"""The LAN under full tunnels: which link and which address packets to it take."""

from __future__ import annotations

from tests.netns.layouts import apply, is_settled, tun, way
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
