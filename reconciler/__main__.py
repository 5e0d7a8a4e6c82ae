"""The entry point. Plain words take the short way, without click; `status` loads nothing but the standard library in it."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` makes enumerations of it first
import gc
import os
import sys


def main() -> None:
    """Runs the command line of this process and ends it with the exit code that PRODUCT fixed."""
    gc.disable()  # a command lives for a second; looking for cycles among 10 000 routes costs a third of it
    _end_quietly()
    _have_streams()
    arguments = sys.argv[1:]
    from reconciler.cli.short import run_short

    code = run_short(arguments)
    if code is None:
        from reconciler.cli.main import run

        code = run(arguments)
    _end(code)


def _end_quietly() -> None:
    """Ctrl-C ends us as it ends any program, not with a traceback; commands that change something listen for it themselves."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)


def _have_streams() -> None:
    """For those that were closed before we started: else the next file that is opened, the store maybe, is taken for one."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _end(code: int) -> None:
    """Without taking the interpreter apart first: nothing is left to be done, and that costs a seventh of `status`."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # the reader went away, or the disk is full
            continue
    os._exit(code)


if __name__ == "__main__":
    main()
