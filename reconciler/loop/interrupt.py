"""What ends a command from outside. Not exceptions of the work: nothing in it may take them for a failed step.

Every instant is one in which a command may end: the next pass goes on.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

from reconciler.host.signals import signal

_SOON_S = 0.01  # by then Python has left the place where it drops exceptions


class Interrupted(BaseException):
    """SIGTERM or SIGINT."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class TimeIsUp(BaseException):
    """The time that --timeout gave is over."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.timeout_s = timeout_s


def listen() -> None:
    """A closed terminal never stops a change half-way; SIGTERM and SIGINT stop it at once, wherever it is."""

    def interrupt(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Interrupted(number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def swallowed(unraisable: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in a destructor or a callback; an interrupt that met one comes once more."""
        error = unraisable.exc_value
        if isinstance(error, Interrupted):
            signal.signal(error.number, interrupt)
            _thread.start_new_thread(_send_soon, (error.number,))
        elif isinstance(error, TimeIsUp):
            signal.setitimer(signal.ITIMER_REAL, _SOON_S)
        else:
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = swallowed
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def no_more() -> None:
    """How it went is known: what is left to be done is told or kept for the next command, and takes a moment."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _send_soon(number: int) -> None:
    time.sleep(_SOON_S)
    os.kill(os.getpid(), number)
