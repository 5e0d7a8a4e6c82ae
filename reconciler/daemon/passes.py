"""The other end of a pass: a process that does what the loop asks for, one pass after another, and reports.

It is kept because it is warm: what it has decoded, its memory pages and its code are there. None of that is a fact: every
pass opens, locks, reads and looks anew, and a process that was killed is replaced by one that knows nothing and does the same.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

from reconciler.daemon import control
from reconciler.daemon.annals import Lines
from reconciler.daemon.channel import Inbox
from reconciler.daemon.lookups import Answers
from reconciler.daemon.rehearsal import rehearse
from reconciler.daemon.report import Report, report
from reconciler.daemon.say import Say
from reconciler.daemon.shown import Shown
from reconciler.errors import Bug, Locked, TunctlError
from reconciler.host.handles import Handles
from reconciler.host.machine import Machine
from reconciler.host.netlink import KernelError
from reconciler.host.resolve import Names
from reconciler.lean import suppress
from reconciler.loop import commands
from reconciler.loop.commands import Session
from reconciler.loop.probe import Round
from reconciler.loop.reconcile import Request, Watcher
from reconciler.model.names import TunnelName
from reconciler.model.plan import Outcome

_MOST_PASSES = 1000  # then the next process takes over: what leaks in it, if anything, goes with it


class Asked(NamedTuple):
    """What a user asked for; his connection comes along. `names`: what those of endpoints meant a moment ago."""

    text: bytes
    names: Names


class Rehearsal(NamedTuple):
    """Time to get ready for what somebody may ask for."""


class Taken(NamedTuple):
    """Begins with what a user asked for: from now on it is lost with this process, and not before."""


class Rested(NamedTuple):
    """Nothing is left to be done: whoever asks for something need not wait."""


# The port of its netlink socket, the tunnels it is about, at the end the report, or what a round of health checks came to,
# or a look-up of names.
Message = int | frozenset[TunnelName] | Report | Round | Answers | Rested | Taken
Tell = Callable[[Message], None]


def serve(session: Session, say: Say, channel: socket.socket, tell: Tell, first: object) -> None:
    """Until the loop closes its end, a pass asks for a new process, or this one has worked enough. `first`: what it begins
    with. Who has worked for a user has his rights and his directory: he is given nothing more."""
    session = telling(session, tell)._replace(handles=Handles(session.run_dir), unmarked={})
    inbox = Inbox(channel)
    for number, order in enumerate(chain((first,), inbox)):
        if isinstance(order, Asked):
            tell(Taken())
            session = session._replace(names=order.names, handles=None)  # a tunnel may have been forgotten, and declared again
            serve_user(socket.socket(fileno=inbox.connections.pop(0)), order.text, session, tell)
            return
        if isinstance(order, Request):
            done = _pass(session, order, say, tell)
            done = done._replace(goes_on=done.goes_on and number < _MOST_PASSES)
            tell(done)
            if not done.goes_on:
                return
        else:
            _prepare(session, say, order)
            tell(Rested())


def serve_user(connection: socket.socket, text: bytes, session: Session, tell: Tell) -> None:
    """What he asked for is done and told to him, whether or not the loop is still there to hear of it."""

    def told(message: Message) -> None:
        with suppress(ConnectionError):
            tell(message)

    control.serve(connection, text, telling(session, told), told)


def telling(session: Session, tell: Tell) -> Session:
    """It tells by which netlink port it changes the machine: nobody has to look at what that causes."""

    def opened(machine: Machine) -> None:
        with suppress(KernelError):  # whoever needs it says so
            tell(machine.rtnl.port)

    return session._replace(opened=opened)


def _prepare(session: Session, say: Say, order: object) -> None:
    """What has time, by whoever has it. A bug there is told like any other."""
    try:
        if isinstance(order, Rehearsal):
            with Machine(session.run_dir, handles=session.handles) as machine:
                rehearse(session, machine, privileged=True)
        elif isinstance(order, Shown):
            order.write(session.run_dir)
        elif isinstance(order, Lines):
            order.write(session.state_dir)
    except Exception as error:
        say("error", Bug.of(error).message, None)


def _pass(session: Session, request: Request, say: Say, tell: Tell) -> Report:
    def done(outcome: Outcome) -> None:
        if not outcome.error and not outcome.skipped:
            for step in outcome.step.told_apart():
                say("info", str(step), step.tunnel or None)

    try:
        return report(commands.keep(session, request, Watcher(done=done, about=tell)))
    except Locked as error:
        return Report(failure=error.message, locked=True, goes_on=True)
    except TunctlError as error:
        return Report(failure=error.message)
    except Exception as error:
        return Report(failure=Bug.of(error).message)
