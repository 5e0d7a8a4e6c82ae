"""Ends a process tree within bounds. Only through pidfds whose process has been proven to be the one that is meant."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from reconciler.host import process
from reconciler.host.process import Process

_ROUND_S = 0.05  # between two scans for processes that were forked meanwhile
KILL_S = 2.0  # what SIGKILL may take; longer is a process in uninterruptible sleep

Scan = Callable[[], Iterable[Process]]


def stop(scan: Scan, grace_s: float, kill_all: Callable[[], object]) -> tuple[Process, ...]:
    """SIGTERM, `grace_s` of patience, SIGKILL, again and again for what was forked meanwhile. → who is still there.

    `scan` names the processes that are proven to belong to the tree at this moment; `kill_all` may end it by other means.
    Stopped processes (SIGSTOP) are woken to receive the SIGTERM.
    """
    with Pidfds() as known:
        deadline = time.monotonic() + grace_s
        asked: set[int] = set()
        while members := known.alive(scan()):
            for member in members:
                if member.pid not in asked:
                    known.send(member, signal.SIGTERM)
                    known.send(member, signal.SIGCONT)
                    asked.add(member.pid)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            known.wait(members, left)
        deadline = time.monotonic() + KILL_S
        while members := known.alive(scan()):
            kill_all()
            for member in members:
                known.send(member, signal.SIGKILL)
            if time.monotonic() >= deadline:
                break
            known.wait(members, _ROUND_S)
        return tuple(members)


class Pidfds:
    """Process descriptors, each opened before its process was verified: a reused pid is never signalled."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Pidfds:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def alive(self, processes: Iterable[Process]) -> list[Process]:
        """Those of them that live and that we hold a descriptor of."""
        return [member for member in processes if self._descriptor(member) is not None]

    def _descriptor(self, member: Process) -> int | None:
        key = (member.pid, member.start_ticks)
        if key not in self._open:
            try:
                descriptor = os.pidfd_open(member.pid)
            except ProcessLookupError:
                return None
            if not process.is_alive(*key):  # asked after the descriptor was opened: from here on the pid is this process
                os.close(descriptor)
                return None
            self._open[key] = descriptor
        return self._open[key]

    def send(self, member: Process, number: signal.Signals) -> None:
        """PermissionError when it is not ours to signal; one that is gone is no error."""
        descriptor = self._descriptor(member)
        if descriptor is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)

    def wait(self, members: Iterable[Process], seconds: float) -> None:
        """Until all of them have ended, or so many seconds."""
        deadline = time.monotonic() + seconds
        waiting = {descriptor for member in members if (descriptor := self._descriptor(member)) is not None}
        while waiting and (left := deadline - time.monotonic()) > 0:
            poll = select.poll()
            for descriptor in waiting:
                poll.register(descriptor, select.POLLIN)
            waiting -= {descriptor for descriptor, _ in poll.poll(left * 1000)}
