"""Is a program that was started ready? It has its device open, with carrier; a userspace WireGuard answers; and it stays so."""

from __future__ import annotations

import os
import time

from reconciler.actuate.meanwhile import waiting
from reconciler.errors import StepFailed
from reconciler.host import children, ownerlog, process, uapi
from reconciler.host.machine import Machine
from reconciler.host.trees import belonging
from reconciler.kinds.owner import Owner
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Started = tuple[int, int]  # pid, start ticks
_POLL_S = (0.001, 0.02)  # a tenth of how long it has taken, within these: engines are ready 6 to 50 ms after their start
_SETTLE_S = 0.03  # ready, and still so after this: a program that opens its device and fails takes 10 ms to end …
_RESTLESS_S = 0.5  # … on a machine that has time for it


def wait(machine: Machine, wanted: Owner, started: Started, since: int) -> None:
    """Until it is, and that is written down. StepFailed when it is not in time, or ends. `since`: how long its log was.
    The turn is given up, where that is asked for, when it takes longer than most programs take."""
    begun_s, listen = time.monotonic(), _listener(machine, wanted, since)
    missing = _lacks(machine, wanted, started, listen, begun_s + machine.linger_s) if machine.linger_s else "not yet looked at"
    if missing is not None:
        with waiting(machine):
            missing = _lacks(machine, wanted, started, listen, begun_s + wanted.ready_timeout_s)
    if missing is not None:
        raise StepFailed(f"not ready within {wanted.ready_timeout_s:g} s: {missing}")
    _record(machine, wanted)


def _record(machine: Machine, wanted: Owner) -> None:
    known = machine.handles.get(wanted.mark.tunnel)
    if known and known.starting:
        try:
            machine.handles.put(known._replace(starting=False))
        except OSError as error:
            raise StepFailed(f"handles of {wanted.tunnel} could not be written: {error.strerror}") from error


def _listener(machine: Machine, wanted: Owner, since: int) -> Callable[[], None]:
    """Passes on what the program says, to whoever waits for it."""
    tell, name = machine.said, wanted.mark.tunnel
    if tell is None:
        return lambda: None
    follower = ownerlog.Follower(os.path.join(machine.handles.directory(name), ownerlog.FILE), since)

    def listen() -> None:
        for line in follower.lines():
            tell(name, line)

    return listen


def _lacks(machine: Machine, wanted: Owner, started: Started, listen: Callable[[], None], deadline_s: float) -> str | None:
    """What it still lacks at the deadline; None as soon as it is ready. StepFailed when it ends."""
    begun_s, ready_s = time.monotonic(), 0.0
    while True:
        listen()
        if not process.is_alive(*started) and not _has_heirs(wanted):
            raise StepFailed(_ending(children.wait_status(started[0])))
        missing = _missing(machine, wanted, started)
        now_s = time.monotonic()
        ready_s = (ready_s or now_s) if missing is None else 0.0
        if ready_s and (wanted.own_mounts or _has_settled(started, now_s - ready_s)):
            listen()
            return None  # one that answers questions is ready at once
        if now_s >= deadline_s:
            return missing or "it has only just begun"
        least_s, most_s = _POLL_S
        time.sleep(_SETTLE_S if ready_s else min(max((now_s - begun_s) / 10, least_s), most_s))


def _has_settled(started: Started, seconds: float) -> bool:
    """It was ready for a moment, and waits for packets: one that still runs may be about to end. Some never rest."""
    one = process.stat(started[0])
    return seconds >= (_SETTLE_S if one is None or one.state == "S" else _RESTLESS_S)


def _has_heirs(wanted: Owner) -> bool:
    """It went to the background: the process we started ended, and others of the tunnel go on."""
    return bool(belonging(process.find_marked(), wanted.mark))


def _ending(status: int | None) -> str:
    if status is None:
        return "it ended at once"
    return f"exited with status {status}" if status >= 0 else f"was killed by signal {-status}"


def _missing(machine: Machine, wanted: Owner, started: Started) -> str | None:
    """What it still lacks; None when it is ready. Cheap questions first: this is asked every few milliseconds."""
    if wanted.any_device and not machine.rtnl.link(name=wanted.dev):
        members = belonging(process.find_marked(), wanted.mark, started, wanted.dev)
        return None if any(name for one in members for name in process.held_devices(one.pid)) else "it holds no device"
    link = machine.rtnl.link(name=wanted.dev)
    if link is None:
        return f"there is no interface {wanted.dev}"
    if not link.carrier:
        return f"{wanted.dev} has no carrier"
    holder = _holder(wanted, started)
    if holder is None:
        return f"{wanted.dev} is not held by it"
    if wanted.own_mounts:
        try:
            uapi.get(uapi.socket_path(wanted.dev, holder))
        except OSError as error:
            return f"its configuration socket: {error.strerror}"
    return None


def _holder(wanted: Owner, started: Started) -> int | None:
    """Who has the device open: mostly the process that was started itself, and only else one looks for others."""
    if _may_hold(started[0], wanted.dev):
        return started[0]
    members = belonging(process.find_marked(), wanted.mark, started, wanted.dev)
    return next((one.pid for one in members if _may_hold(one.pid, wanted.dev)), None)


def _may_hold(pid: int, dev: str) -> bool:
    """Also true where we may not look (a container without CAP_SYS_PTRACE): carrier says that somebody does."""
    try:
        return dev in set(process.held_devices(pid))
    except PermissionError:
        return True
