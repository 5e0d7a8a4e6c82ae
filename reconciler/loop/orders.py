"""The carrying out of what a user asked for: the same here and in the daemon, with the same words."""

from __future__ import annotations

import time
from contextlib import contextmanager

from reconciler.errors import NotConverged, StoreError, UsageError
from reconciler.host.signals import signal
from reconciler.loop import commands
from reconciler.loop.commands import Done, Session
from reconciler.loop.interrupt import TimeIsUp
from reconciler.loop.reconcile import Watcher
from reconciler.model.names import HOST, TunnelName
from reconciler.model.order import Order
from reconciler.model.plan import Outcome, Plan
from reconciler.report import changes as report
from reconciler.report.paint import Paint
from reconciler.typed import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Voice(Protocol):
    """To whom it is told: lines of data, one document, notes beside them."""

    @property
    def paint(self) -> Paint: ...
    def data(self, lines: Iterable[str]) -> None: ...
    def document(self, make: Callable[[], dict[str, Any]]) -> None: ...
    def note(self, level: str, message: str, tunnel: str | None = None) -> None: ...


def carry_out(
    session: Session, order: Order, voice: Voice, about: Callable[[frozenset[TunnelName]], None] = lambda _names: None
) -> int:
    """Does it, tells how it went, and returns the exit code. `about`: told which tunnels it works on."""
    return _finish(voice, _ORDERS[order.command](session, order, _watcher(voice, about)))


def _apply(session: Session, order: Order, watch: Watcher) -> Done:
    deadline = time.monotonic() + order.timeout_s
    with _bounded(order.timeout_s):
        done = commands.apply(session, order.file, order.options, watch)
    if not order.wait or not done.result.converged:
        return done
    watch.about(frozenset())  # while it waits, other passes may be at work on them
    return _waited(session, done, deadline)


def _waited(session: Session, done: Done, deadline: float) -> Done:
    """The same, with what is not connected at the deadline as an error: there is one document, and it says so."""
    from reconciler.loop.wait import wait_until_connected

    try:
        wait_until_connected(session, done.declared, deadline)
    except NotConverged as error:
        return done._replace(result=done.result._replace(errors=((HOST, error),)))
    return done


def _up(session: Session, order: Order, watch: Watcher) -> Done:
    _names_or_all(order)
    return commands.up(session, order.names, watch)


def _down(session: Session, order: Order, watch: Watcher) -> Done:
    if order.orphans:
        if order.names or order.every:
            raise UsageError("--orphans goes without names and without --all")
        from reconciler.loop import salvage

        return salvage.down_orphans(session, watch)
    _names_or_all(order)
    try:
        return commands.down(session, order.names, watch)
    except StoreError as error:
        if not order.every:
            raise
        from reconciler.loop import salvage

        return salvage.down_without_store(session, error, watch)


def _forget(session: Session, order: Order, watch: Watcher) -> Done:
    if (bool(order.names) + bool(order.source) + order.every) != 1:
        raise UsageError("forget takes names, or --source, or --all")
    return commands.forget(session, order.names, order.source, watch)


def _reconcile(session: Session, _order: Order, watch: Watcher) -> Done:
    return commands.reconcile_all(session, watch)


def _rebind(session: Session, order: Order, watch: Watcher) -> Done:
    return commands.rebind(session, order.names, watch)


_ORDERS = {"apply": _apply, "up": _up, "down": _down, "forget": _forget, "reconcile": _reconcile, "rebind": _rebind}


def _names_or_all(order: Order) -> None:
    if bool(order.names) == order.every:
        raise UsageError("names of tunnels, or --all")


def _watcher(voice: Voice, about: Callable[[frozenset[TunnelName]], None]) -> Watcher:
    """Steps are shown before they are done, and what fails as soon as it does."""

    def planned(plan: Plan) -> None:
        voice.data(report.plan_text(plan, paint=voice.paint))

    def done(outcome: Outcome) -> None:
        if outcome.error is not None:
            voice.note("error", outcome.error.message, outcome.step.tunnel or None)

    def said(name: TunnelName, line: str) -> None:
        voice.note("info", line, name)

    return Watcher(planned, done, said, about)


def _finish(voice: Voice, done: Done) -> int:
    result = done.result
    notes = (*done.notes, *result.warnings)
    plan = result.plan._replace(warnings=(*result.plan.warnings, *notes))
    voice.document(lambda: report.result_json(plan, done.held, result.outcomes, result.errors))
    for note in notes:
        voice.note("warning", note)
    for remark in result.remarks:
        voice.note("info", remark)
    for name in done.held:
        voice.note("info", f"held down (tunctl up {name})", name)
    told = {outcome.error for outcome in result.outcomes if outcome.error}
    for words in report.errors_told(pair for pair in result.errors if pair[1] not in told):
        voice.note(*words)
    return result.exit_code


@contextmanager
def _bounded(timeout_s: float) -> Iterator[None]:
    """Ends the command when its time is over; what was done until then stays recorded, the next pass goes on."""

    def expired(_number: int, _frame: object) -> None:
        raise TimeIsUp(timeout_s)

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
