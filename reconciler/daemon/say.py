"""What the daemon says, to a log that may have stopped listening: nobody waits for it."""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Callable

_PLAIN, _ESCAPED = 1900, 300  # characters: a quote is two bytes then, a letter of another script, or an escape, twelve

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
        self._say(level, _short(words) if _is_pipe() else words, tunnel)


def _short(words: str) -> str:
    """What a pipe that has room takes at once (pipe(7): PIPE_BUF, 4096 bytes), also as JSON and with what cannot be shown
    escaped; the rest of a longer line would wait for a reader."""
    most = _PLAIN if words.isascii() and words.isprintable() else _ESCAPED
    return words if len(words) <= most else f"{words[:most]} …"


def _is_pipe() -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(sys.stderr.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def _has_room() -> bool:
    """Of stderr. A file always has; what is closed costs nothing either."""
    try:
        poll = select.poll()
        poll.register(sys.stderr.fileno(), select.POLLOUT)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
