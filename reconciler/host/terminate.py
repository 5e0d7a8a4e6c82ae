"""Ends a process tree within bounds. Only through pidfds whose process has been proven to be the one that is meant."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress

from reconciler.host import process
from reconciler.host.process import Process
from reconciler.host.signals import signal

_ROUND_S = 0.05  # between two scans for processes that were forked meanwhile
KILL_S = 2.0  # what SIGKILL may take; longer is a process in uninterruptible sleep

Scan = Callable[[], Iterable[Process]]


def stop(
    scan: Scan,
    grace_s: float,
    kill_all: Callable[[], object],
    linger_s: float = 0.0,
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> tuple[Process, ...]:
    """SIGTERM, `grace_s` of patience, SIGKILL, again and again for what was forked meanwhile. → who is still there.

    `scan` names the processes that are proven to belong to the tree at this moment; `kill_all` may end it by other means.
    Stopped processes (SIGSTOP) are woken to receive the SIGTERM. A process counts until its descriptors are closed: its
    environment is gone before that, and so would be its mark. Around each wait is `waiting`, if it takes longer than `linger_s`
    altogether: most end at once, and some were about to end anyway. Nobody is looked for and no signal is sent inside of it.
    """
    with Pidfds() as known:

        def wait(seconds: float) -> None:
            nonlocal linger_s
            if linger_s > 0:
                known.wait(min(seconds, linger_s))
                linger_s = 0
                return
            with waiting():
                known.wait(seconds)

        deadline = time.monotonic() + grace_s
        asked: set[Process] = set()
        while members := known.running(scan()):
            for member in members:
                if member not in asked:
                    known.send(member, signal.SIGTERM)
                    known.send(member, signal.SIGCONT)
                    asked.add(member)
            left = deadline - time.monotonic()
            if left <= 0:
                break
            wait(left)
        deadline = time.monotonic() + KILL_S
        while members := known.running(scan()):
            kill_all()
            for member in members:
                known.send(member, signal.SIGKILL)
            wait(_ROUND_S)
            if time.monotonic() >= deadline:
                return tuple(known.running(scan()))
        return ()


class Pidfds:
    """Process descriptors, each opened before its process was verified: a reused pid is never signalled."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], tuple[int, Process]] = {}  # by pid and start ticks

    def __enter__(self) -> Pidfds:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor, _process in self._open.values():
            os.close(descriptor)

    def running(self, more: Iterable[Process]) -> list[Process]:
        """These, as far as they live, and all that were named before and have not ended."""
        for one in more:
            self._add(one)
        ended = self._ended(0)
        return [one for descriptor, one in self._open.values() if descriptor not in ended]

    def send(self, one: Process, number: signal.Signals) -> None:
        """PermissionError when it is not ours to signal; one that is gone is no error."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._open[one.pid, one.start_ticks][0], number)

    def wait(self, seconds: float) -> None:
        """Until all of them have ended, or so many seconds."""
        deadline = time.monotonic() + seconds
        while len(ended := self._ended(0)) < len(self._open) and (left := deadline - time.monotonic()) > 0:
            self._ended(left, but=ended)

    def _add(self, one: Process) -> None:
        key = (one.pid, one.start_ticks)
        if key in self._open:
            return
        try:
            descriptor = os.pidfd_open(one.pid)
        except ProcessLookupError:
            return
        if process.is_alive(*key):  # asked after the descriptor was opened: from here on the pid is this process
            self._open[key] = (descriptor, one)
        else:
            os.close(descriptor)

    def _ended(self, seconds: float, but: Collection[int] = ()) -> set[int]:
        """The descriptors of those that have ended, after at most so many seconds."""
        poll = select.poll()
        for descriptor, _process in self._open.values():
            if descriptor not in but:
                poll.register(descriptor, select.POLLIN)
        return {descriptor for descriptor, _ in poll.poll(seconds * 1000)}
