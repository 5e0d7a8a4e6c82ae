"""No loop (guarantee 10): engines' own packets stay out of the tunnels, whatever rules and prefixes say."""

from __future__ import annotations

import threading

import pytest

from tests.netns.layouts import OUTSIDE, apply, is_settled, is_unreachable, way
from tests.netns.test_full_tunnel import ENDPOINT, Ends, can_reach, desired, ends
from tests.netns.world import Uplink

__all__ = ["ends"]


def program(remote: str, to: str = '"0.0.0.0/0"', more: str = "") -> str:
    """A program that cannot mark its packets; it only listens."""
    return f"""
[tunnels.pump]
driver = "exec"
interface = "tun-pump"
addresses = ["10.53.0.1/32"]
[tunnels.pump.exec]
command = ["/usr/bin/socat", "-u", "UDP-RECV:7000", "TUN,tun-name={{interface}},tun-type=tun,iff-no-pi,iff-up"]
remote = [{remote}]
[[tunnels.pump.routes]]
to = [{to}]
{more}
"""


def test_a_pin_stays_while_its_name_cannot_be_looked_up(uplink: Uplink) -> None:
    """Guarantee 13. It even follows the uplink."""
    cl = uplink.cl
    cl.write_etc("hosts", f"127.0.0.1 localhost\n{ENDPOINT} vpn.example.com\n")
    apply(cl, program('"vpn.example.com"'))
    assert way(cl, ENDPOINT) == "cl0"
    assert way(cl, OUTSIDE) == "tun-pump"
    cl.write_etc("hosts", "127.0.0.1 localhost\n")
    assert cl.json("status", "pump", expect=0)["tunnels"][0]["verdict"] == "connected"
    cl.tunctl("reconcile")
    assert way(cl, ENDPOINT) == "cl0"
    cl.ip("route replace default via 192.168.50.254 dev cl0")
    cl.tunctl("reconcile")
    assert cl.ip(f"route show table 20000 {ENDPOINT}").split()[:3] == [ENDPOINT, "via", "192.168.50.254"]
    cl.write_etc("hosts", "127.0.0.1 localhost\n203.0.113.11 vpn.example.com\n")
    cl.tunctl("reconcile")
    assert way(cl, "203.0.113.11") == "cl0"
    assert way(cl, ENDPOINT) == "tun-pump"


def test_an_endpoint_of_a_family_that_the_host_has_not(ends: Ends) -> None:
    """A name with addresses of both families, on a host of one."""
    ends.cl.write_etc("hosts", f"127.0.0.1 localhost\n{ENDPOINT} vpn.example.com\n2001:db8:77::1 vpn.example.com\n")
    text = desired(ends, '"0.0.0.0/0", "::/0"', "mtu = 1400").replace(f"{ENDPOINT}:", "vpn.example.com:")
    ends.cl.tunctl("apply", ends.cl.write("d.toml", text))
    can_reach(ends, OUTSIDE)
    assert is_settled(ends.cl)


def test_an_unreachable_endpoint_is_not_sought_in_the_tunnel(uplink: Uplink) -> None:
    apply(uplink.cl, program(f'"{ENDPOINT}", "2001:db8:77::1"', '"0.0.0.0/0", "::/0"'))
    assert way(uplink.cl, ENDPOINT) == "cl0"
    assert is_unreachable(uplink.cl, "2001:db8:77::1")
    assert is_settled(uplink.cl)


def test_a_rule_about_who_sends_does_not_catch_the_engine(ends: Ends) -> None:
    """wireguard-go runs as root, too."""
    rule = '[[tunnels.full.rules]]\nuid_range = "0-100"\nlookup = "tunnel"'
    before = ends.cl.snapshot()
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, '"0.0.0.0/0"', rule)))
    assert way(ends.cl, ENDPOINT, "mark", "0x3174") == "cl0"
    can_reach(ends, OUTSIDE)
    assert is_settled(ends.cl)
    ends.cl.tunctl("down", "full")
    assert ends.cl.snapshot() == before


def test_a_rule_about_who_sends_does_not_catch_a_program_that_cannot_mark(uplink: Uplink) -> None:
    apply(uplink.cl, program(f'"{ENDPOINT}"', more='[[tunnels.pump.rules]]\nuid_range = "0-100"\nlookup = "tunnel"'))
    assert way(uplink.cl, OUTSIDE) == "tun-pump"
    assert way(uplink.cl, ENDPOINT) == "cl0"


def test_an_endpoint_in_a_network_that_does_not_stay_local(uplink: Uplink) -> None:
    apply(uplink.cl, program('"192.168.50.1"'), top='[host]\nlan = "tunnel"\n')
    assert way(uplink.cl, "192.168.50.1") == "cl0"
    assert way(uplink.cl, "192.168.50.9") == "tun-pump"
    assert is_settled(uplink.cl)


@pytest.mark.parametrize("allowed", ["192.168.50.0/25", "192.168.0.0/16"])
def test_an_endpoint_in_the_lan_under_a_prefix_in_main(ends: Ends, allowed: str) -> None:
    text = desired(ends, f'"{allowed}"').replace("[tunnels.full]", '[host]\nlan = "tunnel"\n[tunnels.full]', 1)
    ends.cl.tunctl("apply", ends.cl.write("d.toml", text.replace(f"{ENDPOINT}:", "192.168.50.1:")))
    assert way(ends.cl, "192.168.50.1", "mark", "0x3174") == "cl0"
    is_inside = allowed.endswith("/25")  # else the LAN is longer
    assert bool(ends.cl.ip("route show table main 192.168.50.1")) is is_inside
    assert way(ends.cl, "192.168.50.9") == ("wg-full" if is_inside else "cl0")
    assert is_settled(ends.cl)


def test_a_pin_is_kept_while_the_host_has_no_gateway(uplink: Uplink) -> None:
    """S39, F23: kept by the one that was there last, and said."""
    cl = uplink.cl
    apply(cl, program(f'"{ENDPOINT}"'))
    pinned = cl.ip(f"route show table 20000 {ENDPOINT}")
    cl.ip("route del default")
    cl.tunctl("reconcile")
    assert cl.ip(f"route show table 20000 {ENDPOINT}") == pinned
    assert way(cl, ENDPOINT) == "cl0"
    assert cl.json("status", "pump", expect=3)["tunnels"][0]["reasons"] == ["gateway unknown, keeping 192.168.50.1"]
    cl.ip("route add default via 192.168.50.254 dev cl0")
    cl.tunctl("reconcile")
    assert cl.ip(f"route show table 20000 {ENDPOINT}").split()[:3] == [ENDPOINT, "via", "192.168.50.254"]
    assert cl.json("status", "pump", expect=0)["tunnels"][0]["reasons"] == []


def test_an_uplink_that_goes_does_not_leave_the_endpoint_in_the_tunnel(uplink: Uplink) -> None:
    """F21, F23: the kernel takes the pin away with the link, long before the next pass."""
    cl = uplink.cl
    before = cl.snapshot()
    apply(cl, program(f'"{ENDPOINT}"'))
    for command in ((), ("reconcile",)):
        cl.ip("link set cl0 down")
        if command:
            cl.tunctl(*command, expect=None)
        assert is_unreachable(cl, ENDPOINT)
        cl.ip("link set cl0 up")
        cl.ip("route add default via 192.168.50.1 dev cl0")
        cl.tunctl("reconcile")
        assert way(cl, ENDPOINT) == "cl0"
        assert is_settled(cl)
    cl.tunctl("down", "pump")
    assert cl.snapshot() == before


def test_an_uplink_that_goes_does_not_leave_the_endpoint_under_a_prefix_in_main(ends: Ends) -> None:
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, '"203.0.113.0/24", "8.8.8.0/24"')))
    can_reach(ends, OUTSIDE)
    ends.cl.ip("link set cl0 down")
    assert is_unreachable(ends.cl, ENDPOINT, "mark", "0x3174")
    ends.cl.ip("link set cl0 up")
    ends.cl.ip("route add default via 192.168.50.1 dev cl0")
    ends.cl.tunctl("reconcile")
    can_reach(ends, OUTSIDE)
    assert is_settled(ends.cl)


@pytest.mark.parametrize("engine", ["marks", "cannot mark"])
def test_an_endpoint_in_a_direct_prefix(ends: Ends, engine: str) -> None:
    """No contradiction, but nobody should have to find out."""
    direct = 'cidr = "203.0.113.0/24"'
    if engine == "marks":
        text = desired(ends, '"0.0.0.0/0"', f"[[tunnels.full.split.direct]]\n{direct}")
    else:
        text = program(f'"{ENDPOINT}"', more=f"[[tunnels.pump.split.direct]]\n{direct}")
        text = f"version = 1\n{text}"
    done = ends.cl.tunctl("apply", ends.cl.write("d.toml", text))
    assert f"the endpoint {ENDPOINT} lies in direct 203.0.113.0/24" in done.stdout
    assert way(ends.cl, ENDPOINT, "mark", "0x3174") == "cl0"
    assert way(ends.cl, ENDPOINT) == "cl0"
    assert way(ends.cl, "203.0.113.77") == "cl0"
    assert is_settled(ends.cl)


def test_the_endpoint_of_a_program_never_lies_in_a_tunnel(uplink: Uplink) -> None:
    """S37, for one that cannot mark its packets: up, down, from a full tunnel to a prefix in `main` and back."""
    cl = uplink.cl
    seen, stop = set[str](), threading.Event()

    def ask() -> None:
        while not stop.wait(0.005):
            seen.add(cl.ip(f"route get {ENDPOINT}", check=False).split(" dev ")[-1].split(" ")[0])

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        for to in ('"0.0.0.0/0"', '"203.0.113.0/24"', '"0.0.0.0/0"'):
            apply(cl, program(f'"{ENDPOINT}"', to))
        for command in ("down", "up", "down"):
            cl.tunctl(command, "pump")
    finally:
        stop.set()
        thread.join()
    assert seen == {"cl0"}
