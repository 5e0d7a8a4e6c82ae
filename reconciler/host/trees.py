"""Which processes belong to a tunnel, and how they hang together. A recorded pid alone proves nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from reconciler.host import cgroup, process
from reconciler.host.process import Marked, Process
from reconciler.model.marks import Mark
from reconciler.model.names import IfName

Hint = tuple[int | None, int | None]  # pid and start ticks, as recorded


class Tree(NamedTuple):
    """A main process and all that it has started, also what left its session."""

    main: Process
    members: tuple[Process, ...]


def belonging(scan: Marked, mark: Mark, hint: Hint = (None, None), dev: IfName | None = None) -> list[Process]:
    """Processes proven to be of this mark, oldest first: by their environment, by their control group, or by having been
    recorded with their start time and holding the tunnel's device (a program may overwrite its environment)."""
    found = {one.pid: one for one in scan.processes if one.mark == mark}
    for member in cgroup.members(mark) - found.keys() - process.ancestors():
        if one := process.stat(member):
            found[member] = one._replace(mark=mark)
    pid, ticks = hint
    if pid is not None and pid not in found and (one := process.stat(pid)) and one.start_ticks == ticks:
        with suppress(PermissionError):
            if process.mark_of(pid) == mark or dev in set(process.held_devices(pid)):
                found[pid] = one._replace(mark=mark)
    return sorted(found.values(), key=lambda one: (one.start_ticks, one.pid))


def trees(members: Iterable[Process], hint: Hint = (None, None)) -> list[Tree]:
    """The tree of the owner first, then those of doubles: other sessions that run the very same command line.

    What is neither is a helper that left its session, and belongs to the owner.
    """
    by_pid = {one.pid: one for one in members}
    if not by_pid:
        return []
    main = _main(by_pid, hint)
    command = process.command_line(main.pid)
    doubles = [
        one
        for one in by_pid.values()
        if one.session == one.pid != main.pid
        and not _descends(one, main.pid, by_pid)
        and not _descends(main, one.pid, by_pid)
        and process.command_line(one.pid) == command
    ]
    taken: set[int] = set()
    others: list[Tree] = []
    for double in doubles:
        part = [o for o in by_pid.values() if o.session == double.pid or _descends(o, double.pid, by_pid)]
        taken.update(one.pid for one in part)
        others.append(Tree(double, tuple(part)))
    return [Tree(main, tuple(one for one in by_pid.values() if one.pid not in taken)), *others]


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
