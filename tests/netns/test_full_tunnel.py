"""Full and split tunnels, the LAN, pins, the way back: real packets over a real uplink are the judge."""

from __future__ import annotations

import subprocess
from typing import NamedTuple

import pytest

from tests.netns import world
from tests.netns.world import Host, Uplink

OUTSIDE = "8.8.8.8"  # on the gateway's lo: reached beside the tunnel and through it
ENDPOINT = "203.0.113.10"


class Ends(NamedTuple):
    """The host under test, its gateway, and a WireGuard server on the gateway."""

    cl: Host
    gw: Host
    server_key: str


@pytest.fixture
def ends(uplink: Uplink) -> Ends:
    cl, gw = uplink.cl, uplink.gw
    for address in (OUTSIDE, "198.51.100.7"):
        gw.ip(f"addr add {address}/32 dev lo")
    key = gw.run(["wg", "genkey"]).stdout.strip()
    client = cl.run(["wg", "genkey"]).stdout.strip()
    cl.write("cl.key", client + "\n", 0o600)
    client_public = cl.run(["wg", "pubkey"], stdin=client).stdout.strip()
    owner = gw.start_wireguard("wgs")
    path = gw.write("gw.key", key + "\n", 0o600)
    words = f"set wgs private-key {path} listen-port 51820 peer {client_public} allowed-ips 10.8.0.2/32,fd08::2/128"
    gw.run_beside(owner.pid, ["wg", *words.split()])
    gw.ip("addr add 10.8.0.1/24 dev wgs")
    gw.ip("-6 addr add fd08::1/64 dev wgs nodad")
    gw.ip("link set wgs up")
    return Ends(cl, gw, gw.run(["wg", "pubkey"], stdin=key).stdout.strip())


def desired(ends: Ends, allowed: str, more: str = "", peer: str = "") -> str:
    return f"""
version = 1
source = "full"
[tunnels.full]
driver = "wireguard"
interface = "wg-full"
addresses = ["10.8.0.2/32"]
{more}
[tunnels.full.wireguard]
private_key_file = "cl.key"
[[tunnels.full.wireguard.peers]]
name = "gw"
public_key = "{ends.server_key}"
endpoint = "{ENDPOINT}:51820"
allowed_ips = [{allowed}]
keepalive = "1s"
{peer}
"""


FULL = '"0.0.0.0/0"'


def apply(ends: Ends, allowed: str = FULL, more: str = "", **words: str) -> None:
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, allowed, more, **words)))


def dev_of(host: Host, address: str, *words: str) -> str:
    done = host.run(["ip", *(["-6"] if ":" in address else []), "-j", "route", "get", address, *words], check=False)
    found = [word for word in done.stdout.split('"') if word]
    return found[found.index("dev") + 2] if "dev" in found else done.stderr.strip()


def ping(host: Host, address: str, *words: str) -> bool:
    return host.run(["ping", "-c", "1", "-W", "2", *words, address], check=False).returncode == 0


def can_reach(ends: Ends, address: str) -> None:
    world.wait_until(lambda: ping(ends.cl, address), 30, f"a way to {address}")


@pytest.mark.parametrize("allowed", [FULL, '"0.0.0.0/1", "128.0.0.0/1"'], ids=["whole", "halves"])
def test_everything_goes_through_but_the_lan_and_its_own_packets(ends: Ends, allowed: str) -> None:
    before, default = ends.cl.snapshot(), ends.cl.ip("route show default")
    apply(ends, allowed)
    can_reach(ends, OUTSIDE)
    assert dev_of(ends.cl, OUTSIDE) == "wg-full"
    assert dev_of(ends.cl, "192.168.50.1") == "cl0"
    assert dev_of(ends.cl, ENDPOINT, "mark", "0x3174") == "cl0"
    assert ends.cl.ip("route show default") == default
    assert ends.cl.json("status", "full", expect=0)["tunnels"][0]["verdict"] == "connected"
    ends.cl.tunctl("apply", "d.toml")
    assert "no changes" in ends.cl.tunctl("apply", str(ends.cl.dir / "d.toml")).stdout
    ends.cl.tunctl("down", "full")
    assert ends.cl.snapshot() == before


def test_a_rogue_route_leads_nobody_past_the_tunnel(ends: Ends) -> None:
    """TunnelVision: routes that a DHCP server hands out, in `main`."""
    apply(ends)
    can_reach(ends, OUTSIDE)
    for prefix in ("0.0.0.0/1", "8.8.0.0/16"):
        ends.cl.ip(f"route add {prefix} via 192.168.50.1 dev cl0")
    assert dev_of(ends.cl, OUTSIDE) == "wg-full"


def test_ipv6_does_not_leak_beside_a_full_ipv4_tunnel(ends: Ends) -> None:
    ends.cl.ip("-6 addr add fd50::2/64 dev cl0 nodad")
    ends.gw.ip("-6 addr add fd50::1/64 dev gw0 nodad")
    ends.cl.ip("-6 route add default via fd50::1")
    done = ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, FULL)))
    assert "full: IPv6 is unreachable while it is up, but for the LAN (ipv6_leak)" in done.stdout
    assert "No route to host" in dev_of(ends.cl, "2001:db8::1") or "unreachable" in dev_of(ends.cl, "2001:db8::1")
    assert ping(ends.cl, "fd50::1")
    apply(ends, more='ipv6_leak = "allow"')
    assert dev_of(ends.cl, "2001:db8::1") == "cl0"


def capture(ends: Ends) -> subprocess.Popen[bytes]:
    """Whatever is for OUTSIDE on the wire of the uplink, in clear."""
    return ends.gw.start(["tcpdump", "-ni", "gw0", "-l", "--immediate-mode", "host", OUTSIDE], log=ends.gw.dir / "wire")


@pytest.mark.parametrize("how", ["owner", "link"])
def test_a_dead_tunnel_is_an_error_and_no_leak(ends: Ends, how: str) -> None:
    apply(ends)
    can_reach(ends, OUTSIDE)
    capture(ends)
    wire = ends.gw.dir / "wire"
    world.wait_until(lambda: "listening" in wire.read_text(), 30, "tcpdump")
    if how == "owner":
        pid = ends.cl.json("status", "full", expect=0)["tunnels"][0]["owner"]["pid"]
        ends.cl.run(["kill", "-KILL", str(pid)])
    else:
        ends.cl.ip("link del wg-full")

    def refused() -> bool:
        done = ends.cl.run(["ping", "-c", "1", "-W", "1", OUTSIDE], check=False)
        return "No route to host" in done.stderr + done.stdout or "unreachable" in (done.stderr + done.stdout).lower()

    world.wait_until(refused, 5, "an immediate error")
    status = ends.cl.json("status", "full", expect=2 if how == "link" else 3)
    assert status["tunnels"][0]["verdict"] == ("stale" if how == "link" else "degraded")
    ends.cl.tunctl("reconcile")
    can_reach(ends, OUTSIDE)
    assert f"> {OUTSIDE}" not in wire.read_text()


def test_bypass_lets_it_fall_through(ends: Ends) -> None:
    apply(ends, more='on_failure = "bypass"')
    can_reach(ends, OUTSIDE)
    ends.cl.ip("link del wg-full")
    assert dev_of(ends.cl, OUTSIDE) == "cl0"


def test_without_a_gateway_nothing_is_begun_and_what_runs_keeps_its_way(ends: Ends) -> None:
    """S39."""
    ends.cl.ip("route del default")
    before = ends.cl.snapshot()
    done = ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, FULL)), expect=69)
    assert "no default gateway available to pin endpoint" in done.stderr
    assert ends.cl.snapshot() == before
    ends.cl.ip("route add default via 192.168.50.1")
    ends.cl.tunctl("reconcile")
    can_reach(ends, OUTSIDE)
    ends.cl.ip("route del default")
    ends.cl.tunctl("reconcile")
    assert "gateway unknown" in " ".join(ends.cl.json("status", "full", expect=3)["tunnels"][0]["reasons"])


def test_what_lies_in_the_lan_stays_out_and_comes_back(ends: Ends) -> None:
    """S44, S45."""
    apply(ends, '"192.168.50.0/24", "192.168.50.128/25", "192.168.0.0/16"')
    excluded = ends.cl.json("status", "full", expect=0)["tunnels"][0]["excluded"]
    assert [entry["to"] for entry in excluded] == ["192.168.50.0/24", "192.168.50.128/25"]
    assert all(entry["reason"] == "LAN 192.168.50.0/24 on cl0" for entry in excluded)
    assert ends.cl.tunctl("status", "full").stdout.count("Excluded: 192.168.50") == 2
    assert ping(ends.cl, "192.168.50.1")
    assert dev_of(ends.cl, "192.168.50.1") == "cl0"
    assert dev_of(ends.cl, "192.168.99.1") == "wg-full"
    ends.cl.ip("addr flush dev cl0 scope global")
    ends.cl.ip("addr add 172.20.0.2/24 dev cl0")
    ends.cl.tunctl("reconcile")
    assert "dev wg-full" in ends.cl.ip("route show 192.168.50.0/24")


def test_a_pin_only_where_a_prefix_covers_the_endpoint(ends: Ends) -> None:
    """S38, and for an engine that marks its packets too, where the prefix stands in `main`."""
    apply(ends, '"10.20.0.0/16"')
    assert ends.cl.ip(f"route show {ENDPOINT}") == ""
    apply(ends, '"10.20.0.0/16", "203.0.113.0/24"')
    assert "via 192.168.50.1 dev cl0" in ends.cl.ip(f"route show {ENDPOINT}")
    world.wait_until(
        lambda: ends.cl.json("status", "full", expect=0)["tunnels"][0]["peers"][0]["latest_handshake"], 30, "shake"
    )
    ends.cl.ip("addr add 192.168.50.253/24 dev cl0")
    ends.gw.ip("addr add 192.168.50.254/24 dev gw0")
    ends.cl.ip("route replace default via 192.168.50.254")
    ends.cl.tunctl("reconcile")
    assert ends.cl.ip(f"route show {ENDPOINT}").count("via") == 1
    assert "via 192.168.50.254" in ends.cl.ip(f"route show {ENDPOINT}")


def test_direct_prefixes_go_by_the_uplink(ends: Ends) -> None:
    apply(ends, FULL, more='[[tunnels.full.split.direct]]\ncidr = "198.51.100.0/24"')
    can_reach(ends, OUTSIDE)
    assert dev_of(ends.cl, "198.51.100.7") == "cl0"
    assert dev_of(ends.cl, OUTSIDE) == "wg-full"


def test_a_split_tunnel_beside_a_full_one_keeps_its_prefixes(ends: Ends) -> None:
    split = '\n[tunnels.split]\ndriver = "tun"\ninterface = "tun-split"\n[[tunnels.split.routes]]\nto = "198.51.100.0/24"\n'
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, FULL) + split))
    assert dev_of(ends.cl, "198.51.100.7") == "tun-split"
    assert dev_of(ends.cl, OUTSIDE) == "wg-full"


@pytest.mark.parametrize("first", ["full", "second"])
def test_two_full_tunnels_do_not_harm_each_other(ends: Ends, first: str) -> None:
    second = (
        '\n[tunnels.second]\ndriver = "tun"\ninterface = "tun-2"\nmetric = 50\naddresses = ["10.66.0.1/32"]\n'
        '[[tunnels.second.routes]]\nto = "0.0.0.0/0"\n'
    )
    before = ends.cl.snapshot()
    ends.cl.tunctl("apply", ends.cl.write("d.toml", desired(ends, FULL) + second))
    can_reach(ends, OUTSIDE)
    other = "second" if first == "full" else "full"
    ends.cl.tunctl("down", first)
    assert dev_of(ends.cl, "192.168.50.1") == "cl0"
    if first == "second":
        assert dev_of(ends.cl, ENDPOINT, "mark", "0x3174") == "cl0"
        can_reach(ends, OUTSIDE)
    ends.cl.tunctl("down", other)
    assert ends.cl.snapshot() == before


def answers(ends: Ends, client: str) -> bool:
    """A TCP connection from the gateway's address `client` to the uplink address of the host."""
    server = "import socket; s=socket.create_server(('192.168.50.2', 7777)); c,_=s.accept(); c.sendall(b'hello'); c.close()"
    ends.cl.start(["python3", "-c", server])
    asks = (
        "import socket,sys\n"
        f"s=socket.socket(); s.settimeout(3); s.bind(({client!r}, 0)); s.connect(('192.168.50.2', 7777)); print(s.recv(9))"
    )

    def try_once() -> bool:
        return "hello" in ends.gw.run(["python3", "-c", asks], check=False).stdout

    try:
        world.wait_until(try_once, 30, "an answer")
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("rp_filter", ["0", "1"])
def test_answers_leave_by_the_uplink_they_came_in_by(ends: Ends, rp_filter: str) -> None:
    for name in ("all", "cl0"):
        ends.cl.sysctl(f"net/ipv4/conf/{name}/rp_filter", rp_filter)
    ends.gw.ip("route add 192.168.50.2/32 dev gw0")
    apply(ends)
    can_reach(ends, OUTSIDE)
    assert answers(ends, OUTSIDE)


def test_answers_leave_by_the_uplink_though_a_prefix_in_main_covers_the_client(ends: Ends) -> None:
    apply(ends, '"8.8.8.0/24"')
    assert dev_of(ends.cl, OUTSIDE) == "wg-full"
    assert dev_of(ends.cl, OUTSIDE, "from", "192.168.50.2") == "cl0"
    assert answers(ends, OUTSIDE)


def test_a_program_that_cannot_mark_is_pinned(ends: Ends) -> None:
    pump = f"""
version = 1
source = "pump"
[tunnels.pump]
driver = "exec"
interface = "tun-pump"
addresses = ["10.53.0.1/32"]
[tunnels.pump.exec]
command = ["/usr/bin/socat", "UDP:{ENDPOINT}:7000", "TUN,tun-name={{interface}},tun-type=tun,iff-no-pi,iff-up"]
remote = ["{ENDPOINT}"]
[[tunnels.pump.routes]]
to = "0.0.0.0/0"
"""
    ends.gw.start(["socat", f"UDP-LISTEN:7000,bind={ENDPOINT},fork", "SYSTEM:sleep 60"])
    before = ends.cl.snapshot()
    ends.cl.tunctl("apply", ends.cl.write("pump.toml", pump))
    assert dev_of(ends.cl, ENDPOINT) == "cl0"
    assert dev_of(ends.cl, OUTSIDE) == "tun-pump"
    ends.cl.tunctl("down", "pump")
    assert ends.cl.snapshot() == before


def test_the_mtu_follows_the_way_to_the_endpoint(ends: Ends) -> None:
    apply(ends)
    assert ends.cl.json("status", "full", expect=0)["tunnels"][0]["mtu"] == 1420
    ends.cl.ip("link set cl0 mtu 1400")
    ends.cl.tunctl("reconcile")
    assert ends.cl.json("status", "full", expect=0)["tunnels"][0]["mtu"] == 1320
    ends.cl.ip("link set cl0 mtu 1300")  # below 1280 there is no IPv6, and it has none
    ends.cl.tunctl("reconcile")
    assert ends.cl.json("status", "full", expect=0)["tunnels"][0]["mtu"] == 1220
    ends.cl.ip("route del default")  # no way, no opinion
    ends.cl.tunctl("reconcile")
    assert ends.cl.json("status", "full", expect=3)["tunnels"][0]["mtu"] == 1220


def test_its_own_tunnel_is_no_way_to_the_endpoint(ends: Ends) -> None:
    """The rule for another mark is not there yet when the way is looked up."""
    apply(ends)
    text = (ends.cl.dir / "d.toml").read_text().replace('source = "full"', 'source = "full"\n[host]\nmark = "0x1234/0x3fff"')
    done = ends.cl.tunctl("apply", ends.cl.write("d.toml", text))
    assert "fwmark 0x1234/0x3fff" in done.stdout
    assert "mtu" not in done.stdout
