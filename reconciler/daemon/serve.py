"""The loop: events, programs that end, signals and the clock in, passes out. It reads no store, no kernel state and no file
of a tunnel itself, and writes none; it decides when a pass is due, which passes may run side by side, and what they must
leave alone."""

from __future__ import annotations

import os
import selectors
import signal
import time
from contextlib import ExitStack

from reconciler.daemon import control, notify
from reconciler.daemon.annals import Annals
from reconciler.daemon.crew import Crew
from reconciler.daemon.door import Door
from reconciler.daemon.listening import Ears
from reconciler.daemon.lookups import Answers, Lookups
from reconciler.daemon.place import Place
from reconciler.daemon.ready import ready
from reconciler.daemon.report import Repaired, Report
from reconciler.daemon.rounds import Rounds
from reconciler.daemon.say import Say
from reconciler.daemon.shown import Shown
from reconciler.daemon.tally import Tally
from reconciler.daemon.worker import Worker
from reconciler.errors import Unavailable
from reconciler.host.board import Fight
from reconciler.loop.commands import Session
from reconciler.loop.probe import Round
from reconciler.loop.queue import Repairs, Rest, Restarts, Timetable
from reconciler.loop.reconcile import Request
from reconciler.loop.watch import Due
from reconciler.model.names import HOST, TunnelName
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Restart
from reconciler.store.stored import Line
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

LOCKED_S = 0.1  # until the next try when another tunctl was at work
FAILED_S = 5.0  # until the next try when a pass could not even look
QUIET_S = 0.02  # with nothing due for so long there is time to get a process ready


class Daemon:
    """One of them a run directory (the caller has its lock). As a context it hears signals; `run` returns when it was told
    to end."""

    def __init__(self, session: Session, say: Say) -> None:
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._stack = ExitStack()
        self._ears = Ears(self._selector, session.run_dir)
        self._door = Door(self._selector, session.run_dir)
        self._crew = Crew(self._selector, self._ears, session._replace(gives_way=True), say)
        self._shown: Shown | None = None  # what `status` and `metrics` were told last
        self._due = Timetable(time.monotonic())
        self._repairs, self._restarts = Repairs(), Restarts()
        self._apart: set[TunnelName] = set()  # due for a pass of their own
        self._settings: dict[TunnelName, tuple[int, Restart]] = {}
        self._told: dict[TunnelName, str] = {}  # errors that were said
        self._warned: frozenset[str] = frozenset()  # that still hold
        self._tally, self._rounds, self._lookups = Tally(), Rounds(), Lookups()
        self._is_news = self._goes_by_news = False  # the next pass, this pass is only due because names mean something else
        self._annals = Annals()
        self._was_killed = False  # the last pass: another one follows at once, and then with patience
        self._ends = self._has_learned = False
        self._watchdog_s = notify.watchdog_s()

    def __enter__(self) -> Daemon:
        self._selector.register(self._stack.enter_context(self._ears.signals()), selectors.EVENT_READ, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, place: Place) -> None:
        """Until SIGTERM or SIGINT. The tunnels stay as they are. Locked when another daemon has taken our place."""
        self._ears.listen(self._heard)
        self._crew.listen(self._learn, self._looked, self._answered, self._ended, lambda: self._heard(Due.NOW))
        self._door.open(self._ordered)
        while not self._ends:
            self._mind(place)
            self._start_due()
            for key in ready(self._selector, self._patience()):
                key.data(key.fileobj)
            self._door.forget_the_slow(time.monotonic())
            if self._watchdog_s:
                notify.tell("WATCHDOG=1")
        notify.tell("STOPPING=1")
        self._door.close()
        self._crew.end(self._annals.lines)

    def _mind(self, place: Place) -> None:
        """After each pass: does anybody who looks for the daemon find this one?"""
        if not self._has_learned or (place.is_there and self._door.is_there):
            return
        self._has_learned = False
        try:
            if not place.is_there:
                place.take_again()
            self._door.open(self._ordered)
            self._say("warning", "somebody removed the daemon's files in the run directory: they are there again", None)
        except Unavailable as error:
            self._fail(error.message)

    # what wakes it

    def _signalled(self, reading: int) -> None:
        for number in os.read(reading, 4096):
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ends = True
            elif number == signal.SIGHUP:
                notify.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._heard(Due.NOW)
                notify.tell("READY=1")

    def _heard(self, due: Due) -> None:
        """An event."""
        self._is_news = False
        self._due.mark(due, time.monotonic())

    def _ordered(self, connection: socket.socket, text: bytes) -> None:
        """A user has asked for something: what was before does not count against it."""
        if self._crew.is_full:
            control.refuse(connection)
            return
        self._restarts.forget(self._settings)
        try:
            self._crew.order(connection, text, self._lookups.names or {}, time.monotonic())
        except Unavailable as error:
            control.refuse(connection, error)
        connection.close()

    # what it does

    def _start_due(self) -> None:
        now_s = time.monotonic()
        self._crew.stop_the_late(now_s)
        self._crew.reap()
        try:
            self._start_all(now_s)
        except Unavailable as error:  # no room for a process: what is due stays so, and is tried again
            self._fail(error.message)
            self._due.at(now_s + FAILED_S)

    def _start_all(self, now_s: float) -> None:
        for name in sorted(self._apart - self._crew.busy):
            if not self._crew.is_full:
                self._start(frozenset((name,)))
                self._apart.discard(name)
        if self._rounds.due_s is not None and now_s >= self._rounds.due_s:
            self._rounds.put_off(now_s)
            self._crew.make_round(now_s)
            self._rounds.begun()
        if self._lookups.due_s is not None and now_s >= self._lookups.due_s:
            self._lookups.put_off(now_s)
            self._crew.look_up(now_s)
            self._lookups.begun(now_s)
        next_s = self._due.next_s
        if next_s is not None and now_s >= self._crew.free_from_s(next_s):
            self._due.begun(now_s)
            self._is_news, self._goes_by_news = False, self._is_news
            self._start(None)
        elif self._crew.is_idle and (next_s is None or next_s > now_s + QUIET_S):
            self._crew.keep_one_warm(at_leisure=self._annals.due_s is None)
            self._write_up(now_s)

    def _start(self, names: frozenset[TunnelName] | None) -> None:
        now_s = time.monotonic()
        request = Request(
            names, requested=False, cause="daemon", patient=True, apart=names is None, besides=self._crew.busy,
            withheld=self._repairs.withheld(now_s), resting=self._resting(now_s),
            names=self._lookups.names,
        )  # fmt: skip
        self._crew.start(request, now_s)

    def _resting(self, now_s: float) -> dict[TunnelName, Rest]:
        rests = {name: self._restarts.rest(name, restart, now_s) for name, (_, restart) in self._settings.items()}
        return {name: rest for name, rest in rests.items() if rest is not None}

    def _learn(self, one: Worker, report: Report) -> None:
        now_s = time.monotonic()
        self._was_killed, self._has_learned = False, True
        if report.failure:
            self._tally.missed("locked" if report.locked else "failed")
            self._due.at(now_s + (LOCKED_S if report.locked else FAILED_S))
            if not report.locked:
                self._fail(report.failure)
                self._ears.ready()  # it is tried again, and nobody's boot waits for that
            return
        self._apart |= report.apart
        known = {name: generation for name, (generation, _) in self._settings.items()}
        self._restarts.forget(name for name, generation, _ in report.restarts if known.get(name, generation) != generation)
        self._settings = {name: (generation, restart) for name, generation, restart in report.restarts}
        self._tally.passed("tunnel" if one.names else "all", now_s - one.begun_s, report.work, self._settings)
        self._ears.know(report)
        self._lookups.know(report.names, now_s, is_news=one.names is not None or self._goes_by_news)
        self._rounds.know(now_s, wanted=report.asks_health, changed=bool(report.steps))
        self._count(report, now_s)
        self._annals.add(report.lines, now_s)
        self._tell(dict(report.errors), about=one.names)
        for note in (*report.notes, *(text for text in report.warnings if text not in self._warned)):
            self._warn(note)
        self._warned = frozenset(report.warnings)
        self._due.at(now_s + report.interval_s)
        self._try_again(one, report, now_s)
        for until_s in self._repairs.withheld(now_s).values():
            self._due.at(until_s)
        self._ears.ready()

    def _try_again(self, one: Worker, report: Report, now_s: float) -> None:
        """Those that wait, when their time has come by every clock; not those that others are seeing to, or will as soon as
        there is room."""
        resting, others = self._resting(now_s), self._apart | self._crew.busy - (one.names or frozenset())
        for name, after_s in report.retries:
            if name not in others:
                self._due.at(now_s + max(after_s, resting[name].for_s if name in resting else 0.0))

    def _looked(self, made: Round) -> None:
        self._rounds.made(made, time.monotonic())
        for name, words in made.told:
            self._say("warning", words, name)
        self._annals.add(made.lines, time.monotonic())
        if made.turned:
            self._due.at(time.monotonic())

    def _answered(self, answers: Answers) -> None:
        now_s, next_s = time.monotonic(), self._due.next_s
        if self._lookups.made(answers):
            self._is_news = next_s is None or next_s > now_s
            self._due.at(now_s)

    def _count(self, report: Report, now_s: float) -> None:
        for step in report.steps:
            kind = step.key[0] if isinstance(step.key, tuple) else ""
            if kind == "owner":
                if step.verb in (Verb.CREATE, Verb.REPLACE):
                    self._restarts.add(step.tunnel, now_s)
            elif step.verb is not Verb.DELETE and self._repairs.add(step.key, now_s):
                self._contested(step, str(kind))

    def _contested(self, step: Repaired, kind: str) -> None:
        fight = Fight(step.tunnel, step.text, self._ears.culprits.of(kind))
        if self._repairs.fight(step.key, fight):
            self._say("warning", str(fight), step.tunnel or None)
            line = Line(time.time_ns() // 1000, step.tunnel, "contested", f"{fight.text} {fight.undone}")
            self._annals.add((line,), time.monotonic())

    def _write_up(self, now_s: float) -> None:
        """What nobody should have to wait for."""
        shown = Shown(self._tally.meter, tuple(self._repairs.contested(now_s)))
        if shown != self._shown and self._crew.have_written(shown):
            self._shown = shown
        if self._annals.is_due(now_s) and self._crew.have_written(lines := self._annals.lines):
            self._annals.written(lines)

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

    def _fail(self, message: str) -> None:
        """What is the trouble of no tunnel: what was said of theirs still holds."""
        self._tell({HOST: message}, about=frozenset((HOST,)))

    def _ended(self, one: Worker) -> None:
        if one.is_order:
            self._due.at(time.monotonic())
        elif one.is_round:
            self._rounds.ended(time.monotonic(), has_reported=one.has_reported)
        elif one.is_lookup:
            self._lookups.ended(time.monotonic(), has_reported=one.has_reported)
        elif not one.has_reported and not self._ends:  # nothing was learned from it
            self._tally.missed("killed")
            self._due.at(time.monotonic() + (FAILED_S if self._was_killed else 0.0))
            self._was_killed = True
            self._say("warning", "a pass was killed; what it was to do is done by another one", None)

    def _patience(self) -> float:
        times = [*self._crew.deadlines_s, *self._door.deadlines_s]
        if self._due.next_s is not None:
            times.append(self._crew.free_from_s(self._due.next_s))
        times += [due_s for due_s in (self._rounds.due_s, self._lookups.due_s) if due_s is not None]
        if self._crew.is_idle and self._annals.due_s is not None:
            times.append(self._annals.due_s)
        if self._watchdog_s:
            times.append(time.monotonic() + self._watchdog_s)
        return max(0.0, min(times, default=time.monotonic() + FAILED_S) - time.monotonic())
