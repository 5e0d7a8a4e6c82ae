"""The entry point. `status` takes the short way, in which nothing but the standard library is loaded."""

from __future__ import annotations

import gc
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
    sys.exit(code)


if __name__ == "__main__":
    main()
