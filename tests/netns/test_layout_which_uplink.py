"""Which default route is an uplink: not another VPN's, a point-to-point link's, the one that is named."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tests.netns import world
from tests.netns.layouts import OUTSIDE, apply, is_settled, way
from tests.netns.scenario import PROGRAMS, send
from tests.netns.test_full_tunnel import ENDPOINT, FULL, Ends, can_reach, desired, ends
from tests.netns.test_layout_pins import program
from tests.netns.world import Host

__all__ = ["ends"]

THEIRS = "203.0.113.20"  # the server of the other VPN


def other_vpn(ends: Ends, metric: int = 0) -> None:
    """As OpenVPN does it: a route to its server, a better default route through its TUN."""
    ends.gw.ip(f"addr add {THEIRS}/32 dev lo")
    for host, words in ((ends.gw, (f"{THEIRS}:7001", "192.168.50.2:7001")), (ends.cl, ("192.168.50.2:7001", f"{THEIRS}:7001"))):
        host.start([sys.executable, str(PROGRAMS / "pump.py"), "tun1", *words])
        world.wait_until(lambda host=host: "tun1" in host.ip("link show"), 30, "the other VPN")  # type: ignore[misc]
        host.ip("link set tun1 up")
    ends.cl.ip("addr add 10.77.0.2/24 dev tun1")
    ends.gw.ip("addr add 10.77.0.1/24 dev tun1")
    ends.cl.ip("route replace default via 192.168.50.1 dev cl0 metric 100")
    ends.cl.ip("route del default via 192.168.50.1 dev cl0 metric 0")
    ends.cl.ip(f"route add {THEIRS}/32 via 192.168.50.1")
    ends.cl.ip(f"route add default dev tun1 metric {metric}")
    world.wait_until(lambda: ends.cl.run(["ping", "-c1", "-W1", OUTSIDE], check=False).returncode == 0, 30, "the other VPN")


def seen_on_wire(host: Host, words: str) -> Callable[[], str]:
    """What tcpdump shows of it on gw0 from now on."""
    host.start(["tcpdump", "-ni", "gw0", "-l", "--immediate-mode", *words.split()], log="seen")
    text = (host.dir / "seen").read_text
    world.wait_until(lambda: "listening" in text(), 30, "tcpdump")
    return lambda: text().partition("listening")[2].partition("\n")[2]


def test_the_default_route_of_another_vpn_is_no_uplink(ends: Ends) -> None:
    """F24, S41. By it our packets would go into their tunnel, whose packets go into ours: nothing would ever arrive."""
    other_vpn(ends)
    before = ends.cl.snapshot()
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, FULL)))
    can_reach(ends, OUTSIDE)
    wire = seen_on_wire(ends.gw, "udp port 51820")
    send(ends.cl.json("status", "full", expect=0)["tunnels"][0]["owner"]["pid"])
    ends.cl.tunctl("reconcile")  # an engine that once got an answer by their tunnel sticks to that interface
    can_reach(ends, OUTSIDE)
    assert way(ends.cl, OUTSIDE) == "wg-full"
    world.wait_until(lambda: f"> {ENDPOINT}.51820: UDP" in wire(), 30, "ours on the wire")
    assert way(ends.cl, ENDPOINT, "mark", "0x3174") == "cl0"
    assert way(ends.cl, OUTSIDE, "from", "192.168.50.2") == "cl0"  # the way back
    assert is_settled(ends.cl)
    ends.cl.tunctl("down", "full")
    assert ends.cl.snapshot() == before


def test_a_point_to_point_link_that_is_named(hosts: Callable[[str], Host]) -> None:
    """No gateway. Its other end is no network of ours."""
    cl, gw = hosts("cl"), hosts("gw")
    wire = str(cl.dir / "wire")
    gw.start(["socat", f"UNIX-LISTEN:{wire}", "TUN,tun-name=gw0,tun-type=tun,iff-no-pi,iff-up"])
    world.wait_until((cl.dir / "wire").exists, 30, "the other end")
    cl.start(["socat", f"UNIX-CONNECT:{wire}", "TUN,tun-name=p0,tun-type=tun,iff-no-pi,iff-up"])
    for host, dev, ours, theirs in ((cl, "p0", "100.64.1.2", "100.64.1.1"), (gw, "gw0", "100.64.1.1", "100.64.1.2")):
        world.wait_until(lambda host=host, dev=dev: "UP" in host.ip(f"link show {dev}", check=False), 30, dev)  # type: ignore[misc]
        host.ip(f"addr add {ours} peer {theirs}/32 dev {dev}")
    gw.ip(f"addr add {ENDPOINT}/32 dev lo")
    cl.ip("route add default dev p0")
    before = cl.snapshot()
    assert "no default gateway" in apply(cl, program(f'"{ENDPOINT}"'), expect=69).stderr  # a TUN may be anybody's
    apply(cl, program(f'"{ENDPOINT}"'), top='[host]\nuplink = "p0"\n')
    assert cl.ip(f"route show table 20000 {ENDPOINT}").split()[:3] == [ENDPOINT, "dev", "p0"]
    assert way(cl, OUTSIDE) == "tun-pump"
    assert way(cl, OUTSIDE, "from", "100.64.1.2") == "p0"
    cl.run(["ping", "-c1", "-W2", ENDPOINT])
    assert is_settled(cl)
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before


def test_a_program_is_pinned_past_another_vpn(ends: Ends) -> None:
    other_vpn(ends)
    apply(ends.cl, program(f'"{ENDPOINT}"'))
    assert way(ends.cl, ENDPOINT) == "cl0"
    ends.cl.ip("route del default via 192.168.50.1 dev cl0 metric 100")
    ends.cl.tunctl("down", "--all")
    done = apply(ends.cl, program(f'"{ENDPOINT}"'), expect=69)
    assert "no default gateway available" in done.stderr


def test_the_uplink_that_is_named(ends: Ends) -> None:
    """Tunnels' own packets go by it, though another one has the better default route."""
    cl, gw = ends.cl, ends.gw
    cl.ip(f"link add cl1 type veth peer name gw1 netns {gw.name}")
    for host, dev, end in ((cl, "cl1", 2), (gw, "gw1", 1)):
        host.ip(f"addr add 192.168.60.{end}/24 dev {dev}")
        host.ip(f"link set {dev} up")
    cl.ip("route add default via 192.168.60.1 metric 600")
    gw.ip("route add 192.168.60.2/32 dev gw1")
    for named, expected in (("auto", "cl0"), ("cl1", "cl1")):
        text = desired(ends, FULL).replace("[tunnels.full]", f'[host]\nuplink = "{named}"\n[tunnels.full]', 1)
        cl.tunctl("apply", cl.write("d.toml", text))
        assert way(cl, ENDPOINT, "mark", "0x3174") == expected
        can_reach(ends, OUTSIDE)
        assert is_settled(cl)
