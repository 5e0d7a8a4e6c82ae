"""Which processes belong to a tunnel, and how they hang together. A recorded pid alone proves nothing."""

from __future__ import annotations

import os

from reconciler.host import cgroup, process, tunproof
from reconciler.host.process import Marked, Process
from reconciler.lean import suppress
from reconciler.model.marks import Mark
from reconciler.model.names import IfName
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

Hint = tuple[int | None, int | None]  # pid and start ticks, as recorded


class Tree(NamedTuple):
    """A main process and all that it has started, also what left its session."""

    main: Process
    members: tuple[Process, ...]


def belonging(scan: Marked, mark: Mark, hint: Hint = (None, None), dev: IfName | None = None) -> list[Process]:
    """Processes proven to be of this mark, oldest first.

    Anybody can read a mark off an interface and put it into an environment. So the environment counts for processes of
    root, of us, and for what they have started; of others only with one thing more that takes privileges: being in the
    tunnel's control group, holding its device (of this network namespace), or having been recorded with this start time.
    A program may as well overwrite its environment: then two of these prove it.
    """
    marked = {one.pid: one for one in scan.processes if one.mark == mark}
    found = {pid: one for pid, one in marked.items() if one.uid in (0, os.geteuid())}
    has_group = scan.groups is None or cgroup.path_of(mark) in scan.groups
    grouped = cgroup.members(mark) - found.keys() if has_group else frozenset()
    for member in grouped - process.ancestors() if grouped else ():
        if one := process.stat(member):
            found[member] = one._replace(mark=mark)
    recorded = _recorded(hint, mark, dev) if hint[0] not in found else None
    if recorded:
        found[recorded.pid] = recorded
    for one in marked.values():  # by age: parents first
        if one.pid not in found and (one.parent in found or (dev and tunproof.holds_here(one.pid, dev))):
            found[one.pid] = one
    if not found:
        return []
    here = process.network_namespace()
    ours = (one for one in found.values() if _is_here(one.pid, here, dev, hint[0]))
    return sorted(ours, key=lambda one: (one.start_ticks, one.pid))


def _is_here(pid: int, here: str | None, dev: IfName | None, recorded: int | None) -> bool:
    """In this network namespace, or at work on a device of it: with a copy of the store another one has the same marks. One
    that has left its namespace because it is ending is ours if it was recorded; into another we may not be allowed to look."""
    try:
        there = os.readlink(f"/proc/{pid}/ns/net")
    except PermissionError:
        return True
    except OSError:
        return pid == recorded
    return there == here or here is None or bool(dev and tunproof.holds_here(pid, dev))


def _recorded(hint: Hint, mark: Mark, dev: IfName | None) -> Process | None:
    """The recorded process, if it is still that one and has the mark or the device."""
    pid, ticks = hint
    one = process.stat(pid) if pid is not None else None
    if one is None or one.start_ticks != ticks:
        return None
    with suppress(PermissionError):
        if process.mark_of(one.pid) != mark and not (dev and dev in set(process.held_devices(one.pid))):
            return None
    return one._replace(mark=mark)


def trees(members: Iterable[Process], hint: Hint = (None, None)) -> list[Tree]:
    """The tree of the owner first, then those of doubles: other sessions that run the very same command line.

    What is neither is a helper that left its session, and belongs to the owner.
    """
    by_pid = {one.pid: one for one in members}
    if not by_pid:
        return []
    main = _main(by_pid, hint)
    apart = [
        one
        for one in by_pid.values()
        if one.session == one.pid != main.pid and not _descends(one, main.pid, by_pid) and not _descends(main, one.pid, by_pid)
    ]
    command = process.command_line(main.pid) if apart else ()
    doubles = [one for one in apart if process.command_line(one.pid) == command]
    taken: set[int] = set()
    others: list[Tree] = []
    for double in doubles:
        part = [o for o in by_pid.values() if o.session == double.pid or _descends(o, double.pid, by_pid)]
        taken.update(one.pid for one in part)
        others.append(Tree(double, tuple(part)))
    return [Tree(main, tuple(one for one in by_pid.values() if one.pid not in taken)), *others]


def come_of(known: Container[tuple[int, int]], there: Iterable[Process]) -> list[Process]:
    """Of these, by age, the known ones, and whom they have started: their children, and who is in their sessions. Both
    numbers mean them as long as they live."""
    pids: set[int] = set()
    sessions: set[int] = set()
    found: list[Process] = []
    for one in there:
        if (one.pid, one.start_ticks) in known or one.parent in pids or one.session in sessions:
            pids.add(one.pid)
            sessions.add(one.session)
            found.append(one)
    return found


def _main(by_pid: Mapping[int, Process], hint: Hint) -> Process:
    pid, ticks = hint
    if pid is not None and pid in by_pid and by_pid[pid].start_ticks == ticks:
        return by_pid[pid]
    leaders = [one for one in by_pid.values() if one.session == one.pid]
    return min(leaders or by_pid.values(), key=lambda one: (one.start_ticks, one.pid))


def _descends(one: Process, ancestor: int, by_pid: Mapping[int, Process]) -> bool:
    """True for the ancestor itself, too."""
    seen: set[int] = set()
    while one.pid != ancestor:
        if one.pid in seen or one.parent not in by_pid:
            return False
        seen.add(one.pid)
        one = by_pid[one.parent]
    return True
