"""WireGuard devices and their peers: what the engine behind a link of ours says of itself, in the kernel or not."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from contextlib import suppress

from reconciler.errors import NotObserved
from reconciler.host import keys, uapi
from reconciler.host.bounded import Call
from reconciler.host.engine import RawDevice
from reconciler.host.kernel_wireguard import KernelWireGuard
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.kinds.wireguard import Device
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.observe import peer
from reconciler.observe.question import Question

_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)  # the engine is not there (yet, or any more), or another program runs


def look(
    machine: Machine, question: Question, links: Iterable[Link], owners: Iterable[Owner]
) -> tuple[list[Device], list[Peer], list[Unobserved]]:
    """Of the tunnels of ours whose link is there. A device without a private key is one that nobody has set up: not found.

    The engines are asked all at once; one that does not answer is unobserved, and costs half a second whatever the others do.
    """
    mine = {owner.tunnel: owner for owner in owners if owner.tunnel and owner.pid}
    ours = {link.tunnel: link for link in links if link.tunnel}
    asked: list[tuple[Intent, Link, Call[RawDevice] | None]] = []
    unobserved: list[Unobserved] = []
    for intent in question.intents:
        link = ours.get(intent.name)
        if link is None or intent.tunnel.wireguard is None:
            continue
        if not question.privileged:
            unobserved += _blind(intent.name, "needs root to ask the WireGuard engine", privilege=True)
        elif link.type == "wireguard":
            asked.append((intent, link, None))
        elif owner := mine.get(intent.name):
            paths = [uapi.socket_path(name, owner.pid or 0) for name in (link.name, intent.tunnel.interface) if name]
            asked.append((intent, link, Call(lambda paths=paths: _ask(paths, question.patience_s))))  # type: ignore[misc]
    devices: list[Device] = []
    peers: list[Peer] = []
    kernel = KernelWireGuard()
    for intent, link, call in asked:
        try:
            raw = call.result(question.patience_s * 2) if call else kernel.get(link.name)
        except (KernelError, NotObserved, OSError) as error:
            unobserved += _refused(intent.name, error, userspace=call is not None)
            continue
        device = _device(intent, link, raw, userspace=call is not None)
        if device is not None:
            devices.append(device)
            peers += peer.of_device(intent, device, raw.peers)
    kernel.close()
    return devices, peers, unobserved


def _device(intent: Intent, link: Link, raw: RawDevice, *, userspace: bool) -> Device | None:
    file = intent.tunnel.wireguard.private_key_file if intent.tunnel.wireguard else ""
    key = keys.device_key(raw.private, raw.public_key, file)
    if key is None:
        return None
    return Device(intent.name, link.name, key, raw.listen_port, raw.fwmark or None, userspace=userspace)


def _ask(paths: list[str], timeout_s: float) -> RawDevice:
    """The socket keeps the name that the device had when the engine started."""
    for path in paths[:-1]:
        with suppress(FileNotFoundError):
            return uapi.get(path, timeout_s)
    return uapi.get(paths[-1], timeout_s)


def _refused(tunnel: TunnelName, error: Exception, *, userspace: bool) -> list[Unobserved]:
    if isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return _blind(tunnel, "the engine does not answer")
    if userspace and getattr(error, "errno", None) in _NOBODY:
        return []
    privilege = getattr(error, "errno", None) in (errno.EPERM, errno.EACCES)
    return _blind(tunnel, getattr(error, "strerror", None) or str(error), privilege=privilege)


def _blind(tunnel: TunnelName, reason: str, *, privilege: bool = False) -> list[Unobserved]:
    return [Unobserved(tunnel, kind, reason, privilege) for kind in ("wireguard", "peer")]
