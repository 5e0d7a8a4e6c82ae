"""What is for everybody around, sent by nobody's link in particular (mDNS, SSDP, DHCP), under a full tunnel that works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.netns import world
from tests.netns.layouts import BYPASS, OUTSIDE, apply, is_settled, tun, way
from tests.netns.test_full_tunnel import FULL, Ends, can_reach, desired, ends
from tests.netns.world import Host, Uplink

__all__ = ["ends"]

PLACES = {"224.0.0.251": 5353, "239.255.255.250": 1900, "255.255.255.255": 67}


def hears(host: Host, dev: str) -> Callable[[], str]:
    """What comes to the gateway by one of its links."""
    host.start(["tcpdump", "-ni", dev, "-l", "--immediate-mode", "udp port 5353 or udp port 1900 or udp port 67"], log=dev)
    text = (host.dir / dev).read_text
    world.wait_until(lambda: "listening" in text(), 30, f"tcpdump on {dev}")
    return lambda: text().partition("listening")[2]


def send(host: Host, link: str = "") -> None:
    """One datagram to each. `link`: IPv6 too, whose senders name theirs."""
    script = (
        "import socket\n"
        f"for place in {list(PLACES.items())!r}:\n"
        " s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n"
        " s.sendto(b'anybody', place)\n"
        f"if {link!r}:\n"
        " s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
        f" s.sendto(b'anybody', ('ff02::fb', 5353, 0, socket.if_nametoindex({link!r})))\n"
    )
    host.run(["python3", "-c", script])


def assert_all_of(heard: Callable[[], str], source: str, *more: str) -> None:
    wanted = (*(f"{source}.", *(f"> {place}.{port}" for place, port in PLACES.items())), *more)
    world.wait_until(lambda: all(word in heard() for word in wanted), 30, f"{wanted} in {heard()}")


def test_the_lan_hears_it_and_the_tunnel_does_not(ends: Ends) -> None:
    cl, gw, _ = ends
    before = cl.snapshot()
    cl.tunctl("apply", cl.write("d.toml", desired(ends, '"0.0.0.0/0", "::/0"')))
    can_reach(ends, OUTSIDE)
    on_lan, in_tunnel = hears(gw, "gw0"), hears(gw, "wgs")
    send(cl, "cl0")
    assert_all_of(on_lan, "192.168.50.2", "> ff02::fb.5353")
    assert is_settled(cl)
    cl.ip("link set cl0 down")
    cl.ip("link set cl0 up")
    cl.ip("route add default via 192.168.50.1 dev cl0")
    cl.tunctl("reconcile")
    seen = on_lan().count("> 239.255.255.250.1900")
    world.wait_until(lambda: "fe80" in cl.ip("-6 addr show dev cl0 -tentative"), 30, "cl0")
    send(cl, "cl0")
    world.wait_until(lambda: on_lan().count("> 239.255.255.250.1900") == seen + 1, 30, "after the uplink was away")
    assert ">" not in in_tunnel()
    cl.tunctl("down", "full")
    assert cl.snapshot() == before


def test_nothing_is_local(ends: Ends) -> None:
    """`lan = "tunnel"`: this is what the capture shows when it goes into the tunnel."""
    cl, gw, _ = ends
    cl.tunctl("apply", cl.write("d.toml", desired(ends, FULL).replace("[tunnels", '[host]\nlan = "tunnel"\n[tunnels', 1)))
    can_reach(ends, OUTSIDE)
    in_tunnel = hears(gw, "wgs")
    send(cl)
    assert_all_of(in_tunnel, "10.8.0.2")


@pytest.mark.parametrize("prefixes", ["0.0.0.0/0", "128.0.0.0/1"])
def test_a_prefix_that_a_tunnel_names_is_meant(uplink: Uplink, prefixes: str) -> None:
    cl = uplink.cl
    apply(cl, tun("f", f"{prefixes} 239.1.0.0/16") + tun("ospf", "224.0.0.5/32", lines=BYPASS))
    places = ("239.1.2.3", "224.0.0.5", "224.0.0.251", "239.2.0.1", "255.255.255.255")
    assert [way(cl, place) for place in places] == ["tun-f", "tun-ospf", "cl0", "cl0", "cl0"]
    assert is_settled(cl)
    apply(cl, tun("f", f"{prefixes} 224.0.0.0/4"))
    assert [way(cl, place) for place in places] == ["tun-f"] * 4 + ["cl0"]
    assert is_settled(cl)
