"""Ports are bound by the engines themselves, who were told which. What is done here is to see that they have done it,
and to find out who was faster where they could not."""

from __future__ import annotations

import time

from reconciler.actuate.meanwhile import waiting
from reconciler.errors import Bug, LookAgain, StepFailed
from reconciler.host import process, sockets
from reconciler.host.machine import Machine
from reconciler.host.trees import belonging
from reconciler.kinds.listen import Bound
from reconciler.lean import suppress
from reconciler.model.names import TunnelName
from reconciler.model.port import Socket
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_POLL_S = 0.02


def create(machine: Machine, wanted: Bound) -> None:
    """Waits until the tunnel's engine has it, as long as a program may take after its start. LookAgain when somebody else
    has it: then it is given another port. StepFailed when it just does not bind it."""
    if not _is_bound(machine, wanted):
        with waiting(machine):
            _wait(machine, wanted)


def change(machine: Machine, wanted: Bound, found: Bound, fields: tuple[str, ...]) -> None:
    """The engine was told before, if it can be told at all."""
    if not wanted.told:
        words = f"{{listen.{wanted.transport}.port}} is not in its command"
        raise StepFailed(f"{wanted}: its program has {found.text}, and is not told to move", hint=words)
    create(machine, wanted)


def delete(machine: Machine, found: Bound) -> None:
    """Only an engine that ends, or moves, gives its port back."""
    raise Bug(f"{found}: a port cannot be taken from its engine")


def give_way(machine: Machine, ports: Iterable[Bound]) -> None:
    """After an engine that was given these has failed and is gone: LookAgain if somebody else has one of them."""
    for one in ports:
        if _in_the_way(machine, one, ()) or not sockets.is_free(one.socket.protocol, one.address, one.port):
            lose(machine, one)


def lose(machine: Machine, port: Bound) -> None:
    """Somebody was faster. LookAgain: the next look leaves this port out."""
    assert port.tunnel
    machine.refused.add((port.tunnel, port.transport, port.port))
    _forget(machine, port.tunnel, port.transport)
    by = sockets.holders(frozenset(one.inode for one in _in_the_way(machine, port, ()) if one.inode)).by_inode
    whom = f" by {sockets.described(next(iter(by.values())))}" if by else ""
    words = f"tunnel {port.tunnel}: {port.transport} {port.text} was taken{whom} before it was bound"
    machine.notes.append(words)
    raise LookAgain(words)


def _forget(machine: Machine, tunnel: TunnelName, transport: str) -> None:
    """That its program was told this port: it never had it."""
    handle = machine.handles.get(tunnel)
    if handle and transport in handle.bound:
        bound, requested = ({k: v for k, v in old.items() if k != transport} for old in (handle.bound, handle.requested))
        with suppress(OSError):  # a hint that stays is found to be wrong
            machine.handles.put(handle._replace(bound=bound, requested=requested))


def _wait(machine: Machine, wanted: Bound) -> None:
    while not _is_bound(machine, wanted):
        members = _members(machine, wanted)
        if _in_the_way(machine, wanted, members):
            lose(machine, wanted)
        if not members or _age_s(machine, wanted) > wanted.patience_s:
            raise StepFailed(
                f"{wanted}: {f'pid {members[0]} does' if members else 'there is no engine that could'} not bind it"
            )
        time.sleep(_POLL_S)


def _is_bound(machine: Machine, wanted: Bound) -> bool:
    there = [one for one in _at(machine, wanted) if one.serves(wanted.address)]
    if wanted.mark is None:  # the kernel has told where it could not
        return bool(there)
    main = _recorded(machine, wanted)
    return any(_has(main, one) for one in there) or (
        bool(there) and any(_has(pid, one) for pid in _members(machine, wanted) for one in there)
    )


def _in_the_way(machine: Machine, wanted: Bound, members: Iterable[int]) -> list[Socket]:
    """Sockets of others that keep it from there."""
    return [
        one
        for one in _at(machine, wanted)
        if any(map(one.keeps_out, wanted.addresses)) and not any(_has(pid, one) for pid in members)
    ]


def _at(machine: Machine, wanted: Bound) -> list[Socket]:
    """What is bound at this port, on whatever address. NotObserved."""
    return machine.diag.sockets(wanted.socket.protocol, (range(wanted.port, wanted.port + 1),))


def _has(pid: int | None, one: Socket) -> bool:
    """Also true where we may not look (a container without CAP_SYS_PTRACE): the port is bound, that has to do."""
    try:
        return pid is not None and one.inode in sockets.inodes(pid)
    except PermissionError:
        return True


def _recorded(machine: Machine, wanted: Bound) -> int | None:
    handle = machine.handles.get(wanted.mark.tunnel) if wanted.mark else None
    return handle.pid if handle and handle.pid and process.is_alive(handle.pid, handle.start_ticks or 0) else None


def _members(machine: Machine, wanted: Bound) -> list[int]:
    """The processes of its engine."""
    if wanted.mark is None:
        return []
    handle = machine.handles.get(wanted.mark.tunnel)
    hint = (handle.pid, handle.start_ticks) if handle else (None, None)
    return [one.pid for one in belonging(process.find_marked(), wanted.mark, hint, handle.interface if handle else None)]


def _age_s(machine: Machine, wanted: Bound) -> float:
    """Since its program was started."""
    handle = machine.handles.get(wanted.mark.tunnel) if wanted.mark else None
    return process.age_s((handle and handle.start_ticks) or 0)
