"""Peers of a real wireguard-go: each changed by itself, known without its secret."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator

import pytest

from reconciler.actuate import peer as actuate_peer
from reconciler.host.machine import Machine
from reconciler.kinds.peer import Address, Peer
from reconciler.model.found import Found
from reconciler.model.policy import Policy
from reconciler.model.prefix import Prefix, pton
from reconciler.model.publickey import PublicKey
from reconciler.model.tunnel import PeerSettings, WireGuard
from reconciler.observe import facts as observe_facts
from tests.netns.wireguard_ends import DEV, End, both, ping
from tests.netns.world import Pair


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[End, End]]:
    with both(pair) as (a, b):
        yield a, b


def test_a_peer_comes_and_goes_and_the_other_session_lives(ends: tuple[End, End]) -> None:
    a, b = ends
    ping(a, "10.50.0.2")
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


def test_preshared_keys_are_compared_by_digest(ends: tuple[End, End]) -> None:
    a, b = ends
    key = b64encode(os.urandom(32)).decode()
    for end, other, allowed in ((a, b, "10.50.0.2/32"), (b, a, "10.50.0.1/32")):
        path = end.host.write("psk", key, 0o600)
        wanted = end.peer(other, allowed, preshared_key_file=str(path))
        end.set(actuate_peer.change, wanted, wanted, ("preshared_digest",))
    ping(a, "10.50.0.2", 15)
    settings = WireGuard(a.key_file, peers=(PeerSettings(b.public_key, preshared_key_file=str(a.host.dir / "psk")),))
    intent = a.intent._replace(tunnel=a.intent.tunnel._replace(wireguard=settings))
    with a.host.inside(), Machine(a.host.run_dir) as machine:
        facts = observe_facts.gather(machine, [intent], Found((), {}, {}), Policy(), resolve=False, privileged=True)
    _, (peer,), _ = a.look()
    assert peer.preshared_digest == facts.preshared[str(a.host.dir / "psk")]
    assert facts.public_keys[a.key_file] == PublicKey(a.public_key)
    assert key not in repr((peer, facts))


def test_many_allowed_prefixes(ends: tuple[End, End]) -> None:
    a, b = ends
    many = tuple(sorted(Prefix(bytes((10, 100 + high, low, 0)), 24) for high in range(20) for low in range(256)))
    wanted = a.peer(b, "10.50.0.2/32")._replace(allowed_ips=many)
    a.set(actuate_peer.change, wanted, wanted, ("allowed_ips",))
    _, (peer,), _ = a.look()
    assert peer.allowed_ips == many
