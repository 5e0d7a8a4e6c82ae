"""Starts and ends owner processes. One that does not become ready is taken back whole."""

from __future__ import annotations

import os

from reconciler.actuate import listen, readiness
from reconciler.actuate.doomed import Doomed
from reconciler.actuate.meanwhile import waiting
from reconciler.errors import Bug, LookAgain, NotObserved, NotPermitted, StepFailed, TunctlError, Unavailable
from reconciler.host import accounts, cgroup, children, files, launch, nl_link, ownerlog, process, terminate, uapi
from reconciler.host.handles import Handle
from reconciler.host.launch import Identity, Program, Started
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.kinds.owner import Owner, fingerprint
from reconciler.lean import suppress
from reconciler.model.found import LinkState
from reconciler.model.marks import ENVIRONMENT_KEY
from reconciler.model.port import place
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_HURRY_S = 0.5
_NAME_S = 3.0
_OTHERS = "others have ended it, or started it anew"


def create(machine: Machine, wanted: Owner) -> None:
    """Starts it and waits until its device has carrier (and a userspace WireGuard answers). StepFailed has its last words;
    LookAgain: while it was waited for, others have ended it, or put another one in its place."""
    assert wanted.tunnel
    log = os.path.join(machine.handles.directory(wanted.tunnel), ownerlog.FILE)
    ownerlog.bound_log(log)
    before = machine.rtnl.link(name=wanted.dev)
    since = ownerlog.size(log)
    started = _start(machine, wanted, log)
    try:
        readiness.wait(machine, wanted, (started.pid, started.start_ticks), since)
        _set_mtu_back(machine, wanted, before)
    except TunctlError as error:
        if not machine.has_turn:
            raise
        if _is_in_other_hands(machine, wanted, (started.pid, started.start_ticks)):
            raise LookAgain(f"{wanted}: {_OTHERS}") from None
        left = _take_back(machine, wanted, started, link_too=before is None)
        listen.give_way(machine, wanted.ports)
        raise _failed(wanted, error, log, since, left) from None
    except BaseException:  # told to end: within two seconds
        if machine.has_turn and not _is_in_other_hands(machine, wanted, (started.pid, started.start_ticks)):
            hurried = wanted._replace(stop_grace_s=min(wanted.stop_grace_s, _HURRY_S))
            _take_back(machine, hurried, started, link_too=before is None)
        raise


def _is_in_other_hands(machine: Machine, wanted: Owner, waited_for: tuple[int, int]) -> bool:
    """Others had their turn, and have ended it (they say so before they do), put another one in its place, or seen it ready."""
    handles, name = machine.handles, wanted.mark.tunnel
    if not handles.is_written(name):  # they have dropped all of it, or somebody has removed the run directory
        return not process.is_alive(*waited_for)
    known = handles.get(name)
    return not (known and known.starting and (known.pid, known.start_ticks) == waited_for)


def change(machine: Machine, wanted: Owner, found: Owner, fields: tuple[str, ...]) -> None:
    """Nothing of a running process can be changed. One that is only starting, at the hand of somebody who waits for it beside
    us, or who was killed while he did, is waited for. StepFailed has its last words; LookAgain: others have ended it."""
    if fields != ("ready",) or found.pid is None or found.start_ticks is None:
        raise Bug(f"{wanted}: a process cannot be changed ({', '.join(fields)})")
    log = os.path.join(machine.handles.directory(wanted.mark.tunnel), ownerlog.FILE)
    waited_for = (found.pid, found.start_ticks)
    try:
        readiness.wait(machine, wanted, waited_for, ownerlog.size(log))
    except TunctlError as error:
        if not machine.has_turn:
            raise
        if _is_in_other_hands(machine, wanted, waited_for):
            raise LookAgain(f"{wanted}: {_OTHERS}") from None
        raise _failed(wanted, error, log, 0, ()) from None


def _failed(wanted: Owner, error: TunctlError, log: str, since: int, left: Iterable[str]) -> StepFailed:
    """With what it said last, and what could not be taken back."""
    words = [f"{wanted}: {error.message}", *(f"  {line}" for line in ownerlog.tail(log, since=since)), *left]
    return StepFailed("\n".join(words), hint=error.hint or f"its output is in {log}")


def delete(machine: Machine, found: Owner) -> None:
    """SIGTERM, patience, SIGKILL (noted), for the whole tree. StepFailed names what survives (uninterruptible sleep).
    What others have started while we were patient lives on."""
    if found.pid is None:
        return
    _tell_who_waits(machine, found)
    doomed = Doomed(machine, found)
    kills: list[int] = []

    def kill() -> None:
        kills.append(found.pid or 0)
        doomed.kill_group()

    try:
        survivors = terminate.stop(doomed.members, found.stop_grace_s, kill, machine.linger_s, lambda: waiting(machine))
    except PermissionError as error:
        raise NotPermitted(f"{found}: may not be signalled: {error.strerror}", hint="run it as root") from error
    children.reap()
    if survivors:
        names = ", ".join(f"pid {one.pid} (state {one.state})" for one in survivors)
        raise StepFailed(f"{found}: {names} survives SIGKILL", hint="it hangs in the kernel; try again later")
    if kills:
        machine.notes.append(
            f"tunnel {found.mark.tunnel}: pid {found.pid} ignored SIGTERM for {found.stop_grace_s:g} s: SIGKILL"
        )
    cgroup.remove(found.mark)
    handle = machine.handles.get(found.mark.tunnel)
    if handle and (handle.pid, handle.start_ticks) == (found.pid, found.start_ticks):
        _forget(machine, found)


def _tell_who_waits(machine: Machine, doomed: Owner) -> None:
    """Whoever waits for it to become ready learns that it did not fail, but was ended."""
    handle = machine.handles.get(doomed.mark.tunnel)
    if handle and handle.starting and (handle.pid, handle.start_ticks) == (doomed.pid, doomed.start_ticks):
        with suppress(OSError):  # it ends all the same
            machine.handles.put(handle._replace(starting=False))


def _forget(machine: Machine, owner: Owner) -> None:
    try:
        machine.handles.forget_owner(owner.mark.tunnel)
    except OSError as error:
        raise StepFailed(f"handles of {owner.mark.tunnel} could not be written: {error.strerror}") from error


def _start(machine: Machine, wanted: Owner, log: str) -> Started:
    """Starts it, writes down who it is, and lets it run. StepFailed, Unavailable, NotPermitted."""
    program = _program(wanted)
    try:
        files.make_directory(machine.handles.directory(wanted.mark.tunnel))
        output = ownerlog.open_for_writing(log)
    except OSError as error:
        raise StepFailed(f"{wanted}: its log {log} cannot be written: {error.strerror}") from error
    try:
        started = launch.start(program._replace(group=cgroup.made(wanted.mark)), output)
    except BaseException as error:
        cgroup.remove(wanted.mark)
        if isinstance(error, OSError):
            raise _refusal(wanted, error) from error
        raise
    finally:
        os.close(output)
    try:
        _record(machine, wanted, started)
    except BaseException as error:
        started.abandon()
        cgroup.remove(wanted.mark)
        if isinstance(error, OSError):
            raise StepFailed(f"handles of {wanted.tunnel} could not be written: {error.strerror}") from error
        raise
    cgroup.enter(wanted.mark, started.pid)
    try:
        started.release()
    except OSError as error:
        cgroup.remove(wanted.mark)
        _forget(machine, wanted)
        raise _refusal(wanted, error) from error
    return started


def _record(machine: Machine, wanted: Owner, started: Started) -> None:
    handles, mark = machine.handles, wanted.mark
    known = handles.get(mark.tunnel) or Handle(mark.tunnel, mark.id, handles.boot_id)
    known = known._replace(id=mark.id, interface=wanted.dev, pid=started.pid, start_ticks=started.start_ticks, starting=True)
    if wanted.ports:  # before it runs: whoever comes after us must not choose anew for a program that is only starting
        requested = {port.transport: place(port.address, port.requested or port.port) for port in wanted.ports}
        known = known._replace(bound={port.transport: port.text for port in wanted.ports}, requested=requested)
    handles.put(known._replace(fingerprint=fingerprint(wanted)))


def _program(wanted: Owner) -> Program:
    environment = {"PATH": children.PATH, **dict(wanted.environment), ENVIRONMENT_KEY: wanted.mark.environment}
    private = os.path.realpath(uapi.DIRECTORY) if wanted.own_mounts else None
    identity = _identity(wanted.user) if wanted.user else None
    return Program(wanted.argv, environment, identity, private)


def _identity(user: str) -> Identity:
    try:
        entry = accounts.user(user, _NAME_S)
        if entry is None:
            raise StepFailed(f"there is no user {user!r}")
        return Identity(*entry, accounts.groups_of(user, entry[1], _NAME_S))
    except TimeoutError:
        raise StepFailed(f"user {user!r}: the name service of this machine does not answer") from None


def _refusal(wanted: Owner, error: OSError) -> TunctlError:
    what = os.fsdecode(error.filename) if error.filename else wanted.argv[0]
    if isinstance(error, FileNotFoundError):
        return Unavailable(f"{wanted}: {what}: {error.strerror}", hint=f"install {wanted.argv[0]}, or correct the command")
    if isinstance(error, PermissionError) and what != wanted.argv[0] and not os.path.isabs(what):
        return NotPermitted(f"{wanted}: {what}: {error.strerror}", hint="run it as root")
    return StepFailed(f"{wanted}: {what}: {error.strerror}")


def _set_mtu_back(machine: Machine, wanted: Owner, before: LinkState | None) -> None:
    """An engine that opens our device makes its MTU 1420 (wireguard-go does). Where this fails, the next look shows it."""
    with suppress(KernelError, NotObserved):
        after = machine.rtnl.link(name=wanted.dev) if wanted.own_mounts and before else None
        if before and after and after.mtu != before.mtu:
            machine.rtnl.request(nl_link.RTM_NEWLINK, 0, nl_link.wanted(index=after.ifindex, mtu=before.mtu))


def _take_back(machine: Machine, wanted: Owner, started: Started, *, link_too: bool) -> list[str]:
    """Nothing is left of a start that failed: no process, and no interface that was not there before. → what could not go."""
    left = []
    try:
        delete(machine, wanted._replace(pid=started.pid, start_ticks=started.start_ticks))
    except TunctlError as error:
        if not machine.has_turn:
            raise
        left.append(error.message)
    try:
        link = machine.rtnl.link(name=wanted.dev) if link_too else None
        if link is not None and link.mark is None:
            machine.rtnl.request(nl_link.RTM_DELLINK, 0, nl_link.question(index=link.ifindex))
    except (TunctlError, OSError) as error:
        left.append(f"link {wanted.dev}: {error}")
    return left
