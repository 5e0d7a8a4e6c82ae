"""WireGuard devices and their peers: what the engine behind a link of ours says of itself, in the kernel or not."""

from __future__ import annotations

import errno

from reconciler.errors import NotObserved
from reconciler.host import keys, uapi
from reconciler.host.bounded import Call
from reconciler.host.engine import RawDevice
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.kinds.wireguard import Device
from reconciler.lean import suppress
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.observe import peer
from reconciler.observe.question import Question
from reconciler.typed import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

_NOBODY = (errno.ENOENT, errno.ECONNREFUSED)  # the engine is not there (yet, or any more), or another program runs


def look(
    machine: Machine, question: Question, links: Iterable[Link], owners: Iterable[Owner]
) -> tuple[list[Device], list[Peer], list[Unobserved]]:
    """Of the tunnels of ours whose link is there. A device without a private key is one that nobody has set up: not found.

    The engines are asked all at once; one that does not answer is unobserved, and costs half a second whatever the others do.
    """
    mine = {owner.tunnel: owner for owner in owners if owner.tunnel and owner.pid}
    ours = {link.tunnel: link for link in links if link.tunnel}
    in_kernel: dict[TunnelName, IfName] = {}
    paths: dict[TunnelName, list[str]] = {}
    devices: list[Device] = []
    peers: list[Peer] = []
    unobserved: list[Unobserved] = []
    concerned = [(intent, ours[intent.name]) for intent in question.intents if intent.tunnel.wireguard and intent.name in ours]
    for intent, link in concerned:
        if not question.privileged:
            unobserved += _blind(intent.name, "needs root to ask the WireGuard engine", privilege=True)
        elif link.type == "wireguard":
            in_kernel[intent.name] = link.name
        elif owner := mine.get(intent.name):
            names = dict.fromkeys(name for name in (link.name, intent.tunnel.interface) if name)
            paths[intent.name] = [uapi.socket_path(name, owner.pid or 0) for name in names]
    told = {**_by_kernel(in_kernel), **_by_engines(paths, question.patience_s)}
    for intent, link in concerned:
        raw = told.get(intent.name)
        if isinstance(raw, Exception):
            unobserved += _refused(intent.name, raw, userspace=intent.name in paths)
        elif raw is not None and (device := _device(intent, link, raw, userspace=intent.name in paths)):
            devices.append(device)
            peers += peer.of_device(machine, intent, device, raw.peers)
    return devices, peers, unobserved


def _by_kernel(links: Mapping[TunnelName, IfName]) -> dict[TunnelName, RawDevice | Exception]:
    if not links:
        return {}
    from reconciler.host.kernel_wireguard import KernelWireGuard

    kernel = KernelWireGuard()
    try:
        return {tunnel: _or_error(kernel.get, name) for tunnel, name in links.items()}
    finally:
        kernel.close()


def _by_engines(paths: Mapping[TunnelName, list[str]], patience_s: float) -> dict[TunnelName, RawDevice | Exception]:
    """In a thread: nothing on the other side may hold up a look."""
    if not paths:
        return {}
    try:
        answers = Call(lambda: _answers(paths, patience_s)).result(patience_s * 2)
    except TimeoutError as error:
        return dict.fromkeys(paths, error)
    return {name: one if isinstance(one, Exception) else _or_error(uapi.device, one) for name, one in answers.items()}


def _answers(paths: Mapping[TunnelName, list[str]], timeout_s: float) -> dict[TunnelName, bytes | Exception]:
    """All are asked before the first answer is waited for."""
    asked = {name: _or_error(_ask, these, timeout_s) for name, these in paths.items()}
    return {name: one if isinstance(one, Exception) else _or_error(one.answer) for name, one in asked.items()}


def _ask(paths: list[str], timeout_s: float) -> uapi.Asked:
    """The socket keeps the name that the device had when the engine started."""
    for path in paths[:-1]:
        with suppress(FileNotFoundError):
            return uapi.Asked(path, timeout_s)
    return uapi.Asked(paths[-1], timeout_s)


def _or_error(work: Callable[..., T], *arguments: Any) -> T | Exception:
    try:
        return work(*arguments)
    except (KernelError, NotObserved, OSError) as error:
        return error


def _device(intent: Intent, link: Link, raw: RawDevice, *, userspace: bool) -> Device | None:
    file = intent.tunnel.wireguard.private_key_file if intent.tunnel.wireguard else ""
    key = keys.device_key(raw.private, raw.public_key, file)
    if key is None:
        return None
    return Device(intent.name, link.name, key, raw.listen_port, raw.fwmark or None, userspace=userspace)


def _refused(tunnel: TunnelName, error: Exception, *, userspace: bool) -> list[Unobserved]:
    if isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
        return _blind(tunnel, "the engine does not answer")
    if userspace and getattr(error, "errno", None) in _NOBODY:
        return []
    privilege = getattr(error, "errno", None) in (errno.EPERM, errno.EACCES)
    return _blind(tunnel, getattr(error, "strerror", None) or str(error), privilege=privilege)


def _blind(tunnel: TunnelName, reason: str, *, privilege: bool = False) -> list[Unobserved]:
    return [Unobserved(tunnel, kind, reason, privilege) for kind in ("wireguard", "peer")]
