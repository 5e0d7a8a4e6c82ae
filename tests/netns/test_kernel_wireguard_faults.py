"""WireGuard in the kernel: drift, crashes and foreign things. `make test-vm` brings a kernel that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.netns.faults import assert_clean, assert_converged, fault, state, was_killed
from tests.netns.kernel_ends import End, listens, needs_wireguard, peers_of, ran, three, wireguard_link
from tests.netns.world import Pair, wait_until

pytestmark = [needs_wireguard, pytest.mark.bound(300)]  # in a virtual machine


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[End, End, End]]:
    with three(pair) as made:
        yield made


def test_a_port_that_is_taken_is_said(ends: tuple[End, End, End]) -> None:
    a, b, _ = ends
    before = state(a.host)
    a.host.start(["socat", "-u", f"UDP4-RECV:{a.port}", "STDOUT"])
    wait_until(lambda: listens(a.host, a.port), 30)
    file = a.host.write("d.toml", f"version = 1\n{a.text(a.peer(b))}")
    done = a.tunctl.run("apply", file, expect=1)
    assert "Address already in use" in ran(done)
    assert a.key not in ran(done)
    assert state(a.host) == before, "a first bring-up that fails leaves nothing"


def _wg(words: str) -> Callable[[End, End], object]:
    return lambda a, b: a.wg(words.format(b=b.public, other=a.public[:-4] + "AAA="))


def _new_key(a: End, _b: End) -> None:
    a.host.run(["sh", "-c", f"wg genkey > other.key && wg set {a.name} private-key other.key"])


def _rename(a: End, _b: End) -> None:
    """Kernels before 6.2 want it down for that, and its routes go."""
    for words in ("wg0 down", "wg0 name zz", "zz up"):
        a.host.ip(f"link set {words}")


DRIFT: dict[str, tuple[Callable[[End, End], object], int]] = {
    "peer removed": (_wg("set wg0 peer {b} remove"), 3),
    "foreign peer": (_wg("set wg0 peer {other} allowed-ips 10.99.0.0/16"), 3),
    "prefix stolen": (_wg("set wg0 peer {other} allowed-ips 10.50.0.2/32"), 3),
    "other prefixes": (_wg("set wg0 peer {b} allowed-ips 10.99.0.0/16"), 3),
    "other keepalive": (_wg("set wg0 peer {b} persistent-keepalive 3"), 3),
    "other port": (_wg("set wg0 listen-port 51999"), 3),
    "other key": (_new_key, 3),
    "no key": (_wg("set wg0 private-key /dev/null"), 3),
    "link deleted": (lambda a, _b: a.host.ip("link del wg0"), 2),
    "link down": (lambda a, _b: a.host.ip("link set wg0 down"), 3),
    "link renamed": (_rename, 3),
    "alias lost": (lambda a, _b: a.host.run(["ip", "link", "set", "wg0", "alias", ""]), 3),
    "mtu": (lambda a, _b: a.host.ip("link set wg0 mtu 1300"), 3),
}  # fmt: skip


@pytest.mark.parametrize("what", DRIFT)
def test_drift_is_seen_and_repaired(ends: tuple[End, End, End], what: str) -> None:
    a, b, _ = ends
    b.apply(b.peer(a, keepalive=""))
    a.apply(a.peer(b, endpoint=f"192.0.2.2:{b.port}"))
    a.ping(b.address)
    up, settings = state(a.host), a.settings()
    spoil, code = DRIFT[what]
    spoil(a, b)
    seen = a.status()
    assert seen["reasons"], what
    assert seen["verdict"] == {2: "stale", 3: "degraded"}[code], seen["reasons"]
    a.tunctl.run("reconcile")
    assert_converged(a.host, a.tunctl, up, what)
    now = a.settings()
    assert (now[0], set(now[1])) == (settings[0], set(settings[1]))
    assert now[1][b.public] == settings[1][b.public]
    a.ping(b.address)


def test_killed_after_every_step(ends: tuple[End, End, End]) -> None:
    a, b, c = ends
    before = state(a.host)
    first, second = peers_of(a, b, c)
    a.apply(first, second)
    up, settings = state(a.host), a.settings()
    file = a.host.dir / "d.toml"
    killed = 0
    for number in range(1, 30):
        a.tunctl.run("forget", "--all")
        assert_clean(a.host, before, "forget")
        done = a.tunctl.run("apply", file, env=fault(f"kill-after:{number}"), expect=None)
        if not was_killed(done):
            break
        killed += 1
        if killed % 3 == 0:
            a.tunctl.run("down", "--all")
            assert_clean(a.host, before, f"killed after {number}, then down")
            a.tunctl.run("up", "--all")
        else:
            a.tunctl.run(*(("apply", file) if killed % 3 == 1 else ("reconcile",)))
        assert_converged(a.host, a.tunctl, up, f"killed after {number}")
        assert a.settings() == settings
    assert 5 <= killed < 28


def test_cut_off_between_link_and_mark(ends: tuple[End, End, End]) -> None:
    """The kernel takes a group with a new link, an alias only later: such a link is ours."""
    a, b, _ = ends
    before = state(a.host)
    a.apply(a.peer(b))
    up = state(a.host)
    for words in (("apply", a.host.dir / "d.toml"), ("reconcile",)):
        a.host.ip("link del wg0")
        wireguard_link(a.host, "wg0", group=20000)
        a.tunctl.run(*words)
        assert_converged(a.host, a.tunctl, up, words)
    a.host.ip("link del wg0")
    wireguard_link(a.host, "wg0", group=20000)
    a.tunctl.run("down", "--all")
    assert_clean(a.host, before, "down")


@pytest.mark.parametrize("kind", ["wireguard", "tun"])
def test_a_name_that_is_taken(ends: tuple[End, End, End], kind: str) -> None:
    a, b, _ = ends
    a.host.ip("tuntap add wg0 mode tun") if kind == "tun" else wireguard_link(a.host, "wg0")
    if kind == "wireguard":
        a.host.run(["sh", "-c", "wg genkey > other.key && wg set wg0 private-key other.key listen-port 51999"])
    before = state(a.host)
    file = a.host.write("d.toml", f"version = 1\n{a.text(a.peer(b))}")
    done = a.tunctl.run("apply", file, expect=73)
    assert "wg0" in ran(done)
    assert state(a.host) == before
    a.tunctl.run("down", "--all", expect=None)
    assert state(a.host) == before
    if kind == "wireguard":
        assert a.wg("show wg0 listen-port") == "51999"
