"""Data to stdout, everything else to stderr. Neither a reader that went away nor a full disk stops a change half-way."""

from __future__ import annotations

import os
import sys
import time

from reconciler.errors import OutputLost, TunctlError
from reconciler.host.jsontext import dumps
from reconciler.report.paint import Paint
from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

# What moves a cursor, sets a title, or turns the direction of writing: in a name or a word of somebody else's program.
# Line ends, tabs and the colours of Paint pass.
_COLOURS = (0, 1, 31, 32, 33, 90)
_CONTROL = r"(?!\x1b\[(?:0|1|31|32|33|90)m)[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"


class Output:
    """How this command talks."""

    def __init__(
        self, *, as_json: bool = False, colour: bool | None = None, debug: bool = False, log_json: bool = False
    ) -> None:
        self.as_json = as_json
        self.debug = debug
        self.log_json = log_json
        wanted = colour if colour is not None else "NO_COLOR" not in os.environ
        self.paint = Paint(on=wanted and not as_json and sys.stdout.isatty())
        self.closed = False  # whoever read our data went away
        self.goes_on = False  # the command changes something, and its exit code tells how that went
        self.paint_err = Paint(on=wanted and not log_json and sys.stderr.isatty())

    def data(self, lines: Iterable[str]) -> None:
        """Text for people, unless JSON was asked for."""
        if not self.as_json:
            text = "\n".join(lines)
            if text:
                self._give(text)

    def document(self, make: Callable[[], dict[str, Any]]) -> None:
        """The one JSON document of this command, on one line; it is only made when somebody wants it."""
        if self.as_json:
            self._give(dumps(make()))

    def note(self, level: str, message: str, tunnel: str | None = None) -> None:
        """A word beside the data: info, warning, error."""
        if self.log_json:
            self._log(level, message, tunnel)
        else:
            colour = {"error": "red", "warning": "yellow"}.get(level)
            text = f"{tunnel}: {message}" if tunnel else message
            line = text if level == "info" else f"{level}: {text}"
            self._write(sys.stderr, _for_journal(level, self.paint_err(line, colour) if colour else line))

    def _log(self, level: str, message: str, tunnel: str | None) -> None:
        """One JSON object on one line; the time is RFC 3339, UTC."""
        from reconciler.model.moment import rfc3339

        readable = message.encode(errors="backslashreplace").decode()  # half a surrogate is no JSON for many
        entry = {"time": rfc3339(time.time_ns() // 1000), "level": level, "tunnel": tunnel, "message": readable}
        self._write(sys.stderr, _for_journal(level, dumps(entry)))

    def error(self, error: TunctlError) -> None:
        """Why a command could not do its work, with every place in a file, and one hint."""
        if self.as_json:
            from reconciler.report import plain

            self._write(sys.stdout, dumps(plain.error(error)))
        lines = [str(problem) for problem in error.details]
        told = error.message in lines or any(problem.message == error.message for problem in error.details)
        for line in lines if told else (*lines, error.message):
            self.note("error", line)
        if error.hint:
            self.note("info", f"hint: {error.hint}")
        if self.debug and error.__cause__ is not None:
            import traceback

            trace = "".join(traceback.format_exception(error.__cause__))
            if self.log_json:
                self._log("debug", trace, None)
            else:
                self._write(sys.stderr, trace)

    def _give(self, text: str) -> None:
        """OutputLost when it reached nobody and was all that the command is for: half a file must not pass for a whole one."""
        problem = self._write(sys.stdout, text)
        if problem and not self.goes_on:
            raise OutputLost(f"standard output cannot be written: {problem}")

    def _write(self, stream: TextIO, line: str) -> str | None:
        """One line; what cannot be shown is escaped, and a closed pipe is nobody's error. → why it could not be written"""
        encoding = stream.encoding or "utf-8"
        line = _shown(line)
        try:
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()
        except BrokenPipeError:
            self.closed = self.closed or stream is sys.stdout
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, stream.fileno())
            os.close(devnull)
        except OSError as error:
            return error.strerror
        return None


def _shown(text: str) -> str:
    """The same, with what cannot be shown made visible."""
    words = text.replace("\n", " ").replace("\t", " ")
    for code in _COLOURS:
        words = words.replace(f"\x1b[{code}m", " ")
    if words.isprintable():  # nearly always, and much is saved by knowing that
        return text
    import re

    return re.sub(_CONTROL, lambda found: found[0].encode("unicode_escape").decode(), text)


_PRIORITIES = {"error": "<3>", "warning": "<4>", "info": "<6>", "debug": "<7>"}  # sd-daemon(3), numbers of syslog(3)


def _for_journal(level: str, text: str) -> str:
    """The text with the priority that the journal reads off each line and cuts off; unchanged when stderr goes elsewhere."""
    if not _is_journal():
        return text
    return "\n".join(_PRIORITIES[level] + line for line in text.split("\n"))


def _is_journal() -> bool:
    """Is stderr what $JOURNAL_STREAM (systemd.exec(5)) names, by device and inode?"""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        found = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"
