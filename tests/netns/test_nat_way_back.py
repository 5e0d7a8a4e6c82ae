"""Under a full tunnel: answers to what came in by the uplink leave by it, also those of containers behind a DNAT."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.netns.scenario import exec_, tun
from tests.netns.site import SERVER4, Site, answer, build, nat
from tests.netns.world import Host, wait_until

FULL = tun("full", routes=("0.0.0.0/0",), addresses=("10.9.0.2/32",))


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    """The LAN's host is a container: port 8080 of cl is its port 80, and it goes out as cl."""
    site = build(hosts)
    answer(site.lan)
    answer(site.cl)
    site.cl.sysctl("net/ipv4/ip_forward", 1)
    publish = "chain d { type nat hook prerouting priority dstnat; iifname cl0 tcp dport 8080 dnat to 10.70.0.2:80; }"
    hide = "chain s { type nat hook postrouting priority srcnat; oifname cl0 ip saddr 10.70.0.0/24 masquerade; }"
    site.cl.run(["nft", f"table ip docker {{ {publish}; {hide}; }}"])
    wait_until(lambda: reaches(site, 8080) and reaches(site, 80), 30, "the container answers")
    return site


def reaches(site: Site, port: int) -> bool:
    """From beyond the gateway, by an address that only the default route leads to."""
    to = f"TCP:192.168.50.2:{port},bind={SERVER4},connect-timeout=1"
    return site.gw.run(["socat", "-T1", "-", to], check=False, stdin="").stdout.strip() == SERVER4


@pytest.mark.parametrize("strict", [False, True])
def test_published_ports_are_reached(site: Site, *, strict: bool) -> None:
    for dev in ("all", "cl0", "lan0"):
        site.cl.sysctl(f"net/ipv4/conf/{dev}/rp_filter", int(strict))
    before = site.cl.snapshot()
    file = site.file(FULL)
    site.cl.tunctl("apply", file)
    assert reaches(site, 8080)
    assert reaches(site, 80)
    assert site.seen_as() == ""  # what the container begins itself goes into the tunnel, which nobody has opened
    assert (site.cl.sysctl("net/ipv4/conf/cl0/src_valid_mark") == "1") is strict
    assert site.cl.tunctl("reconcile").stdout.startswith("no changes")
    site.cl.run(["nft", "delete", "table", "inet", "tunctl"])
    assert not reaches(site, 8080)
    site.cl.tunctl("reconcile")
    assert reaches(site, 8080)
    site.cl.tunctl("down", "--all")
    assert reaches(site, 8080)
    assert site.cl.snapshot() == before


def test_a_neighbour_that_uses_the_host_as_its_router_goes_into_the_tunnel(site: Site) -> None:
    """It comes in by the uplink, too, but nothing is sent on to another address."""
    for dev in ("all", "cl0"):
        site.cl.sysctl(f"net/ipv4/conf/{dev}/rp_filter", 1)
    site.cl.tunctl("apply", site.file(exec_("full", routes=("0.0.0.0/0",))))
    site.gw.ip("addr add 192.168.50.9/24 dev gw0")
    site.gw.ip("route add 198.51.100.0/24 via 192.168.50.2 src 192.168.50.9")
    site.cl.run(["nft", "table inet probe { chain f { type filter hook forward priority 0; oifname tun-full counter; }; }"])
    site.gw.run(["ping", "-c1", "-W1", "198.51.100.7"], check=False)
    assert "packets 1" in site.cl.run(["nft", "list", "table", "inet", "probe"]).stdout


def test_a_host_that_does_not_forward_needs_none_of_it(site: Site) -> None:
    site.cl.sysctl("net/ipv4/ip_forward", 0)
    site.cl.ip("-6 route del default")  # with it, there is a filter for what IPv6 begins
    site.cl.tunctl("apply", site.file(FULL))
    assert site.rules() == []
    assert reaches(site, 80)


def test_a_network_that_becomes_its_own_outgoing_side(site: Site) -> None:
    """The laptop comes to a network that the file contradicts: refused, and nothing goes past the full tunnel for that."""
    cl = site.cl
    full = tun("full", routes=("0.0.0.0/0",), tables=nat("10.64.0.0/10", out="uplink").replace("NAME", "full"))
    cl.tunctl("apply", site.file(full))
    rules = cl.ip("rule")
    cl.ip("addr add 10.101.0.2/16 dev cl0")
    done = cl.tunctl("reconcile", expect=65)
    assert "nat source 10.64.0.0/10 contains 10.101.0.0/16" in done.stderr
    assert "lookup 20001" in cl.ip("rule")
    assert "cl0" in cl.ip("route get 10.101.0.9")  # the new network stays local
    cl.ip("addr del 10.101.0.2/16 dev cl0")
    cl.tunctl("reconcile")
    assert cl.ip("rule") == rules
