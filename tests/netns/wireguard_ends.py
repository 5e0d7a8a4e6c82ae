"""Two ends of a WireGuard tunnel by real wireguard-go processes, on one wire."""

from __future__ import annotations

import contextlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import NamedTuple

from reconciler.actuate import owner as actuate_owner
from reconciler.actuate import peer as actuate_peer
from reconciler.actuate import wireguard as actuate_wireguard
from reconciler.host import cgroup, x25519
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Address, Peer
from reconciler.kinds.wireguard import Device
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import parse_prefix, pton
from reconciler.model.publickey import PublicKey
from reconciler.model.tunnel import PeerSettings, Tunnel, WireGuard
from reconciler.observe import link as observe_link
from reconciler.observe import owner as observe_owner
from reconciler.observe import wireguard as observe_wireguard
from reconciler.observe.question import Question
from tests.netns.engines import kill, new_mark, tree_of
from tests.netns.world import Host, Pair

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


def new_end(host: Host, port: int) -> End:
    raw = os.urandom(32)
    path = host.write("wg.key", b64encode(raw).decode() + "\n", 0o600)
    public = b64encode(x25519.public(raw)).decode()
    mark = new_mark("demo")
    device = Device(mark.tunnel, DEV, PublicKey(public), port, None, str(path), userspace=True)
    return End(host, mark, str(path), public, device)


@contextlib.contextmanager
def both(pair: Pair) -> Iterator[tuple[End, End]]:
    """Both ends set up under the same interface name, each the peer of the other, in 10.50.0.0/24."""
    a, b = new_end(pair.a, 51820), new_end(pair.b, 51821)
    try:
        b.start("10.50.0.2/24")
        b.set(actuate_peer.create, b.peer(a, "10.50.0.1/32"))
        a.start("10.50.0.1/24")
        a.set(actuate_peer.create, a.peer(b, "10.50.0.2/32"))
        yield a, b
    finally:
        for end in (a, b):
            for one in tree_of(end.mark):
                kill(one.pid)
            cgroup.remove(end.mark)


def ping(end: End, address: str, seconds: int = 8) -> None:
    """Until one answer: the first handshake may need a second try, 5 s later."""
    end.host.run(["ping", "-c", "1", "-w", str(seconds), address])
