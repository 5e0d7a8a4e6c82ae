"""How a change reaches a WireGuard engine, in the kernel or not, and what its refusals mean."""

from __future__ import annotations

import errno
import os

from reconciler.actuate import listen
from reconciler.errors import InvalidFile, NotPermitted, StepFailed
from reconciler.host import kernel_wireguard, keys, process, uapi
from reconciler.host.engine import DeviceChange, PeerChange
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.peer import Peer
from reconciler.kinds.wireguard import Device
from reconciler.lean import suppress
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SET_TIMEOUT_S = 2.0  # wireguard-go takes 0.1 ms for a peer, and a second for 100 000 allowed prefixes


def set_device(machine: Machine, device: Device, change: DeviceChange) -> None:
    """StepFailed, NotPermitted; LookAgain when somebody else has the port that was chosen for it."""
    try:
        if device.userspace:
            path = _socket(machine, device)
            _do(device, lambda: uapi.set_device(path, change, _SET_TIMEOUT_S))
        else:
            _do(device, lambda: kernel_wireguard.set_device(device.dev, change))
    except _PortInUse as error:
        if device.chosen:
            listen.lose(machine, device.chosen)
        raise StepFailed(f"{device}: {error.strerror}", hint="another program has its port: ss -lunp") from error


def set_peer(machine: Machine, peer: Peer, change: PeerChange) -> None:
    """StepFailed, NotPermitted."""
    if peer.userspace:
        path = _socket(machine, peer)
        _do(peer, lambda: uapi.set_peer(path, change, _SET_TIMEOUT_S))
    else:
        _do(peer, lambda: kernel_wireguard.set_peer(peer.dev, change))


def read_key(resource: Device | Peer, reference: str) -> keys.Key:
    """The key in a file, read at the moment of use. InvalidFile, NotPermitted."""
    try:
        return keys.read(reference)
    except PermissionError as error:
        raise NotPermitted(f"{resource}: {reference} may not be read", hint="run it as root") from error
    except InvalidFile as error:
        raise InvalidFile(f"{resource}: {error.message}", hint=error.hint) from None


def _socket(machine: Machine, resource: Device | Peer) -> str:
    """Of the owner process that has the device of this network namespace open now; the recorded one is asked first."""
    assert resource.tunnel
    here = process.network_namespace()
    for pid in _candidates(machine, resource.tunnel):
        with suppress(PermissionError):
            if resource.dev in set(process.held_devices(pid)) and process.network_namespace(pid) == here:
                return uapi.socket_path(resource.dev, pid)
    raise StepFailed(f"{resource}: no engine runs behind {resource.dev}", hint="the next pass starts it")


def _candidates(machine: Machine, tunnel: TunnelName) -> Iterator[int]:
    handle = machine.handles.get(tunnel)
    if handle and handle.pid and handle.start_ticks and process.is_alive(handle.pid, handle.start_ticks):
        yield handle.pid
    for one in process.find_marked().processes:
        if one.mark and one.mark.tunnel == tunnel and one.uid in (0, os.geteuid()):  # anybody can copy a mark
            yield one.pid


class _PortInUse(OSError):
    """What the engine says when its port is bound already."""


def _do(resource: Device | Peer, work: Callable[[], None]) -> None:
    try:
        work()
    except KernelError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise NotPermitted(f"{resource}: {error}", hint="it needs CAP_NET_ADMIN") from error
        if error.errno == errno.EADDRINUSE:
            raise _PortInUse(error.errno, str(error)) from error
        raise StepFailed(f"{resource}: {error}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _PortInUse(error.errno, error.strerror or str(error)) from error
        raise StepFailed(f"{resource}: {error.strerror or error}") from error
