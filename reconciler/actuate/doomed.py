"""Whom it concerns when a program is ended: what ran when that began, and what comes of it.

While it is waited for, others may have their turn (meanwhile.py), and may start the next program of the same tunnel. That has
the same mark, and is in the same control group. It is not concerned.
"""

from __future__ import annotations

import os

from reconciler.host import cgroup, children, process
from reconciler.host.trees import Hint, Tree, belonging, come_of, trees
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from reconciler.host.machine import Machine
    from reconciler.host.process import Process
    from reconciler.kinds.owner import Owner


class Doomed:
    """The processes that end with an owner. To be asked while it is our turn: then nobody is about to start one."""

    def __init__(self, machine: Machine, owner: Owner) -> None:
        self._machine, self._owner = machine, owner
        self._hint = (owner.pid, owner.start_ticks)
        self._known: set[tuple[int, int]] = set()  # pids and start ticks
        self._recorded = self._record()
        self._is_whole = len(self._trees()) <= 1

    def members(self) -> list[Process]:
        """Those that live now, by age."""
        children.reap()
        current = self._trees()
        if not self._is_whole:
            current = [tree for tree in current if tree.main.pid == self._owner.pid]
        there = sorted((one for tree in current for one in tree.members), key=lambda one: (one.start_ticks, one.pid))
        doomed = there if self._nobody_came() else come_of(self._known, there)
        self._known.update((one.pid, one.start_ticks) for one in doomed)
        return doomed

    def kill_group(self) -> None:
        """All at once, where that meets nobody else."""
        mark = self._owner.mark
        if self._is_whole and self._nobody_came() and os.getpid() not in cgroup.members(mark):
            cgroup.kill(mark)

    def _nobody_came(self) -> bool:
        """Nobody has started another program meanwhile: he would have written down who it is before he let it run. Where that
        cannot be told, nobody but those known before is ended; the next look finds what is left."""
        return self._record() == self._recorded

    def _record(self) -> Hint:
        handle = self._machine.handles.get(self._owner.mark.tunnel)
        return (handle.pid, handle.start_ticks) if handle else (None, None)

    def _trees(self) -> list[Tree]:
        owner = self._owner
        return trees(belonging(process.find_marked(), owner.mark, self._hint, owner.dev), self._hint)
