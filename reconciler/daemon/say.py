"""What the daemon says, to a log that may have stopped listening: nobody waits for it."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable

Say = Callable[[str, str, str | None], None]  # level, words, tunnel


class Log:
    """Speaks only as long as somebody reads: a pipe or a socket that is full would hold up everything for ever."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._lost = 0

    def say(self, level: str, words: str, tunnel: str | None = None) -> None:
        """One line. What is lost is counted, and said when there is room again."""
        if not _has_room():
            self._lost += 1
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self._say("warning", f"{lost} lines of the log were lost: nobody read them", None)
        self._say(level, words, tunnel)


def _has_room() -> bool:
    """Of stderr. A file always has; what is closed costs nothing either."""
    try:
        poll = select.poll()
        poll.register(sys.stderr.fileno(), select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
