"""S16, S17, S19, S30, S76, F20, F21, F30, F62: a full tunnel with NAT and name servers, and what others do to it."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime

import pytest

from tests.netns import names, world
from tests.netns.engines import kill
from tests.netns.layouts import OUTSIDE, apply, is_settled, is_unreachable, tun, way
from tests.netns.names import answer, resolv_conf
from tests.netns.scenario import desired, dump, handles_file, reasons, verdict
from tests.netns.site import HOST4, LAN4, SERVER4, Site, nat
from tests.netns.test_forward import DOCKER, chains, wall
from tests.netns.test_layout_pins import program
from tests.netns.whole import NAMED, build, whole
from tests.netns.world import Host, Uplink

__all__ = ["whole"]


def works(site: Site) -> bool:
    """Names, the tunnel itself, and the LAN behind the host, through the tunnel, as the host."""
    through = site.cl.run(["ping", "-c1", "-W1", "10.8.0.1"], check=False).returncode == 0
    return through and answer(site.cl) == NAMED and site.seen_as() == "10.8.0.2"


def up(site: Site) -> None:
    site.cl.tunctl("apply", "d.toml")
    world.wait_until(lambda: works(site), 20, "the tunnel works")
    assert way(site.cl, OUTSIDE) == "wg-full"


def test_up_and_down_leave_no_trace(whole: Site) -> None:
    """S16: a full tunnel, name servers and NAT; what was there before includes resolv.conf and every switch."""
    cl = whole.cl
    before = cl.snapshot()
    up(whole)
    assert cl.snapshot() != before
    cl.tunctl("down", "full")
    assert cl.snapshot() == before
    again = cl.tunctl("down", "full")
    assert "not connected" in again.stdout + again.stderr
    assert "full" in cl.tunctl("down", "nonesuch", expect=64).stderr


def test_everything_is_killed_and_then_down(whole: Site) -> None:
    """S19: with a strict filter and a container's port, so that there is a switch to give back, too."""
    cl = whole.cl
    for dev in ("all", "cl0"):
        cl.sysctl(f"net/ipv4/conf/{dev}/rp_filter", 1)
    cl.run(
        [
            "nft",
            "table ip docker { chain d { type nat hook prerouting priority dstnat; tcp dport 8080 dnat to 10.70.0.2:80; }; }",
        ]
    )
    before = cl.snapshot()
    up(whole)
    assert cl.sysctl("net/ipv4/conf/cl0/src_valid_mark") == "1"
    for pid in cl.pids():
        kill(pid)
    assert resolv_conf(cl).startswith("# tunctl:full:")
    cl.tunctl("down", "full")
    assert cl.snapshot() == before


def test_the_order_of_down(uplink: Uplink) -> None:
    """S17, by the kernel's own clock: name servers first, then the routes into the tunnel, the pin behind all of them."""
    cl = names.lab(uplink).cl
    full = names.tunnel(keys='mtu = 1400\n[[tunnels.demo.routes]]\nto = "0.0.0.0/0"')
    remote = full.replace("[tunnels.demo.dns]", 'remote = ["203.0.113.10"]\n[tunnels.demo.dns]')
    cl.tunctl("apply", cl.write("d.toml", desired(remote)))
    assert "via 192.168.50.1" in cl.ip("route show table 20000 203.0.113.10")
    monitor = cl.start(["ip", "-ts", "monitor", "link", "route", "rule"], log="monitor")
    text = (cl.dir / "monitor").read_text
    world.wait_until(
        lambda: (
            cl.ip("addr add 127.9.9.9/32 dev lo", check=False) + cl.ip("addr del 127.9.9.9/32 dev lo") or "127.9.9.9" in text()
        ),
        5,
        "ip monitor",
    )
    cl.tunctl("down", "demo")
    world.wait_until(lambda: "203.0.113.10" in text(), 30, "the end of it")
    cl.kill(monitor)
    lines = [line for line in text().splitlines() if "127.9.9.9" not in line]
    led_there = next(number for number, line in enumerate(lines) if "20500:" in line)
    tunnel = max(number for number, line in enumerate(lines) if "tun-demo" in line)
    pin = min(number for number, line in enumerate(lines) if "203.0.113.10" in line)
    assert led_there < tunnel < pin, lines
    written = (world.NETNS_ETC / cl.name / "resolv.conf").stat().st_mtime
    first = next(line for line in lines if "Deleted" in line)
    assert written <= at(first), (written, first)


def at(line: str) -> float:
    """``[2026-11-20T14:26:29.123456] Deleted …`` → seconds since the epoch."""
    return datetime.fromisoformat(line.partition("]")[0].removeprefix("[")).timestamp()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("link set wg-full down", "admin down"),
        ("link set wg-full mtu 1300", "mtu 1300 != 1420"),
        ("addr del 10.8.0.2/32 dev wg-full", "address drift: address 10.8.0.2/32"),
        ("-4 addr flush dev wg-full", "address drift: address 10.8.0.2/32"),
    ],
)
def test_what_is_changed_on_the_interface(whole: Site, words: str, reason: str) -> None:
    """F20: named, and put right by one pass, with every route that the kernel took away."""
    cl = whole.cl
    up(whole)
    before = cl.snapshot()
    cl.ip(words)
    assert reason in reasons(cl, "full", expect=3)
    if "mtu" not in words:
        assert is_unreachable(cl, OUTSIDE)
    cl.tunctl("reconcile")
    assert cl.snapshot() == before
    assert verdict(cl, "full", expect=0)["reasons"] == []
    world.wait_until(lambda: works(whole), 20, "it works again")


def test_an_uplink_that_flaps(uplink: Uplink) -> None:
    """F21: what the kernel took away comes back once there is a gateway. Its default route is not ours to invent."""
    cl = uplink.cl
    apply(cl, program('"203.0.113.10"'))
    for words in ("link set cl0 down", "link set cl0 up"):
        cl.ip(words)
        cl.tunctl("reconcile")
        assert cl.ip("route show default") == ""
        assert is_unreachable(cl, "203.0.113.10")
        assert "gateway unknown" in reasons(cl, "pump", expect=3)
    cl.ip("route add default via 192.168.50.1 dev cl0")
    cl.tunctl("reconcile")
    assert cl.ip("route show table 20000 203.0.113.10").count("via") == 1
    assert way(cl, "203.0.113.10") == "cl0"
    assert cl.ip("route show default") == "default via 192.168.50.1 dev cl0 \n"
    assert is_settled(cl)


FLUSHES = {
    "routes": "ip route flush table all proto 115; ip -6 route flush table all proto 115",
    "tables": "for table in 20000 20001; do ip route flush table $table; ip -6 route flush table $table; done",
    "rules": "ip rule flush proto 115; ip -6 rule flush proto 115",
    "nft": "nft flush ruleset",
    "iptables": "iptables-legacy -F; iptables-legacy -X; ip6tables-legacy -F",
    "jumps": "iptables-legacy -F FORWARD; ip6tables-legacy -F FORWARD",  # into chains that stay
    "all of it": "ip route flush table all proto 115; ip rule flush proto 115; nft flush ruleset; iptables-legacy -F",
}


@pytest.mark.parametrize("what", FLUSHES)
def test_what_others_flush_is_rebuilt_exactly_once(whole: Site, what: str) -> None:
    """F30, behind a wall like Docker's: what was in its chains is the other one's business, what was ours is there again."""
    cl = whole.cl
    wall(cl, "iptables-legacy", DOCKER)
    up(whole)
    before, rules = cl.snapshot(), accepts(cl)
    assert len(rules) == 6
    cl.run(["sh", "-c", FLUSHES[what]])
    assert verdict(cl, "full", expect=3)["reasons"]
    cl.tunctl("reconcile")
    assert cl.snapshot() == before
    moved = [rule.replace("DOCKER-USER", "FORWARD") for rule in rules]
    families = {"iptables": (moved, moved), "jumps": (moved, moved), "all of it": (moved, rules)}.get(what, (rules, rules))
    assert accepts(cl) == sorted(
        r for four, rules_ in zip((True, False), families, strict=True) for r in rules_ if ("fd70" not in r) is four
    )
    assert "no changes" in cl.tunctl("reconcile").stdout
    assert verdict(cl, "full", expect=0)["reasons"] == []
    world.wait_until(lambda: works(whole), 20, "it works again")


def accepts(host: Host) -> list[str]:
    """Our rules in chains of others."""
    return sorted(line for line in chains(host).splitlines() if line.startswith("-A") and "tunctl:full" in line)


def test_the_kernel_chooses_a_name_for_nat_too(whole: Site) -> None:
    """S30."""
    cl = whole.cl
    cl.ip("tuntap add tun0 mode tun")
    entries = (nat(LAN4, out="tunnel"), nat(LAN4))
    auto = tun("a", "10.20.0.0/16", more="".join(entries).replace("NAME", "a")).replace('"tun-a"', '"auto"')
    apply(cl, auto)
    assert verdict(cl, "a")["interface"] == "tun1"
    assert json.loads(handles_file(cl, "a").read_text())["interface"] == "tun1"
    assert way(cl, "10.20.0.1") == "tun1"
    assert any('oifname "tun1" masquerade' in rule for rule in whole.rules())
    assert whole.seen_as(SERVER4) == HOST4
    assert is_settled(cl)


def test_a_tunnel_of_somebody_else_is_listed_and_left_alone(uplink: Uplink) -> None:
    """S76: what it leads to is no LAN that stays local, and it is never ours."""
    cl = uplink.cl
    cl.ip("tuntap add tailscale0 mode tun")
    cl.ip("addr add 100.64.0.1/10 dev tailscale0")
    cl.ip("link set tailscale0 up")
    before = cl.snapshot()
    apply(cl, tun("f", "0.0.0.0/0 100.64.0.0/10"))
    assert cl.json("status", expect=None)["unmanaged"] == [
        {"interface": "tailscale0", "kind": "tun", "addresses": ["100.64.0.1/10"]}
    ]
    assert "100.64.0.1/10 (CGNAT)" in cl.tunctl("status", expect=None).stdout
    assert verdict(cl, "f")["excluded"] == []
    assert way(cl, "100.64.9.9") == "tun-f"
    assert is_settled(cl)
    cl.tunctl("down", "f")
    assert cl.snapshot() == before


def test_the_namespace_is_deleted_under_it(host: Host) -> None:
    """F62: nothing is there any more, and nothing is owed. (That the test's own namespace is gone is what the helper says.)"""
    with pytest.raises(AssertionError, match="of this test is gone"), world.Hosts() as made:
        site = build(made.new)
        up(site)
        cl = site.cl
        assert 'INSERT INTO "ledger' in dump(cl)
        for place in ("state", "run"):
            shutil.copytree(cl.dir / place, host.dir / place)
        pid = verdict(cl, "full")["owner"]["pid"]
        subprocess.run(["ip", "netns", "del", cl.name], check=True, timeout=10)
        kill(pid)  # by its hand the namespace lived on
    assert verdict(host, "full")["verdict"] != "connected"
    host.tunctl("down", "full")
    assert 'INSERT INTO "ledger' not in dump(host)
    assert host.json("show", "full")["ledger"] == []
    assert "not connected" in host.tunctl("down", "full").stderr
