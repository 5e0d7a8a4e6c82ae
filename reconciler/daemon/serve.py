"""The loop: events, programs that end, signals and the clock in, passes out. It reads no store, no kernel state and no file
of a tunnel itself; it decides when a pass is due, which passes may run side by side, and what they must leave alone."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from contextlib import ExitStack, suppress
from types import TracebackType

from reconciler.daemon import notify, worker
from reconciler.daemon.door import Door
from reconciler.daemon.listening import Ears
from reconciler.daemon.ready import ready
from reconciler.daemon.tally import Tally
from reconciler.daemon.worker import Report, Say, Worker
from reconciler.host import board
from reconciler.host.board import Fight
from reconciler.loop.commands import Session
from reconciler.loop.queue import Repairs, Rest, Restarts, Timetable
from reconciler.loop.reconcile import Request
from reconciler.loop.watch import Due
from reconciler.model.names import TunnelName
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Restart

MOST_WORKERS = 32  # passes side by side: each waits for one program
HURRY_S = 3.0  # between SIGTERM and SIGKILL
LOCKED_S = 0.1  # until the next try when another tunctl was at work
FAILED_S = 5.0  # until the next try when a pass could not even look


class Daemon:
    """One of them a run directory (the caller has its lock). As a context it hears signals; `run` returns when it was told
    to end."""

    def __init__(self, session: Session, say: Say) -> None:
        self._session, self._say = session._replace(gives_way=True), say
        self._selector = selectors.DefaultSelector()
        self._stack = ExitStack()
        self._ears = Ears(self._selector)
        self._door = Door(self._selector, session.run_dir)
        self._shown: list[Fight] = []  # what `status` is told of
        self._due = Timetable(time.monotonic())
        self._repairs, self._restarts = Repairs(), Restarts()
        self._workers: dict[int, Worker] = {}
        self._leaving: set[int] = set()  # passes that have ended and are still in the process table
        self._apart: set[TunnelName] = set()  # due for a pass of their own
        self._settings: dict[TunnelName, tuple[int, Restart]] = {}
        self._told: dict[TunnelName, str] = {}  # errors that were said
        self._warned: frozenset[str] = frozenset()  # that still hold
        self._undone: dict[str, str] = {}  # who was the last to change objects of a kind
        self._tally = Tally(session.run_dir)
        self._ends = False
        self._watchdog_s = notify.watchdog_s()

    def __enter__(self) -> Daemon:
        self._selector.register(self._stack.enter_context(self._ears.signals()), selectors.EVENT_READ, self._signalled)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def run(self) -> None:
        """Until SIGTERM or SIGINT. The tunnels stay as they are."""
        self._ears.listen(self._heard)
        self._door.open(self._ordered)
        self._tally.show()
        while not self._ends:
            self._start_due()
            self._reap()
            for key in ready(self._selector, self._patience()):
                key.data(key.fileobj)
            self._door.forget_the_slow(time.monotonic())
            if self._watchdog_s:
                notify.tell("WATCHDOG=1")
        notify.tell("STOPPING=1")
        self._door.close()
        self._end_workers()
        self._show([])
        self._tally.hide()

    # what wakes it

    def _signalled(self, reading: int) -> None:
        for number in os.read(reading, 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ends = True
            elif number == signal.SIGHUP:
                notify.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._due.at(time.monotonic())
                notify.tell("READY=1")

    def _heard(self, due: Due, by: tuple[str, str] | None) -> None:
        """An event. `by`: which kind of thing was changed, and who did it."""
        if by is not None and by[1]:
            self._undone[by[0]] = by[1]
        self._due.mark(due, time.monotonic())

    def _reported(self, one: Worker) -> None:
        for message in one.read():
            if isinstance(message, int):
                one.ports.add(message)
                self._ears.ours.add(message)
            elif isinstance(message, frozenset):
                one.names = message
            elif message is None:
                self._ended(one)
            else:
                self._learn(one, message)

    def _ordered(self, connection: socket.socket, text: bytes) -> None:
        """A user has asked for something: what was before does not count against it."""
        self._restarts.forget(self._settings)
        self._add(worker.start_order(self._session, connection, text, time.monotonic()))
        connection.close()

    # what it does

    def _start_due(self) -> None:
        now_s = time.monotonic()
        for one in self._workers.values():
            if now_s > one.deadline_s:
                one.signal(signal.SIGKILL if one.is_told_to_end else signal.SIGTERM)
                one.is_told_to_end, one.deadline_s = True, now_s + HURRY_S
        busy = frozenset(name for one in self._workers.values() for name in one.names or ())
        for name in sorted(self._apart - busy):
            if len(self._workers) < MOST_WORKERS:
                self._apart.discard(name)
                self._start(frozenset((name,)), busy)
        if (
            self._due.next_s is not None
            and now_s >= self._due.next_s
            and all(one.names is not None for one in self._workers.values())
        ):
            self._due.begun(now_s)
            self._start(None, busy)

    def _start(self, names: frozenset[TunnelName] | None, busy: frozenset[TunnelName]) -> None:
        now_s = time.monotonic()
        request = Request(
            names, requested=False, cause="daemon", patient=True, apart=names is None, besides=busy,
            withheld=self._repairs.withheld(now_s), resting=self._resting(now_s),
        )  # fmt: skip
        self._add(worker.start(self._session, request, self._say, now_s))

    def _add(self, one: Worker) -> None:
        self._workers[one.pid] = one
        self._ears.ours.add(one.pid)
        self._selector.register(one, selectors.EVENT_READ, self._reported)

    def _resting(self, now_s: float) -> dict[TunnelName, Rest]:
        rests = {name: self._restarts.rest(name, restart, now_s) for name, (_, restart) in self._settings.items()}
        return {name: rest for name, rest in rests.items() if rest is not None}

    def _learn(self, one: Worker, report: Report) -> None:
        now_s = time.monotonic()
        one.has_reported = True
        if report.failure:
            self._tally.missed("locked" if report.locked else "failed")
            self._due.at(now_s + (LOCKED_S if report.locked else FAILED_S))
            if not report.locked:
                self._tell({TunnelName(""): report.failure})
                self._ears.ready()  # it is tried again, and nobody's boot waits for that
            return
        self._apart |= report.apart
        known = {name: generation for name, (generation, _) in self._settings.items()}
        self._restarts.forget(name for name, generation, _ in report.restarts if known.get(name, generation) != generation)
        self._settings = {name: (generation, restart) for name, generation, restart in report.restarts}
        self._tally.passed("tunnel" if one.names else "all", now_s - one.begun_s, report.work, self._settings)
        self._ears.know(report)
        self._count(report, now_s)
        self._tell(dict(report.errors), about=one.names)
        for note in (*report.notes, *(text for text in report.warnings if text not in self._warned)):
            self._warn(note)
        self._warned = frozenset(report.warnings)
        self._due.at(now_s + report.interval_s)
        if report.retry_s is not None:
            self._due.at(now_s + max(report.retry_s, 0.0))
        for until_s in self._repairs.withheld(now_s).values():
            self._due.at(until_s)
        self._show(self._repairs.contested(now_s))
        self._ears.ready()

    def _count(self, report: Report, now_s: float) -> None:
        for step in report.steps:
            kind = step.key[0] if isinstance(step.key, tuple) else ""
            if kind == "owner" and step.verb is not Verb.DELETE:
                self._restarts.add(step.tunnel, now_s)
            elif step.verb is not Verb.DELETE:
                fight = Fight(step.tunnel, step.text, self._undone.get(str(kind), ""))
                if self._repairs.add(step.key, fight, now_s):
                    self._say("warning", str(fight), step.tunnel or None)

    def _show(self, fights: list[Fight]) -> None:
        if fights != self._shown:
            with suppress(OSError):  # a full disk: it is in the log
                board.show(self._session.run_dir, fights)
                self._shown = fights

    def _warn(self, note: str) -> None:
        name, _colon, text = note.partition(": ")
        about = TunnelName(name) if name in self._settings else None
        self._say("warning", text if about else note, about)

    def _tell(self, errors: dict[TunnelName, str], about: frozenset[TunnelName] | None = None) -> None:
        """Each error once, until it is another one."""
        for name, message in errors.items():
            if self._told.get(name) != message:
                self._say("error", message, name or None)
        kept = {name: text for name, text in self._told.items() if about is not None and name not in about}
        self._told = {**kept, **errors}

    def _ended(self, one: Worker) -> None:
        self._selector.unregister(one)
        self._ears.ours -= one.ports
        one.close()
        del self._workers[one.pid]
        self._leaving.add(one.pid)
        self._ears.ours.discard(one.pid)
        if one.is_order:
            self._due.at(time.monotonic())
        elif not one.has_reported:  # killed: nothing was learned from it
            self._tally.missed("killed")
            self._due.at(time.monotonic() + FAILED_S)

    def _reap(self) -> None:
        for pid in tuple(self._leaving):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._leaving.discard(pid)

    def _patience(self) -> float:
        times = [one.deadline_s for one in self._workers.values()]
        if self._due.next_s is not None and all(one.names is not None for one in self._workers.values()):
            times.append(self._due.next_s)
        times += self._door.deadlines_s
        if self._watchdog_s:
            times.append(time.monotonic() + self._watchdog_s)
        return max(0.0, min(times, default=time.monotonic() + FAILED_S) - time.monotonic())

    def _end_workers(self) -> None:
        """SIGTERM, three seconds, SIGKILL."""
        for one in self._workers.values():
            one.signal(signal.SIGTERM)
        deadline_s = time.monotonic() + HURRY_S
        while self._workers and (left_s := deadline_s - time.monotonic()) > 0:
            for key in ready(self._selector, left_s):
                if isinstance(key.fileobj, Worker):
                    self._reported(key.fileobj)
                elif not isinstance(key.fileobj, int):
                    self._selector.unregister(key.fileobj)
        for one in self._workers.values():
            one.signal(signal.SIGKILL)
