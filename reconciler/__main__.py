"""The entry point. `status` takes the short way, in which nothing but the standard library is loaded."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    """Runs the command line of this process and ends it with the exit code that PRODUCT fixed."""
    gc.disable()  # a command lives for a second; looking for cycles among 10 000 routes costs a third of it
    arguments = sys.argv[1:]
    from reconciler.cli.short import run_short

    code = run_short(arguments)
    if code is None:
        from reconciler.cli.main import run

        code = run(arguments)
    _end(code)


def _end(code: int) -> None:
    """Without taking the interpreter apart first: nothing is left to be done, and that costs a seventh of `status`."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # closed before we started, or by a reader that went away
            continue
    os._exit(code)


if __name__ == "__main__":
    main()
