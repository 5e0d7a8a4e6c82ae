"""Two uplinks, each of which alone leads to its client: who answers by the wrong one is not heard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.netns import world
from tests.netns.layouts import OUTSIDE, apply, is_settled, is_unreachable, tun, way
from tests.netns.site import answer, bracketed
from tests.netns.world import Host

Make = Callable[[str], Host]
FULL = tun("f", "0.0.0.0/0 ::/0", lines='on_failure = "bypass"\naddresses = ["10.66.0.1/32", "fd66::1/128"]')


class Side(NamedTuple):
    """One of the two: the router there, its client's addresses on lo, and what it dials."""

    host: Host
    clients: tuple[str, str]
    dials: tuple[str, str]


class Two(NamedTuple):
    """cl0 192.168.50.2, 2001:db8:50::2 is the better one; cl1 192.168.60.2, 2001:db8:60::2. Port 80 of cl answers."""

    cl: Host
    better: Side
    worse: Side

    def hears(self, side: Side, number: int = 0, port: int = 80) -> bool:
        """Does a client on this side get its answer over TCP? `number`: 0 is IPv4, 1 IPv6."""
        client, dialled = side.clients[number], side.dials[number]
        words = f"TCP{'6' if number else ''}:{bracketed(dialled)}:{port},bind={bracketed(client)},connect-timeout=1"
        said = side.host.run(["socat", "-T1", "-", words], check=False, stdin="").stdout.strip().strip("[]")
        return bool(said)

    def all_hear(self, port: int = 80, numbers: tuple[int, ...] = (0, 1)) -> bool:
        return all(self.hears(side, number, port) for side in (self.better, self.worse) for number in numbers)


def side(cl: Host, router: Host, number: int, metric: int) -> Side:
    dev, ours = f"cl{number - 50 and 1}", f"gw{number - 50 and 1}"
    cl.ip(f"link add {dev} type veth peer name {ours} netns {router.name}")
    for host, name, end in ((cl, dev, 2), (router, ours, 1)):
        host.ip(f"addr add 192.168.{number}.{end}/24 dev {name}")
        host.ip(f"-6 addr add 2001:db8:{number}::{end}/64 dev {name} nodad")
        host.ip(f"link set {name} up")
    cl.ip(f"route add default via 192.168.{number}.1 dev {dev} metric {metric}")
    cl.ip(f"-6 route add default via 2001:db8:{number}::1 dev {dev} metric {metric}")
    clients = f"198.51.100.{number}", f"2001:db8:99::{number}"
    router.ip(f"addr add {clients[0]}/32 dev lo")
    router.ip(f"-6 addr add {clients[1]}/128 dev lo")
    for host, name in ((cl, dev), (router, ours)):
        world.wait_until(lambda host=host, name=name: "scope link" in host.ip(f"-6 addr show dev {name} -tentative"), 30, name)  # type: ignore[misc]
    return Side(router, clients, (f"192.168.{number}.2", f"2001:db8:{number}::2"))


@pytest.fixture
def two(hosts: Make) -> Two:
    cl = hosts("cl")
    made = Two(cl, side(cl, hosts("gw"), 50, 100), side(cl, hosts("other"), 60, 600))
    for family in ("4", "6"):
        answer(cl, family)
    world.wait_until(lambda: made.hears(made.better, 0) and made.hears(made.better, 1), 30, "cl answers")
    return made


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("what", ["full", "in main", "both"])
def test_each_client_is_answered_by_the_uplink_that_it_asked(two: Two, what: str, strict: bool) -> None:
    """Guarantee 15, whichever of them is the better one at the moment."""
    cl = two.cl
    for dev in ("all", "cl0", "cl1"):
        cl.sysctl(f"net/ipv4/conf/{dev}/rp_filter", int(strict))
    before = cl.snapshot()
    assert not two.hears(two.worse)  # without a tunnel the kernel answers by the better one
    covering = tun("m", "198.51.100.0/24 2001:db8:99::/64", lines='addresses = ["10.67.0.1/32", "fd67::1/128"]')
    apply(cl, (FULL if what != "in main" else "") + (covering if what != "full" else ""))
    assert two.all_hear()
    assert way(cl, "198.51.100.50") == ("tun-f" if what == "full" else "tun-m")
    assert is_settled(cl)
    rules = cl.ip("rule show")
    for family, gateway in (("-4", "192.168.60.1"), ("-6", "2001:db8:60::1")):
        cl.ip(f"{family} route del default via {gateway} dev cl1 metric 600")
        cl.ip(f"{family} route add default via {gateway} dev cl1 metric 50")
    cl.tunctl("reconcile")
    assert two.all_hear()
    assert cl.ip("rule show") == rules  # each keeps its table
    assert is_settled(cl)
    cl.ip("route del default via 192.168.60.1 dev cl1 metric 50")
    cl.ip("route add default via 192.168.60.1 dev cl1 metric 600")
    cl.ip("-6 route del default via 2001:db8:60::1 dev cl1 metric 50")
    cl.ip("-6 route add default via 2001:db8:60::1 dev cl1 metric 600")
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before


def test_an_uplink_that_goes_and_comes(two: Two) -> None:
    """Its answers go nowhere meanwhile, at once, and never into the tunnel."""
    cl = two.cl
    apply(cl, FULL)
    for is_noticed in (False, True):
        cl.ip("link set cl1 down")
        assert is_unreachable(cl, OUTSIDE, "from", "192.168.60.2")
        if is_noticed:
            cl.tunctl("reconcile")
            assert two.hears(two.better)
            assert is_settled(cl)
        cl.ip("link set cl1 up")
        cl.ip("-6 addr replace 2001:db8:60::2/64 dev cl1 nodad")
        cl.ip("route add default via 192.168.60.1 dev cl1 metric 600")
        cl.ip("-6 route replace default via 2001:db8:60::1 dev cl1 metric 600")
        cl.tunctl("reconcile")
        world.wait_until(two.all_hear, 30, "answers")
        assert is_settled(cl)


@pytest.fixture
def published(two: Two, hosts: Make) -> Two:
    """Port 8080 of both addresses is a container's port 80."""
    cl, box = two.cl, hosts("box")
    cl.ip(f"link add lan0 type veth peer name e0 netns {box.name}")
    for host, dev, number in ((cl, "lan0", 1), (box, "e0", 2)):
        host.ip(f"addr add 10.70.0.{number}/24 dev {dev}")
        host.ip(f"-6 addr add fd70::{number}/64 dev {dev} nodad")
        host.ip(f"link set {dev} up")
    box.ip("route add default via 10.70.0.1")
    box.ip("-6 route add default via fd70::1")
    for family in ("4", "6"):
        answer(box, family)
    box.start(["socat", "TCP4-LISTEN:81,fork,reuseaddr", "PIPE"])
    for switch in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        cl.sysctl(switch, 1)
    chain = "chain d { type nat hook prerouting priority dstnat;"
    four = f"{chain} tcp dport 8080 dnat to 10.70.0.2:80; tcp dport 8081 dnat to 10.70.0.2:81; }}"
    cl.run(["nft", f"table ip docker {{ {four}; }}; table ip6 docker {{ {chain} tcp dport 8080 dnat to [fd70::2]:80; }}; }}"])
    for host, dev in ((cl, "lan0"), (box, "e0")):
        world.wait_until(lambda host=host, dev=dev: "scope link" in host.ip(f"-6 addr show dev {dev} -tentative"), 30, dev)  # type: ignore[misc]
    world.wait_until(lambda: two.hears(two.better, 0, 8080) and two.hears(two.better, 1, 8080), 30, "the container answers")
    return two


def talk(side: Side) -> Callable[[], int]:
    """A connection to the container that stays: how often it was answered until now."""
    asks = (
        "import socket, time\n"
        f"s = socket.create_connection(({side.dials[0]!r}, 8081), source_address=({side.clients[0]!r}, 0))\n"
        "while True:\n s.sendall(b'x'); s.recv(1); print(flush=True); time.sleep(0.02)"
    )
    side.host.start(["python3", "-c", asks], log="talk")
    lines = (side.host.dir / "talk").read_text
    world.wait_until(lambda: lines().count("\n") > 3, 30, "a connection")
    return lambda: lines().count("\n")


@pytest.mark.parametrize("strict", [False, True])
def test_published_ports_are_answered_by_the_uplink_that_was_asked(published: Two, strict: bool) -> None:
    """DNAT: what answers has the container's address until it is on its way. The connection remembers the uplink."""
    cl = published.cl
    for dev in ("all", "cl0", "cl1", "lan0"):
        cl.sysctl(f"net/ipv4/conf/{dev}/rp_filter", int(strict))
    before = cl.snapshot()
    assert not published.hears(published.worse, 0, 8080)
    apply(cl, FULL)
    assert published.all_hear(8080)
    assert published.all_hear()
    assert is_settled(cl)
    talks = [talk(side) for side in (published.better, published.worse)]
    for family, gateway in (("-4", "192.168.60.1"), ("-6", "2001:db8:60::1")):
        cl.ip(f"{family} route del default via {gateway} dev cl1 metric 600")
        cl.ip(f"{family} route add default via {gateway} dev cl1 metric 50")
    cl.tunctl("reconcile")
    assert published.all_hear(8080)
    for lines in talks:
        seen = lines()
        world.wait_until(lambda lines=lines, seen=seen: lines() > seen + 3, 10, "the connection goes on")  # type: ignore[misc]
    for family, gateway in (("-4", "192.168.60.1"), ("-6", "2001:db8:60::1")):
        cl.ip(f"{family} route del default via {gateway} dev cl1 metric 50")
        cl.ip(f"{family} route add default via {gateway} dev cl1 metric 600")
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before


def test_an_engine_that_is_dialled_answers_by_the_uplink_that_was_dialled(two: Two) -> None:
    """A WireGuard server behind two uplinks, beside a full tunnel: its own packets carry the mark of the tunnels.

    wireguard-go names the interface when it answers. The kernel's WireGuard only names its address, as `marked` does.
    """
    cl, (other, clients, dials) = two.cl, two.worse
    key, public = wg_key(other), wg_key(cl)
    server = f"""
[tunnels.s]
driver = "wireguard"
interface = "wg-s"
addresses = ["10.88.0.1/24"]
[tunnels.s.wireguard]
private_key_file = "{cl.write("s.key", public[0], 0o600)}"
listen_port = 51820
[[tunnels.s.wireguard.peers]]
public_key = "{key[1]}"
allowed_ips = ["10.88.0.2/32"]
"""
    apply(cl, FULL + server)
    owner = other.start_wireguard("wgc")
    path = other.write("c.key", key[0], 0o600)
    words = f"set wgc private-key {path} peer {public[1]} allowed-ips 10.88.0.1/32 endpoint {dials[0]}:51820"
    other.run_beside(owner.pid, ["wg", *words.split()])
    other.ip("addr add 10.88.0.2/24 dev wgc")
    other.ip("link set wgc up")
    other.ip(f"route add {dials[0]}/32 dev gw1 src {clients[0]}")
    better = two.better.host.start(["tcpdump", "-ni", "gw0", "-l", "--immediate-mode", "host", clients[0]], log="wire")
    wire = (two.better.host.dir / "wire").read_text
    world.wait_until(lambda: "listening" in wire(), 30, "tcpdump")
    world.wait_until(lambda: other.run(["ping", "-c1", "-W1", "10.88.0.1"], check=False).returncode == 0, 30, "the tunnel")
    two.better.host.kill(better)
    assert clients[0] not in wire().partition("listening")[2]
    for asked in (two.better, two.worse):
        assert marked(cl, asked) == asked.dials[0]
    assert is_settled(cl)


def marked(cl: Host, asked: Side) -> str:
    """A datagram with the tunnels' mark, from the address that was asked: who the client sees it come from."""
    hear = f"import socket; s=socket.socket(2, 2); s.bind(({asked.clients[0]!r}, 999)); print('ready', flush=True); "
    log = f"heard-{os.urandom(4).hex()}"
    listener = asked.host.start(["python3", "-c", hear + "print(s.recvfrom(9)[1][0], flush=True)"], log=log)
    text = (asked.host.dir / log).read_text
    say = f"import socket; s=socket.socket(2, 2); s.setsockopt(1, 36, 0x3174); s.bind(({asked.dials[0]!r}, 0)); "
    world.wait_until(lambda: "ready" in text(), 30, "a listener")
    with contextlib.suppress(AssertionError):
        cl.run(["python3", "-c", f"{say} s.sendto(b'x', ({asked.clients[0]!r}, 999))"])
        world.wait_until(lambda: len(text().split()) > 1, 30, "a datagram")
    asked.host.kill(listener)
    return text().removeprefix("ready").strip()


def wg_key(host: Host) -> tuple[str, str]:
    key = host.run(["wg", "genkey"]).stdout.strip()
    return key, host.run(["wg", "pubkey"], stdin=key).stdout.strip()
