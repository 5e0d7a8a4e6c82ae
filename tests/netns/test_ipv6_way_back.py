"""IPv6 that should be unreachable: what the host begins must not take the way that is for answers. Packets are the judge,
because `ip route get` asks once, and the kernel asks again for a sender that has no address yet (see layout.begun)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.netns.scenario import exec_, reasons, tun
from tests.netns.site import HOST6, SERVER6, Site, answer, build
from tests.netns.world import PROJECT, Host, wait_until

CLIENT = "2001:db8:99::11"  # beyond the gateway, too: asks the host, and is never asked
NEIGHBOUR = "2001:db8:50::1"
FULL4 = tun("full", routes=("0.0.0.0/0",))
FULL = exec_("full", addresses=("10.9.0.2/32", "fd09::2/128"), routes=("0.0.0.0/0", "::/0"), keys="mtu = 1400")
_BEGIN = """
import json, socket, sys
to, said = sys.argv[1], {}
def begin(word, kind, use, proto=0):
    with socket.socket(socket.AF_INET6, kind, proto) as s:
        s.settimeout(1)
        try:
            use(s)
            said[word] = ""
        except OSError as error:
            said[word] = error.strerror or "timed out"
def answered(s):
    s.send(b"x")
    s.recv(9)
begin("tcp", socket.SOCK_STREAM, lambda s: s.connect((to, 80)))
begin("tcp from a port", socket.SOCK_STREAM, lambda s: (s.bind(("::", 7070)), s.connect((to, 80))))
begin("udp", socket.SOCK_DGRAM, lambda s: s.sendto(b"x", (to, 9)))
begin("udp, connected", socket.SOCK_DGRAM, lambda s: (s.connect((to, 9)), answered(s)))
begin("ping", socket.SOCK_RAW, lambda s: s.sendto(bytes((128, 0, 0, 0, 0, 0, 0, 1)), (to, 0)), socket.IPPROTO_ICMPV6)
print(json.dumps(said))
"""


@pytest.fixture
def site(hosts: Callable[[str], Host]) -> Site:
    site = build(hosts)
    site.gw.ip(f"-6 addr add {CLIENT}/128 dev lo")
    answer(site.cl, "6")
    site.cl.start(["socat", "UDP6-RECVFROM:5353,fork", "PIPE"])
    site.gw.start(["tcpdump", "-ni", "gw0", "-l", "--immediate-mode", "ip6", "host", SERVER6], log="wire")
    wait_until(lambda: "listening" in (site.gw.dir / "wire").read_text(), 30, "tcpdump")
    wait_until(lambda: is_answered(site), 30, "the host answers")
    return site


def begun(host: Host, to: str, *, user: int = 0) -> dict[str, str]:
    """What the kernel says to programs that begin something; "" is nothing."""
    words = (
        [] if not user else ["setpriv", f"--reuid={user}", "--clear-groups", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"]
    )
    said: dict[str, str] = json.loads(host.run([*words, "/usr/bin/python3", "-c", _BEGIN, to]).stdout)
    return said


def leaked(site: Site) -> list[str]:
    """What went to the server in clear: a packet behind all of them has been heard."""
    site.gw.run(["ping", "-c1", "-W1", "-I", SERVER6, HOST6], check=False)
    wire = lambda: (site.gw.dir / "wire").read_text().splitlines()  # noqa: E731
    wait_until(lambda: any("echo request" in line and f"> {HOST6}" in line for line in wire()), 30, "the end of the wire")
    return [line for line in wire() if f"> {SERVER6}" in line and "echo reply" not in line]


def is_answered(site: Site) -> bool:
    """Over TCP, UDP and ICMP, by the uplink's address, to somebody whom only the default route leads to."""
    tcp = site.gw.run(["socat", "-T1", "-", f"TCP6:[{HOST6}]:80,bind=[{CLIENT}],connect-timeout=1"], check=False, stdin="")
    udp = site.gw.run(["socat", "-T1", "-", f"UDP6:[{HOST6}]:5353,bind=[{CLIENT}]"], check=False, stdin="who?")
    ping = site.gw.run(["ping", "-c1", "-W1", "-I", CLIENT, HOST6], check=False)
    return bool(tcp.stdout.strip()) and udp.stdout == "who?" and ping.returncode == 0


def refuses(site: Site) -> None:
    said = begun(site.cl, SERVER6)
    assert all(said.values()), said
    assert "timed out" not in said.values()
    assert leaked(site) == []
    assert is_answered(site)


def test_a_family_that_a_full_tunnel_does_not_have(site: Site) -> None:
    before = site.cl.snapshot()
    assert begun(site.cl, SERVER6)["tcp"] == ""
    site.cl.tunctl("apply", site.file(FULL4 + '[[tunnels.full.split.direct]]\ncidr = "2001:db8:98::/64"\n'))
    (site.gw.dir / "wire").write_text("")
    refuses(site)
    site.gw.ip("-6 addr add 2001:db8:98::1/128 dev lo")
    for near in (NEIGHBOUR, "2001:db8:98::1", "fd70::2"):
        assert site.cl.run(["ping", "-c1", "-W1", near], check=False).returncode == 0, near
    assert begun(site.cl, "2001:db8:98::1")["tcp"] == ""
    assert "no changes" in site.cl.tunctl("reconcile").stdout
    site.cl.tunctl("down", "full")
    assert site.cl.snapshot() == before


def test_a_full_tunnel_whose_engine_died(site: Site) -> None:
    site.cl.tunctl("apply", site.file(FULL))
    (pid,) = (tunnel["owner"]["pid"] for tunnel in site.cl.json("status", "full")["tunnels"])
    assert begun(site.cl, SERVER6)["udp"] == ""  # into the tunnel
    site.cl.run(["kill", "-KILL", str(pid)])
    wait_until(lambda: "tun-full" not in site.cl.ip("link"), 30, "the device went with its program")
    refuses(site)


def test_who_was_told_of_no_way_is_not_let_out_when_one_comes(site: Site) -> None:
    """The filter is asked behind the sender. A packet on its way to the uplink is what one that was told so in the last moment
    would be: it is rejected also when the tunnel's route is there again, until a look has seen that."""
    bound = ["socat", "-T1", "-", f"UDP6:[{SERVER6}]:9,bind=[{HOST6}]"]
    device = tun("full", addresses=("10.9.0.2/32", "fd09::2/128"), routes=("0.0.0.0/0", "::/0"), keys="mtu = 1400")
    site.cl.tunctl("apply", site.file(device))
    holder = hold(site.cl)
    site.cl.tunctl("reconcile")
    assert held_back(site.cl) == 0
    holder.kill()
    holder.wait()
    wait_until(lambda: not has_carrier(site.cl), 30, "nobody holds the device")
    assert "rule -6 priority 20499" in site.cl.tunctl("reconcile").stdout
    assert "no changes" in site.cl.tunctl("reconcile").stdout
    (site.gw.dir / "wire").write_text("")
    refuses(site)
    hold(site.cl)
    assert begun(site.cl, SERVER6)["udp"] == "", "into the tunnel"
    site.cl.run(bound, check=False, stdin="x")
    assert leaked(site) == []
    assert "rule -6 priority 20499" in site.cl.tunctl("reconcile").stdout
    assert held_back(site.cl) == 0
    assert "no changes" in site.cl.tunctl("reconcile").stdout
    site.cl.run(bound, check=False, stdin="x")
    assert len(leaked(site)) == 1, "who wants the uplink itself has it, as ever"


def hold(host: Host) -> subprocess.Popen[str]:
    """A program opens the device of `full`: its routes count again."""
    program = host.start([sys.executable, PROJECT / "tests/programs/holder.py", "tun-full"])
    wait_until(lambda: has_carrier(host), 30, "the device is held")
    return program


def has_carrier(host: Host) -> bool:
    return "NO-CARRIER" not in host.ip_json("link show tun-full")[0]["flags"]


def held_back(host: Host) -> int:
    return host.ip("-6 rule").count("20499:")


@pytest.mark.parametrize("user", [0, 1000])
def test_a_prefix_and_a_user_whose_tunnel_is_dead(site: Site, user: int) -> None:
    """Nobody has opened the device. Others go by the uplink as ever, from any user."""
    rule = "[[tunnels.demo.rules]]\nuid_range = 1000\nlookup = 'tunnel'\n" if user else ""
    prefix = "::/0" if user else "2001:db8:99::/64"
    dead = tun("demo", routes=(prefix,), keys='on_failure = "block"', tables=rule)
    site.cl.tunctl("apply", site.file(dead, tun("main", routes=("fd99::/16",), addresses=("10.9.1.2/32",))))
    (site.gw.dir / "wire").write_text("")
    said = begun(site.cl, SERVER6, user=user)
    assert all(said.values()), said
    assert leaked(site) == []
    assert is_answered(site)
    others = SERVER6 if user else "2001:db8:98::1"
    site.gw.ip("-6 addr add 2001:db8:98::1/128 dev lo")
    assert begun(site.cl, others)["tcp"] == ""


def test_a_filter_that_somebody_flushed_comes_back(site: Site) -> None:
    site.cl.tunctl("apply", site.file(FULL4))
    site.cl.run(["nft", "flush", "ruleset"])
    assert "nat rules missing" in reasons(site.cl, "full", expect=3)
    site.cl.tunctl("reconcile")
    (site.gw.dir / "wire").write_text("")
    refuses(site)
