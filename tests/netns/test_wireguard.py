"""WireGuard by real wireguard-go processes: set up, observed, changed one peer at a time, restarted under its addresses."""

from __future__ import annotations

import os
import signal
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.actuate import owner as actuate_owner
from reconciler.actuate import peer as actuate_peer
from reconciler.actuate import wireguard as actuate_wireguard
from reconciler.errors import InvalidFile, StepFailed
from reconciler.host import cgroup, uapi
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName
from reconciler.observe import wireguard as observe_wireguard
from reconciler.observe.question import Question
from tests.netns.engines import kill, new_mark, tree_of
from tests.netns.wireguard_ends import DEV, End, both, ping
from tests.netns.world import Host, Pair, wait_until


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[End, End]]:
    with both(pair) as (a, b):
        yield a, b


def test_found_is_as_wanted_and_traffic_flows(ends: tuple[End, End]) -> None:
    a, b = ends
    (device,), (peer,), blind = a.look()
    assert not blind
    assert not a.device.differs_from(device)
    assert not a.peer(b, "10.50.0.2/32").differs_from(peer)
    assert peer.latest_handshake_s is None or peer.latest_handshake_s > 0
    ping(a, "10.50.0.2")
    _, (peer,), _ = a.look()
    assert abs((peer.latest_handshake_s or 0) - time.time()) < 20
    assert peer.rx_bytes
    assert peer.tx_bytes


def test_the_socket_is_private(ends: tuple[End, End]) -> None:
    a, b = ends
    assert not Path("/run/wireguard", f"{DEV}.sock").exists()
    assert uapi.get(uapi.socket_path(DEV, a.pid())).listen_port == 51820
    assert uapi.get(uapi.socket_path(DEV, b.pid())).listen_port == 51821


def test_only_the_port_changes(ends: tuple[End, End]) -> None:
    a, _ = ends
    (found,), _, _ = a.look()
    a.set(actuate_wireguard.change, a.device._replace(listen_port=51999), found, ("listen_port",))
    (now,), peers, _ = a.look()
    assert (now.listen_port, str(now.public_key)) == (51999, a.public_key)
    assert len(peers) == 1


def test_a_killed_engine_comes_back_on_the_same_device(ends: tuple[End, End]) -> None:
    a, b = ends
    ping(a, "10.50.0.2")
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
    ping(a, "10.50.0.2", 15)


def test_under_another_name_it_is_still_asked(ends: tuple[End, End]) -> None:
    a, _ = ends
    a.host.ip(f"link set {DEV} down")
    a.host.ip(f"link set {DEV} name wg-zz")
    (device,), (peer,), blind = a.look()
    assert not blind
    assert (device.dev, peer.dev) == ("wg-zz", "wg-zz")
    assert str(device.public_key) == a.public_key


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
    ping(a, "10.50.0.2")


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
    assert str(device.public_key) == a.public_key
    assert len(peers) == 1


def test_taken_down_the_device_talks_to_nobody(ends: tuple[End, End]) -> None:
    a, _ = ends
    a.set(actuate_wireguard.delete, a.device)
    assert a.look()[0] == []
    assert uapi.get(uapi.socket_path(DEV, a.pid())).private.is_none


_STARTER = """
import os
from pathlib import Path
from reconciler.actuate import owner
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.model.marks import Mark
mark = Mark(*{mark!r})
owner.create(Machine(Path({run!r})), Owner("demo", mark, {dev!r}, ("wireguard-go", "-f", {dev!r}), own_mounts=True))
os._exit(0)
"""


def test_without_the_right_to_mount_the_shared_directory_has_to_do(host: Host) -> None:
    """As in a container that has CAP_NET_ADMIN and no CAP_SYS_ADMIN."""
    dev = f"tt{os.urandom(4).hex()}"
    mark = new_mark()
    host.ip(f"tuntap add {dev} mode tun")
    code = _STARTER.format(mark=tuple(mark), run=str(host.run_dir), dev=dev)
    host.run(["setpriv", "--bounding-set", "-sys_admin", sys.executable, "-c", code])
    (one,) = tree_of(mark)
    try:
        assert Path(f"/run/wireguard/{dev}.sock").exists()
        assert uapi.get(uapi.socket_path(IfName(dev), one.pid)).peers == ()
    finally:
        kill(one.pid, signal.SIGTERM)
        cgroup.sweep(mark.tunnel)
    wait_until(lambda: not Path(f"/run/wireguard/{dev}.sock").exists())


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
