"""WireGuard by real wireguard-go processes: set up, observed, changed one peer at a time, restarted under its addresses."""

from __future__ import annotations

import os
import signal
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.actuate import owner as actuate_owner
from reconciler.actuate import peer as actuate_peer
from reconciler.actuate import wireguard as actuate_wireguard
from reconciler.errors import InvalidFile, StepFailed
from reconciler.host import cgroup, uapi, x25519
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Address, Peer
from reconciler.kinds.wireguard import Device
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import Prefix, parse_prefix, pton
from reconciler.model.tunnel import PeerSettings, Tunnel, WireGuard
from reconciler.observe import facts as observe_facts
from reconciler.observe import link as observe_link
from reconciler.observe import owner as observe_owner
from reconciler.observe import wireguard as observe_wireguard
from reconciler.observe.question import Question
from tests.netns.engines import kill, new_mark, tree_of
from tests.netns.world import Host, Pair, wait_until

DEV = IfName("wg0")
COMMAND = ("wireguard-go", "-f", DEV)


class End(NamedTuple):
    """One end of a WireGuard tunnel under test."""

    host: Host
    mark: Mark
    key_file: str
    public_key: str
    device: Device

    @property
    def owner(self) -> Owner:
        return Owner(self.mark.tunnel, self.mark, DEV, COMMAND, own_mounts=True, ready_timeout_s=8.0)

    @property
    def intent(self) -> Intent:
        settings = WireGuard(self.key_file, backend="userspace", peers=(PeerSettings("x" * 44, name="nobody"),))
        return Intent(Tunnel(self.mark.tunnel, "wireguard", DEV, wireguard=settings), self.mark, 1, "test", 1)

    def start(self, address: str) -> None:
        """A persistent TUN with our mark, the engine on it, its device set up."""
        self.host.ip(f"tuntap add {DEV} mode tun")
        self.host.run(["ip", "link", "set", DEV, "alias", self.mark.alias])
        self.host.ip(f"addr add {address} dev {DEV}")
        self.host.ip(f"link set {DEV} up")
        with self.host.inside(), Machine(self.host.run_dir) as machine:
            actuate_owner.create(machine, self.owner)
            actuate_wireguard.create(machine, self.device)

    def look(self) -> tuple[list[Device], list[Peer], list[Unobserved]]:
        question = Question((self.intent,), self.mark.store_id, Numbers())
        with self.host.inside(), Machine(self.host.run_dir) as machine:
            states, links = observe_link.look(machine, question)
            owners, _ = observe_owner.look(machine, question, states)
            return observe_wireguard.look(machine, question, links, owners)

    def set(self, work: Callable[..., None], *args: object) -> None:
        with self.host.inside(), Machine(self.host.run_dir) as machine:
            work(machine, *args)

    def pid(self) -> int:
        (one,) = tree_of(self.mark)
        return one.pid

    def peer(self, other: End, allowed: str, **fields: object) -> Peer:
        """The other end as a wanted peer of this one."""
        number = 1 if other.host.name.endswith("-a") else 2
        place = Address(pton(f"192.0.2.{number}"), other.device.listen_port or 0)
        defaults: dict[str, object] = {"endpoints": (place,), "preshared_digest": "", "userspace": True}
        prefixes = (parse_prefix(allowed),)
        return Peer(self.mark.tunnel, DEV, other.public_key, prefixes, 5, **{**defaults, **fields})  # type: ignore[arg-type]


def _end(host: Host, port: int) -> End:
    raw = os.urandom(32)
    path = host.write("wg.key", b64encode(raw).decode() + "\n", 0o600)
    public = b64encode(x25519.public(raw)).decode()
    mark = new_mark("demo")
    return End(host, mark, str(path), public, Device(mark.tunnel, DEV, public, port, None, str(path), userspace=True))


@pytest.fixture
def ends(pair: Pair) -> tuple[End, End]:
    """Both ends set up under the same interface name, each the peer of the other, in 10.50.0.0/24."""
    a, b = _end(pair.a, 51820), _end(pair.b, 51821)
    try:
        b.start("10.50.0.2/24")
        b.set(actuate_peer.create, b.peer(a, "10.50.0.1/32"))
        a.start("10.50.0.1/24")
        a.set(actuate_peer.create, a.peer(b, "10.50.0.2/32"))
        yield a, b  # type: ignore[misc]
    finally:
        for end in (a, b):
            for one in tree_of(end.mark):
                kill(one.pid)
            cgroup.remove(end.mark)


def _ping(end: End, address: str, seconds: int = 8) -> None:
    """Until one answer: the first handshake may need a second try, 5 s later."""
    end.host.run(["ping", "-c", "1", "-w", str(seconds), address])


def test_found_is_as_wanted_and_traffic_flows(ends: tuple[End, End]) -> None:
    a, b = ends
    (device,), (peer,), blind = a.look()
    assert not blind
    assert not a.device.differs_from(device)
    assert not a.peer(b, "10.50.0.2/32").differs_from(peer)
    assert peer.latest_handshake_s is None or peer.latest_handshake_s > 0
    _ping(a, "10.50.0.2")
    _, (peer,), _ = a.look()
    assert abs((peer.latest_handshake_s or 0) - time.time()) < 20
    assert peer.rx_bytes
    assert peer.tx_bytes


def test_the_socket_is_private(ends: tuple[End, End]) -> None:
    a, b = ends
    assert not Path("/run/wireguard", f"{DEV}.sock").exists()
    assert uapi.get(uapi.socket_path(DEV, a.pid())).listen_port == 51820
    assert uapi.get(uapi.socket_path(DEV, b.pid())).listen_port == 51821


def test_a_peer_comes_and_goes_and_the_other_session_lives(ends: tuple[End, End]) -> None:
    a, b = ends
    _ping(a, "10.50.0.2")
    _, (before,), _ = a.look()
    third = Peer(
        a.mark.tunnel, DEV, b64encode(os.urandom(32)).decode(), (Prefix(pton("10.60.0.0"), 16), Prefix(pton("fd00::"), 64)), 0,
        (Address(pton("2001:db8::2"), 1),), "", userspace=True,
    )  # fmt: skip
    psk = a.host.write("psk", b64encode(os.urandom(32)).decode(), 0o600)
    with a.host.recording():
        a.set(actuate_peer.create, third)
        found = {peer.public_key: peer for peer in a.look()[1]}
        assert set(found) == {b.public_key, third.public_key}
        assert not third.differs_from(found[third.public_key])
        changed = third._replace(keepalive_s=25, allowed_ips=(Prefix(pton("10.61.0.0"), 16),), preshared_key_file=str(psk))
        a.set(actuate_peer.change, changed, found[third.public_key], ("keepalive_s", "allowed_ips", "preshared_digest"))
        now = next(peer for peer in a.look()[1] if peer.public_key == third.public_key)
        assert (now.keepalive_s, now.allowed_ips, bool(now.preshared_digest)) == (25, changed.allowed_ips, True)
        assert now.endpoints == third.endpoints
        a.set(actuate_peer.change, third, now, ("preshared_digest",))
        assert a.look()[1][-1].preshared_digest == "" or a.look()[1][0].preshared_digest == ""
        a.set(actuate_peer.delete, third)
        a.set(actuate_peer.delete, third)  # twice is no error
    _, (after,), _ = a.look()
    assert after.latest_handshake_s == before.latest_handshake_s, "the same session"
    a.host.run(["ping", "-c", "1", "-W", "1", "10.50.0.2"])


def test_only_the_port_changes(ends: tuple[End, End]) -> None:
    a, _ = ends
    (found,), _, _ = a.look()
    a.set(actuate_wireguard.change, a.device._replace(listen_port=51999), found, ("listen_port",))
    (now,), peers, _ = a.look()
    assert (now.listen_port, now.public_key) == (51999, a.public_key)
    assert len(peers) == 1


def test_preshared_keys_are_compared_by_digest(ends: tuple[End, End]) -> None:
    a, b = ends
    key = b64encode(os.urandom(32)).decode()
    for end, other, allowed in ((a, b, "10.50.0.2/32"), (b, a, "10.50.0.1/32")):
        path = end.host.write("psk", key, 0o600)
        wanted = end.peer(other, allowed, preshared_key_file=str(path))
        end.set(actuate_peer.change, wanted, wanted, ("preshared_digest",))
    _ping(a, "10.50.0.2", 15)
    settings = WireGuard(a.key_file, peers=(PeerSettings(b.public_key, preshared_key_file=str(a.host.dir / "psk")),))
    intent = a.intent._replace(tunnel=a.intent.tunnel._replace(wireguard=settings))
    with a.host.inside(), Machine(a.host.run_dir) as machine:
        facts = observe_facts.gather(machine, [intent], {}, resolve=False, privileged=True)
    _, (peer,), _ = a.look()
    assert peer.preshared_digest == facts.preshared[str(a.host.dir / "psk")]
    assert facts.public_keys[a.key_file] == a.public_key
    assert key not in repr((peer, facts))


def test_a_killed_engine_comes_back_on_the_same_device(ends: tuple[End, End]) -> None:
    a, b = ends
    _ping(a, "10.50.0.2")
    index = a.host.ip_json(f"link show {DEV}")[0]["ifindex"]
    kill(a.pid())
    wait_until(lambda: "NO-CARRIER" in a.host.ip_json(f"link show {DEV}")[0]["flags"])
    assert a.look() == ([], [], [])
    with pytest.raises(StepFailed, match="no engine runs behind wg0"):
        a.set(actuate_peer.create, a.peer(b, "10.50.0.2/32"))
    a.set(actuate_owner.create, a.owner)
    assert a.look() == ([], [], []), "the engine is there, and nobody has set it up"
    a.set(actuate_wireguard.create, a.device)
    a.set(actuate_peer.create, a.peer(b, "10.50.0.2/32"))
    link = a.host.ip_json(f"addr show {DEV}")[0]
    assert link["ifindex"] == index
    assert [one["local"] for one in link["addr_info"] if one["family"] == "inet"] == ["10.50.0.1"]
    _ping(a, "10.50.0.2", 15)


def test_a_stopped_engine_is_unobserved_and_bounded(ends: tuple[End, End]) -> None:
    a, b = ends
    pid = a.pid()
    kill(pid, signal.SIGSTOP, wait=False)
    begun = time.monotonic()
    devices, peers, blind = a.look()
    assert time.monotonic() - begun < 3
    assert (devices, peers) == ([], [])
    assert [(one.tunnel, one.kind, one.reason) for one in blind] == [
        ("demo", "wireguard", "the engine does not answer"),
        ("demo", "peer", "the engine does not answer"),
    ]
    with pytest.raises(StepFailed, match="does not answer"):
        a.set(actuate_peer.change, a.peer(b, "10.50.0.2/32"), a.peer(b, "10.50.0.2/32"), ("keepalive_s",))
    a.set(actuate_owner.delete, a.owner._replace(pid=pid, stop_grace_s=1.0))
    assert tree_of(a.mark) == []


def test_a_busy_device_is_said_with_the_engines_words(ends: tuple[End, End]) -> None:
    a, _ = ends
    other = new_mark("other")
    with pytest.raises(StepFailed, match=r"exited with status 1\n(.|\n)*device or resource busy"):
        a.set(actuate_owner.create, a.owner._replace(tunnel=other.tunnel, mark=other))
    assert tree_of(other) == []
    _ping(a, "10.50.0.2")


def test_an_unreadable_key_sets_nothing(ends: tuple[End, End]) -> None:
    a, _ = ends
    secret = "not a key but a secret all the same"
    bad = a.host.write("bad.key", secret, 0o600)
    with pytest.raises(InvalidFile, match="is not a WireGuard key") as caught:
        a.set(actuate_wireguard.create, a.device._replace(private_key_file=str(bad)))
    assert secret not in str(caught.value)
    open_to_all = a.host.write("open.key", Path(a.key_file).read_text(), 0o644)
    with pytest.raises(InvalidFile, match="mode 0644 is too open"):
        a.set(actuate_wireguard.create, a.device._replace(private_key_file=str(open_to_all)))
    (device,), peers, _ = a.look()
    assert device.public_key == a.public_key
    assert len(peers) == 1


def test_many_allowed_prefixes(ends: tuple[End, End]) -> None:
    a, b = ends
    many = tuple(sorted(Prefix(bytes((10, 100 + high, low, 0)), 24) for high in range(20) for low in range(256)))
    wanted = a.peer(b, "10.50.0.2/32")._replace(allowed_ips=many)
    a.set(actuate_peer.change, wanted, wanted, ("allowed_ips",))
    _, (peer,), _ = a.look()
    assert peer.allowed_ips == many


def test_taken_down_the_device_talks_to_nobody(ends: tuple[End, End]) -> None:
    a, _ = ends
    a.set(actuate_wireguard.delete, a.device)
    assert a.look()[0] == []
    assert uapi.get(uapi.socket_path(DEV, a.pid())).private.is_none


def test_without_privilege_it_is_unobserved(ends: tuple[End, End]) -> None:
    a, _ = ends
    question = Question((a.intent,), a.mark.store_id, Numbers(), privileged=False)
    link = Link(a.mark.tunnel, DEV, "tun", None, up=True, alias="", group=0)
    with a.host.inside(), Machine(a.host.run_dir) as machine:
        devices, peers, blind = observe_wireguard.look(machine, question, [link], [])
    assert (devices, peers) == ([], [])
    assert {one.kind for one in blind if one.privilege} == {"wireguard", "peer"}


def test_keys_stay_out_of_sight(ends: tuple[End, End]) -> None:
    a, _ = ends
    key = Path(a.key_file).read_text().strip()
    seen = [Path(f"/proc/{a.pid()}/{file}").read_bytes() for file in ("cmdline", "environ")]
    seen += [path.read_bytes() for path in a.host.run_dir.rglob("*") if path.is_file()]
    seen.append(repr(uapi.get(uapi.socket_path(DEV, a.pid()))).encode())
    assert len(seen) >= 5
    for text in seen:
        assert key.encode() not in text
        assert b64decode(key).hex().encode() not in text
