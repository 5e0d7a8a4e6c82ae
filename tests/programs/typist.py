"""typist.py SHELL [WORD…]: types into an interactive shell at a terminal, as a person does. On stdin JSON: "begin", a command
to begin with, and "lines". Prints as a JSON list what stands there after each of these and the tab key.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

_PATIENCE_S = 40
_TAB, _HOME, _END = "\t", "\x01", "\x05"
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x07\r]")


class Typist:
    """At a terminal as wide as no line."""

    def __init__(self, argv: list[str]) -> None:
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.execvp(argv[0], argv)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 5000, 0, 0))
        self._seen = ""

    def after_tab(self, number: int, line: str) -> str:
        """What the shell made of the line."""
        mark = f"@{number}@"
        self._type(f"{line}{_TAB}{_HOME}echo '{mark}{_END}{mark}'\n")
        return self._wait(f"^{mark}([^@]*){mark}$").rstrip()

    def run(self, command: str) -> None:
        """A command, until it is done."""
        self._type(f"{command}; echo do''ne\n")
        self._wait("^(done)$")

    def _type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def _wait(self, pattern: str) -> str:
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := re.search(pattern, self._seen, re.MULTILINE)):
            if time.monotonic() > deadline:
                sys.exit(f"{pattern} does not come: {self._seen!r}")
            if select.select([self._terminal], [], [], 1)[0]:
                self._seen = _ESCAPES.sub("", self._seen + os.read(self._terminal, 65536).decode(errors="replace"))
        return found[1]


def main() -> int:
    order = json.load(sys.stdin)
    typist = Typist(sys.argv[1:])
    typist.run(order["begin"])
    print(json.dumps([typist.after_tab(number, line) for number, line in enumerate(order["lines"])]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
