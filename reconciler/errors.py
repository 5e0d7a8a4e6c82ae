"""The exception tree. The class says who must act, and carries the exit code that PRODUCT fixed for it."""

from __future__ import annotations

from reconciler.typed import NamedTuple


class Problem(NamedTuple):
    """One thing that is wrong in a file: printed as ``file:line: key: message``."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class TunctlError(Exception):
    """Anything tunctl says no with. ``message`` names the object and the input, ``hint`` is one sentence to follow."""

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "", details: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class NotConverged(TunctlError):
    """Not everything could be made so (1)."""

    exit_code = 1


class UsageError(TunctlError):
    """A wrong command line or an unknown tunnel name (64)."""

    exit_code = 64


class InvalidFile(TunctlError):
    """A file that is missing, unreadable, invalid or refused (65)."""

    exit_code = 65


class Unavailable(TunctlError):
    """The machine, or this version of tunctl, lacks something (69)."""

    exit_code = 69


class Bug(TunctlError):
    """A bug in tunctl (70)."""

    exit_code = 70

    @classmethod
    def of(cls, error: Exception, where: str = "") -> Bug:
        """One for an exception that nobody expected; the traceback is shown with --debug."""
        made = cls(f"{where}{type(error).__name__}: {error}", hint="please report this with the output of --debug")
        made.__cause__ = error
        return made


class Foreign(TunctlError):
    """Something that is not ours stands where we want our own (73)."""

    exit_code = 73


class PortTaken(Foreign):
    """Somebody else has every port that a tunnel may have. One that was up before is degraded by that, not more."""


class StoreError(TunctlError):
    """The store cannot be read or written (74)."""

    exit_code = 74


class OutputLost(TunctlError):
    """Standard output cannot be written: what was asked for reached nobody (74, EX_IOERR of sysexits.h)."""

    exit_code = 74


class Locked(TunctlError):
    """Another tunctl holds the lock (75)."""

    exit_code = 75


class NotPermitted(TunctlError):
    """A privilege is missing (77)."""

    exit_code = 77


class StepFailed(TunctlError):
    """One step did not work; the message is the kernel's (1)."""

    exit_code = 1


class LookAgain(TunctlError):
    """What a step has made could not be known before: no failure, the next look decides how to go on (1)."""

    exit_code = 1


class NotObserved(TunctlError):
    """A look at the machine failed: not a fact about it (1)."""

    exit_code = 1
