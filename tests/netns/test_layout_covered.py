"""Connected networks that tunnels may cover (`lan`, `lan_except`): the kernel's own route for them stands in `main`."""

from __future__ import annotations

import pytest

from tests.netns import world
from tests.netns.layouts import BYPASS, apply, is_settled, tun, way
from tests.netns.test_full_tunnel import Ends, can_reach, desired, ends
from tests.netns.test_layout_pins import program
from tests.netns.world import Host, Uplink

__all__ = ["ends"]

TUNNEL = '[host]\nlan = "tunnel"\n'
ADDRESSES = 'addresses = ["10.66.0.1/32", "fd66::1/128"]'


def beside(cl: Host) -> None:
    """br0: 172.20.0.1/16 and fd20::1/64."""
    cl.ip("link add br0 type bridge")
    cl.ip("link set br0 up")
    cl.ip("addr add 172.20.0.1/16 dev br0")
    cl.ip("-6 addr add fd20::1/64 dev br0 nodad")


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("host", ['lan_except = ["br*"]', 'lan_except = ["172.16.0.0/12", "fd20::/16"]', 'lan = "tunnel"'])
def test_a_prefix_that_equals_one(uplink: Uplink, host: str, is_full: bool) -> None:
    cl = uplink.cl
    beside(cl)
    before = cl.snapshot()
    full = tun("f", "0.0.0.0/0", lines=BYPASS) if is_full else ""
    split = tun("s", "172.20.0.0/16 fd20::/64 10.20.0.0/16", lines=f"{BYPASS}\n{ADDRESSES}")
    done = apply(cl, split + full, top=f"[host]\n{host}\n")
    assert "172.20.0.0/16 goes into the tunnel, though the host stands in this network" in done.stdout
    assert [way(cl, address) for address in ("172.20.9.9", "fd20::9", "10.20.9.9")] == ["tun-s"] * 3
    assert way(cl, "172.20.0.1") == "lo"
    assert is_settled(cl)
    cl.ip("link del tun-s")
    assert way(cl, "172.20.9.9") == ("tun-f" if is_full else "br0")  # on_failure = "bypass"
    cl.tunctl("reconcile")
    assert way(cl, "172.20.9.9") == "tun-s"
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before


def test_packets_and_the_engine_in_it(ends: Ends) -> None:
    """The endpoint lies in the network that goes into the tunnel: no loop, and nothing else of it in clear."""
    cl, gw, _ = ends
    gw.ip("addr add 192.168.50.200/32 dev lo")
    text = desired(ends, '"192.168.50.0/24"').replace("[tunnels.full]", f"{TUNNEL}[tunnels.full]", 1)
    cl.tunctl("apply", cl.write("d.toml", text.replace("203.0.113.10:", "192.168.50.1:")))
    gw.start(["tcpdump", "-ni", "gw0", "-l", "--immediate-mode", "icmp or arp host 192.168.50.200"], log="wire")
    wire = (gw.dir / "wire").read_text
    world.wait_until(lambda: "listening" in wire(), 30, "tcpdump")
    can_reach(ends, "192.168.50.200")
    assert way(cl, "192.168.50.1", "mark", "0x3174") == "cl0"
    assert is_settled(cl)
    gw.ip("addr add 192.168.50.201/32 dev lo")
    cl.tunctl("down", "full")
    cl.run(["ping", "-c1", "-W2", "192.168.50.201"])  # in clear now: this is what would be seen
    world.wait_until(lambda: "192.168.50.201" in wire(), 30, "the packet after it")
    assert "192.168.50.200" not in wire().partition("listening")[2].partition("\n")[2]


def test_a_program_that_cannot_mark(uplink: Uplink) -> None:
    cl = uplink.cl
    apply(cl, program('"192.168.50.1"', '"192.168.50.0/24"'), top=TUNNEL)
    assert way(cl, "192.168.50.1") == "cl0"
    assert way(cl, "192.168.50.9") == "tun-pump"
    assert is_settled(cl)


def test_longer_prefixes_and_networks_inside_it(uplink: Uplink) -> None:
    """A longer one of another tunnel, and a network that does stay local."""
    cl = uplink.cl
    beside(cl)
    cl.ip("link add eth9 type bridge")
    cl.ip("link set eth9 up")
    cl.ip("addr add 172.20.7.1/24 dev eth9")
    apply(cl, tun("s", "172.20.0.0/16") + tun("long", "172.20.30.0/24"), top='[host]\nlan_except = ["br*"]\n')
    assert [way(cl, address) for address in ("172.20.9.9", "172.20.30.9", "172.20.7.9")] == ["tun-s", "tun-long", "eth9"]
    assert is_settled(cl)


def test_it_comes_and_goes(uplink: Uplink) -> None:
    cl = uplink.cl
    apply(cl, tun("s", "172.20.0.0/16"), top='[host]\nlan_except = ["br*"]\n')
    assert "dev tun-s" in cl.ip("route show table main 172.20.0.0/16")
    beside(cl)
    cl.tunctl("reconcile")
    assert way(cl, "172.20.9.9") == "tun-s"
    assert is_settled(cl)
    cl.ip("link del br0")
    cl.tunctl("reconcile")
    assert "dev tun-s" in cl.ip("route show table main 172.20.0.0/16")
    assert cl.ip("route show table 20999", check=False) == ""
    assert is_settled(cl)


def test_two_tunnels_cannot_both_have_it(uplink: Uplink) -> None:
    cl = uplink.cl
    beside(cl)
    done = apply(cl, tun("a", "172.20.0.0/16") + tun("b", "172.20.0.0/16"), top='[host]\nlan_except = ["br*"]\n', expect=73)
    assert "172.20.0.0/16" in done.stderr
    assert way(cl, "172.20.9.9") == "tun-a"


def test_a_network_inside_a_direct_prefix_stays_on_its_link(uplink: Uplink) -> None:
    """Not by the gateway of the uplink."""
    cl = uplink.cl
    beside(cl)
    apply(cl, tun("s", "10.0.0.0/8", more='[[tunnels.s.split.direct]]\ncidr = "172.16.0.0/12"'))
    assert way(cl, "172.20.9.9") == "br0"
    assert way(cl, "172.21.9.9") == "cl0"
    assert is_settled(cl)
