"""WireGuard in the kernel, with both ends kept by tunctl. `make test-vm` brings a kernel that has it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.netns.faults import assert_clean, state
from tests.netns.kernel_ends import End, apply, listens, needs_wireguard, peers_of, ran, three
from tests.netns.scenario import files
from tests.netns.warm import Warm
from tests.netns.world import Host, Pair

pytestmark = [needs_wireguard, pytest.mark.bound(300)]  # in a virtual machine

PSK = "ERERERERERERERERERERERERERERERERERERERERERE="


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[End, End, End]]:
    with three(pair) as made:
        yield made


def b_up(a: End, b: End, c: End) -> None:
    """Both peers, on one host; what comes from wg2's address goes by wg2."""
    only_c = c.text(c.peer(a, keepalive=""), more='table = 77\n[[tunnels.wg2.rules]]\nfrom = "10.50.0.3"\nlookup = 77\n')
    apply(b.tunctl, b.text(b.peer(a, keepalive="")), only_c)


@pytest.mark.parametrize("backend", ["auto", "kernel"])
def test_up_looked_at_twice_and_down(ends: tuple[End, End, End], backend: str) -> None:
    a, b, _ = ends
    before = state(a.host)
    b.apply(b.peer(a, keepalive=""))
    steps = a.apply(a.peer(b, endpoint=f"192.0.2.2:{b.port}", allowed=["10.60.0.0/16"]), backend=backend)
    assert not any("owner" in step for step in steps)
    assert a.kind() == "wireguard"
    a.ping(b.address)
    a.ping(b.address6)
    seen = a.status(expect=0)
    assert (seen["verdict"], seen["reasons"], seen["owner"], seen["mtu"]) == ("connected", [], None, 1420)
    (peer,) = seen["peers"]
    assert (peer["name"], peer["public_key"], peer["endpoint"]) == ("wg1", b.public, f"192.0.2.2:{b.port}")
    assert peer["rx_bytes"] > 0
    assert peer["tx_bytes"] > 0
    assert peer["latest_handshake"].endswith("Z")
    assert abs(a.peers()[b.public].handshake_s - time.time()) < 60
    assert seen["counters"]["rx_packets"] >= 2
    up, settings, stored = state(a.host), a.settings(), files(a.host.state_dir)
    with a.host.recording() as heard:
        a.settled()
        assert a.tunctl.run("reconcile").stdout in ("", "no changes\n")
    assert heard == []
    assert (state(a.host), a.settings(), files(a.host.state_dir)) == (up, settings, stored)
    a.tunctl.run("down", "--all")
    assert_clean(a.host, before, "down")
    assert not listens(a.host, a.port)
    a.tunctl.run("up", "--all")
    a.ping(b.address)
    a.tunctl.run("forget", "--all")
    assert_clean(a.host, before, "forget")


def test_one_peer_changes_and_the_session_of_the_other_stays(ends: tuple[End, End, End]) -> None:
    a, b, c = ends
    b_up(a, b, c)
    b.host.ip("addr add 192.0.2.7/24 dev veth0")
    first, second = peers_of(a, b, c)
    a.apply(first, second)
    a.ping(b.address)
    a.ping(c.address)
    session = a.peers()[c.public]
    a.host.write("psk", PSK + "\n", 0o600)
    here, there, usual = f"192.0.2.2:{b.port}", f"192.0.2.7:{b.port}", ("10.50.0.2/32", "fd50::2/128")
    secret = 'preshared_key_file = "psk"'
    changes: list[tuple[str, dict[str, object]]] = [
        (
            a.peer(b, endpoint=here, allowed=["10.61.0.0/16", "fd61::/32"]),
            {"allowed": ("10.50.0.2/32", "10.61.0.0/16", "fd50::2/128", "fd61::/32")},
        ),
        (a.peer(b, endpoint=here, keepalive="7s"), {"allowed": usual, "keepalive": "7"}),
        (a.peer(b, endpoint=here, keepalive=""), {"keepalive": "off", "endpoint": here}),
        (a.peer(b, endpoint=there), {"keepalive": "25", "endpoint": there}),
        (a.peer(b, endpoint=there, more=secret), {"endpoint": there, "preshared": PSK}),
        (a.peer(b, endpoint=there), {"allowed": usual, "keepalive": "25", "endpoint": there, "preshared": "(none)"}),
    ]
    for peer, expected in changes:
        steps = a.apply(peer, second)
        assert [step for step in steps if " route " not in step and not step.startswith(f"~ peer {b.public}")] == []
        assert any(step.startswith("~ peer") for step in steps)
        a.settled()
        now = a.peers()
        assert {field: getattr(now[b.public], field) for field in expected} == expected
        assert now[c.public].handshake_s == session.handshake_s
    a.ping(c.address)
    assert a.peers()[c.public].handshake_s == session.handshake_s
    assert a.peers()[c.public].rx_bytes > session.rx_bytes
    a.ping(b.address)


def test_a_preshared_key_on_both_ends(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    for end in (a, b):
        end.host.write("psk", PSK + "\n", 0o600)
    more = 'preshared_key_file = "psk"'
    b.apply(b.peer(a, keepalive="", more=more))
    a.apply(a.peer(b, endpoint=f"192.0.2.2:{b.port}", more=more))
    a.ping(b.address)
    assert a.peers()[b.public].preshared == PSK
    a.settled()
    for text in (
        *(path.read_text(errors="replace") for path in a.host.run_dir.rglob("*.json")),
        a.tunctl.run("show", "wg0").stdout,
    ):
        assert PSK not in text
        assert a.key not in text


def test_a_peer_comes_and_goes(ends: tuple[End, End, End]) -> None:
    a, b, c = ends
    b_up(a, b, c)
    first, second = peers_of(a, b, c)
    a.apply(first)
    a.ping(b.address)
    session = a.peers()[b.public]
    steps = a.apply(first, second)
    assert [step for step in steps if "peer" in step and not step.startswith(f"+ peer {c.public}")] == []
    a.ping(c.address)
    assert set(a.peers()) == {b.public, c.public}
    assert any(step.startswith(f"- peer {c.public}") for step in a.apply(first))
    assert set(a.peers()) == {b.public}
    assert a.peers()[b.public].handshake_s == session.handshake_s
    a.ping(b.address)
    a.settled()


def test_prefixes_move_from_peer_to_peer(ends: tuple[End, End, End]) -> None:
    """The kernel takes a prefix from the one that had it; whichever is set first, both end up as wished."""
    a, b, c = ends
    one, two = ["10.61.0.0/16"], ["10.62.0.0/16", "fd62::/32"]
    a.apply(a.peer(b, allowed=one, keepalive=""), a.peer(c, allowed=two, keepalive=""))
    for first, second in ((two, one), ([], [*one, *two]), ([*one, *two], []), (one, two)):
        a.apply(a.peer(b, allowed=first, keepalive=""), a.peer(c, allowed=second, keepalive=""))
        a.settled()
        assert set(first) <= set(a.peers()[b.public].allowed)
        assert set(second) <= set(a.peers()[c.public].allowed)
    apply(a.tunctl, a.text(a.peer(b, keepalive="").replace('["10.50.0.2", "fd50::2"]', "[]"), a.peer(c, keepalive="")))
    assert a.peers()[b.public].allowed == ()
    a.settled()


def test_the_port_changes_under_a_session(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    b.apply(b.peer(a, keepalive=""))
    peer = a.peer(b, endpoint=f"192.0.2.2:{b.port}")
    a.apply(peer)
    a.ping(b.address)
    session = a.peers()[b.public]
    steps = a.apply(peer, port=51999)
    assert len(steps) == 1
    assert steps[0].startswith("~ wireguard dev wg0")
    assert a.wg("show wg0 listen-port") == "51999"
    assert (listens(a.host, 51999), listens(a.host, a.port)) == (True, False)
    a.ping(b.address)
    assert a.peers()[b.public].handshake_s == session.handshake_s
    a.settled()


def test_many_allowed_prefixes(ends: tuple[End, End, End]) -> None:
    """More than a message takes, in both directions."""
    a, b, c = ends
    many = [f"10.{64 + n // 256}.{n % 256}.0/24" for n in range(1500)] + [f"fd62:{n:x}::/32" for n in range(700)]
    options = "route_allowed_ips = false\n"

    def text(prefixes: list[str]) -> str:
        return a.text(a.peer(b, allowed=prefixes), a.peer(c)).replace("backend =", f"{options}backend =", 1)

    apply(a.tunctl, text(many))
    assert len(a.peers()[b.public].allowed) == 2202
    a.settled()
    assert apply(a.tunctl, text(many[1:]))
    assert len(a.peers()[b.public].allowed) == 2201
    a.settled()
    apply(a.tunctl, text([]))
    assert len(a.peers()[b.public].allowed) == 2
    a.settled()


def test_many_peers(ends: tuple[End, End, End]) -> None:
    a, _, _ = ends
    others = [End(a.host, a.tunctl, f"p{n}", 2) for n in range(120)]
    peers = []
    for number, other in enumerate(others):
        own = f'["10.70.{number}.0/24", "fd70:{number:x}::/32"]'
        peers.append(a.peer(other, endpoint=f"192.0.2.2:{1000 + number}").replace('["10.50.0.2", "fd50::2"]', own))
    a.apply(*peers)
    assert len(a.peers()) == 120
    a.settled()
    steps = a.apply(*peers[1:])
    assert [step for step in steps if "peer" in step] == [
        step for step in steps if step.startswith(f"- peer {others[0].public}")
    ]
    assert len(a.peers()) == 119


def test_an_endpoint_of_the_other_family(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    b.apply(b.peer(a, keepalive=""))
    a.apply(a.peer(b, endpoint=f"[2001:db8::2]:{b.port}"))
    a.ping(b.address)
    assert a.peers()[b.public].endpoint == f"[2001:db8::2]:{b.port}"
    assert b.peers()[a.public].endpoint == f"[2001:db8::1]:{a.port}"
    a.settled()
    b.settled()
    assert a.status(expect=0)["peers"][0]["endpoint"] == f"[2001:db8::2]:{b.port}"


def test_a_peer_that_has_roamed_is_left_alone(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    b.host.ip("addr add 192.0.2.7/24 dev veth0")
    b.apply(b.peer(a, endpoint=f"192.0.2.1:{a.port}"))
    a.apply(a.peer(b, endpoint=f"192.0.2.2:{b.port}"))
    a.ping(b.address)
    b.host.ip("addr del 192.0.2.2/24 dev veth0")
    b.host.ip("addr add 192.0.2.7/24 dev veth0", check=False)
    b.ping(a.address)
    assert a.peers()[b.public].endpoint == f"192.0.2.7:{b.port}"
    a.settled()
    assert a.peers()[b.public].endpoint == f"192.0.2.7:{b.port}"


def test_the_engine_changes(ends: tuple[End, End, End]) -> None:
    """From a process to the kernel and back: the link is another one, and nothing of the first is left."""
    a, b, _ = ends
    before = state(a.host)
    b.apply(b.peer(a, keepalive=""))
    peer = a.peer(b, endpoint=f"192.0.2.2:{b.port}")
    for backend, kind in (("userspace", "tun"), ("kernel", "wireguard"), ("userspace", "tun"), ("auto", "wireguard")):
        a.apply(peer, backend=backend)
        assert a.kind() == kind
        a.ping(b.address)
        a.settled()
    a.tunctl.run("forget", "--all")
    assert_clean(a.host, before, "forget")


def test_the_key_file_has_a_new_key(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    a.apply(a.peer(b))
    a.host.run(["sh", "-c", "wg genkey > wg0.key"])
    assert any("wireguard dev wg0" in step for step in a.apply(a.peer(b)))
    assert a.wg("show wg0 private-key") == a.keys.read_text().strip()
    a.settled()


def test_without_rights_peers_are_unobserved(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    b.apply(b.peer(a, keepalive=""))
    a.apply(a.peer(b, endpoint=f"192.0.2.2:{b.port}"))
    a.ping(b.address)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    done = a.host.run([*nobody, *a.host.tunctl_argv("status", "wg0", "--json")], check=False)
    assert done.returncode == 0, ran(done)
    assert '"connected"' in done.stdout
    assert "wireguard: " in done.stdout


def test_two_hosts_have_tunnels_of_the_same_name(ends: tuple[End, End, End], host: Host) -> None:
    """Namespaces do not see each other's devices."""
    a, b, _ = ends
    a.apply(a.peer(b))
    with Warm(host) as tunctl:
        End(host, tunctl, "wg0", 9).apply()
        tunctl.run("down", "--all")
    a.settled()
