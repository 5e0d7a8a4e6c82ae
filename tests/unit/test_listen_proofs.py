"""Whose a socket is, where the engine has no process: what a WireGuard device of the kernel says of itself."""

from __future__ import annotations

import pytest

from reconciler.kinds.link import Link
from reconciler.kinds.wireguard import Device
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.port import ANY4, ANY6, UDP, Socket
from reconciler.model.prefix import pton
from reconciler.model.resource import Resource
from reconciler.model.tunnel import Listen, Tunnel, WireGuard
from reconciler.observe.listen import _Proofs

HUB, DEV = TunnelName("hub"), IfName("wg-hub")
INTENT = Intent(
    Tunnel(HUB, "wireguard", DEV, wireguard=WireGuard("k"), listen=(Listen("udp", ANY4, 8443, 4),)),
    Mark(HUB, "0000", "0000"),
    1,
    "s",
    1,
)
LINK = Link(HUB, DEV, "wireguard", 1420, up=True, alias="", group=20000)
DEVICE = Device(HUB, DEV, None, 8443, None)
BOTH = [Socket(UDP, ANY4, 8443, 5), Socket(UDP, ANY6, 8443, 6, v6only=True)]
OTHERS = [Socket(UDP, ANY4, 8444, 7), Socket(UDP, pton("127.0.0.1"), 8443, 8)]


@pytest.mark.parametrize(
    ("found", "mine"),
    [
        ((LINK, DEVICE), BOTH),
        ((LINK._replace(up=False), DEVICE), []),  # it has its sockets only while it is up
        ((LINK, DEVICE._replace(listen_port=9000)), []),
        ((LINK._replace(type="tun"), DEVICE._replace(userspace=True)), []),  # a program has them, or nobody
        ((), []),
    ],
    ids=["up", "down", "another port", "userspace", "absent"],
)
def test_in_the_kernel(found: tuple[Resource, ...], mine: list[Socket]) -> None:
    assert _Proofs([*BOTH, *OTHERS], {}, found, ()).sockets_of(INTENT) == mine


def test_what_is_not_seen_is_not_denied() -> None:
    blind = (Unobserved(HUB, "wireguard", "needs root to ask the WireGuard engine", privilege=True),)
    (one,) = _Proofs(BOTH, {}, (LINK,), blind).lacking(INTENT, ())
    assert (one.tunnel, one.kind, one.privilege) == (HUB, "listen", True)
    assert list(_Proofs([], {}, (LINK,), blind).lacking(INTENT, ())) == []
