"""Deliberate death and failure, for those who want to see what a crash does: nothing unless TUNCTL_FAULT is set.

``kill-before:N`` and ``kill-after:N`` end the process with SIGKILL before or after its N-th step (counted from 1
over the whole command); ``kill-at:POINT`` at a point between steps: stored, observed, acted, verified, recorded;
``fail:N:ENAME`` makes the N-th step fail with that errno, without doing it.
"""

from __future__ import annotations

import errno
import os

from reconciler.errors import StepFailed, UsageError
from reconciler.host.signals import signal
from reconciler.typed import NamedTuple

VARIABLE = "TUNCTL_FAULT"
POINTS = ("stored", "observed", "acted", "verified", "recorded")


class Fault(NamedTuple):
    """One wish for trouble."""

    what: str  # kill-before · kill-after · kill-at · fail
    step: int = 0
    point: str = ""
    errno: int = 0

    def before(self, number: int, what: object) -> StepFailed | None:
        """Called before each step, which is about `what`; an error is the step's outcome."""
        if self.step != number:
            return None
        if self.what == "kill-before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "fail":
            return StepFailed(f"{what}: {os.strerror(self.errno)} (injected by {VARIABLE})")
        return None

    def after(self, number: int) -> None:
        if self.what == "kill-after" and self.step == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def at(self, point: str) -> None:
        if self.what == "kill-at" and self.point == point:
            os.kill(os.getpid(), signal.SIGKILL)


def from_environment() -> Fault | None:
    """The fault that TUNCTL_FAULT asks for; UsageError when it cannot be understood."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    what, _, rest = text.partition(":")
    if what == "kill-at" and rest in POINTS:
        return Fault(what, point=rest)
    number, _, name = rest.partition(":")
    if number.isdigit() and (what in ("kill-before", "kill-after") and not name):
        return Fault(what, int(number))
    code = getattr(errno, name, None) if what == "fail" and number.isdigit() else None
    if code is not None:
        return Fault(what, int(number), errno=code)
    raise UsageError(f"{VARIABLE}={text} is not understood", hint="kill-before:N, kill-after:N, kill-at:POINT or fail:N:ENAME")


def point(fault: Fault | None, name: str) -> None:
    """A place between steps where a process may die."""
    if fault is not None:
        fault.at(name)
