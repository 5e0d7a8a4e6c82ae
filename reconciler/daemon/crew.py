"""The processes that work for the loop: one that rests and is warm, those that are at something, those that are leaving."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable
from math import inf

from reconciler.daemon import control, worker
from reconciler.daemon.annals import Lines
from reconciler.daemon.listening import Ears
from reconciler.daemon.lookups import Answers
from reconciler.daemon.passes import Asked, Rehearsal, Rested, Taken
from reconciler.daemon.ready import ready
from reconciler.daemon.report import Report
from reconciler.daemon.say import Say
from reconciler.daemon.shown import Shown
from reconciler.daemon.worker import Worker
from reconciler.errors import Unavailable
from reconciler.host.resolve import Names
from reconciler.lean import suppress
from reconciler.loop.commands import Session
from reconciler.loop.probe import Round
from reconciler.loop.reconcile import Request
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

MOST = 32  # passes side by side: each waits for one program
HURRY_S = 3.0  # between SIGTERM and SIGKILL
_LEAVE_S = 2.0  # for the last lines
_ORDER_S = 0.15  # in which most orders are carried out

Learn = Callable[[Worker, Report], None]
Looked = Callable[[Round], None]
Answered = Callable[[Answers], None]
Ended = Callable[[Worker], None]
Narrowed = Callable[[], None]


class Crew:
    """All of them. `learn`: what a pass reported; `looked`: what a round of health checks found; `answered`: what names mean;
    `ended`: one has left; `narrowed`: a pass over everything is about one tunnel from now on, or an order about none: others
    may have the rest."""

    def __init__(self, selector: selectors.BaseSelector, ears: Ears, session: Session, say: Say) -> None:
        self._selector, self._ears, self._session, self._say = selector, ears, session, say
        self._working: dict[int, Worker] = {}
        self._spare: Worker | None = None
        self._leaving: set[int] = set()  # they have ended and are still in the process table
        self._learn: Learn = lambda _one, _report: None
        self._looked: Looked = lambda _round: None
        self._answered: Answered = lambda _answers: None
        self._ended: Ended = lambda _one: None
        self._narrowed: Narrowed = lambda: None

    def listen(self, learn: Learn, looked: Looked, answered: Answered, ended: Ended, narrowed: Narrowed) -> None:
        self._learn, self._looked, self._answered = learn, looked, answered
        self._ended, self._narrowed = ended, narrowed

    @property
    def busy(self) -> frozenset[TunnelName]:
        """The tunnels that are being worked on by those that know theirs."""
        return frozenset(name for one in self._working.values() for name in one.names or ())

    def free_from_s(self, due_s: float) -> float:
        """When a pass over everything, due at `due_s`, has something to do: not beside one that may be at any tunnel, and not
        just after an order has come, which has the lock, or will have it. Orders without end put it off once."""
        if any(one.names is None for one in self._working.values()):
            return inf
        orders = [one.begun_s for one in self._working.values() if one.is_order]
        return max(due_s, min(*orders, due_s) + _ORDER_S) if orders else due_s

    @property
    def is_full(self) -> bool:
        return len(self._working) >= MOST

    @property
    def is_idle(self) -> bool:
        return all(one.is_beside for one in self._working.values())

    @property
    def deadlines_s(self) -> list[float]:
        return [one.deadline_s for one in self._working.values()]

    def start(self, request: Request, now_s: float) -> None:
        """A pass, by whoever rests, else by a new process."""
        one, self._spare = self._spare, None
        if one is None or not one.give(request):
            if one is not None:
                self._send_away(one)
            one = worker.start(self._session, self._say, request)
            self._join(one)
        one.begin(request.scope, now_s)
        self._working[one.pid] = one

    def order(self, connection: socket.socket, text: bytes, names: Names, now_s: float) -> None:
        """What a user asked for, by whoever rests, else by a new process. `names`: what those of endpoints meant just now."""
        one = self._spare
        if one is not None and one.is_resting and one.ask(Asked(text, names), connection):
            self._spare = None
            one.serve(now_s)
            self._working[one.pid] = one
        else:
            self._serve(connection, text, names, now_s)

    def _serve(self, connection: socket.socket, text: bytes, names: Names, now_s: float) -> None:
        one = worker.start_order(self._session._replace(names=names), connection, text, now_s)
        self._join(one)
        self._working[one.pid] = one

    def make_round(self, now_s: float) -> None:
        """Of health checks, beside whatever else is done."""
        one = worker.start_round(self._session, now_s)
        self._join(one)
        self._working[one.pid] = one

    def look_up(self, now_s: float) -> None:
        """The names of endpoints, beside whatever else is done."""
        one = worker.start_lookup(self._session, now_s)
        self._join(one)
        self._working[one.pid] = one

    def keep_one_warm(self, *, at_leisure: bool = True) -> None:
        """For when something happens. To be called when there is time for it. `at_leisure`: nothing was repaired just now, so
        that the next repair would come at once, and wait for a rehearsal."""
        if self._spare is None:
            self._spare = worker.start(self._session, self._say, Rehearsal())
            self._join(self._spare)
            self._spare.has_rehearsed = True
        elif not self._spare.has_rehearsed and at_leisure:
            self._spare.give(Rehearsal())
            self._spare.has_rehearsed = True

    def have_written(self, what: Shown | Lines) -> bool:
        """By whoever rests, or by a new one when it is more than he takes in. False: nobody rests."""
        if self._spare is None:
            return False
        if not self._spare.give(what):
            self._send_away(self._spare)
            self._spare = worker.start(self._session, self._say, what)
            self._join(self._spare)
        return True

    def stop_the_late(self, now_s: float) -> None:
        """Who has had its time is told to end, and then ended."""
        for one in self._working.values():
            if now_s > one.deadline_s:
                one.signal(signal.SIGKILL if one.is_told_to_end else signal.SIGTERM)
                one.is_told_to_end, one.deadline_s = True, now_s + HURRY_S

    def reap(self) -> None:
        for pid in tuple(self._leaving):
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._leaving.discard(pid)

    def end(self, last: Lines) -> None:
        """All of them: SIGTERM, three seconds, SIGKILL. One more writes what is left to be, and takes away what is shown."""
        for one in self._working.values():
            one.signal(signal.SIGTERM)
        self._wait(HURRY_S, lambda: not self._working)
        for one in self._working.values():
            one.signal(signal.SIGKILL)
        if self._spare is None or not (self._spare.give(last) and self._spare.give(Shown())):
            try:
                self._spare = worker.start(self._session, self._say, last)
            except Unavailable:  # it was in the log anyway, and the next daemon takes away what is shown
                return
            self._join(self._spare)
            self._spare.give(Shown())
        self._spare.dismiss()
        self._wait(_LEAVE_S, lambda: self._spare is None)
        if self._spare is not None:
            self._spare.signal(signal.SIGKILL)

    def _wait(self, bound_s: float, done: Callable[[], bool]) -> None:
        """Hears nobody but those who work."""
        deadline_s = time.monotonic() + bound_s
        while not done() and (left_s := deadline_s - time.monotonic()) > 0:
            for key in ready(self._selector, left_s):
                if isinstance(key.fileobj, Worker):
                    self._reported(key.fileobj)
                else:
                    self._selector.unregister(key.fileobj)

    def _join(self, one: Worker) -> None:
        self._ears.expect(one.pid)
        self._selector.register(one, selectors.EVENT_READ, self._reported)

    def _reported(self, one: Worker) -> None:
        for message in one.read():
            if isinstance(message, int):
                one.ports.add(message)
                self._ears.expect(message)
            elif isinstance(message, frozenset):
                was_of_all, one.names = one.names is None, message
                if was_of_all or not message:
                    self._narrowed()
            elif isinstance(message, Round):
                one.has_reported = True
                self._looked(message)
            elif isinstance(message, Answers):
                one.has_reported = True
                self._answered(message)
            elif isinstance(message, Rested):
                one.is_resting = True
            elif isinstance(message, Taken):
                one.forget_asked()
            elif message is None:
                self._gone(one)
            else:
                self._done(one, message)

    def _done(self, one: Worker, report: Report) -> None:
        one.has_reported = True
        self._learn(one, report)
        if not report.goes_on:
            return
        one.rest()
        self._working.pop(one.pid, None)
        self._ears.retire(one.ports)
        one.ports = set()
        if self._spare is None:
            self._spare = one
        else:
            one.dismiss()

    def _gone(self, one: Worker) -> None:
        was_working = self._working.pop(one.pid, None) is not None
        if one.asked is not None:  # it was ending when it was given that: nobody has begun with it
            self._ask_again(*one.asked)
        self._send_away(one)
        if was_working:
            self._ended(one)

    def _ask_again(self, asked: Asked, connection: socket.socket) -> None:
        try:
            self._serve(connection, asked.text, asked.names, time.monotonic())
        except Unavailable as error:
            control.refuse(connection, error)

    def _send_away(self, one: Worker) -> None:
        """Nothing more is heard of it."""
        if self._spare is one:
            self._spare = None
        self._selector.unregister(one)
        self._ears.retire({*one.ports, one.pid})
        one.close()
        self._leaving.add(one.pid)
