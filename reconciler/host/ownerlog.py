"""What an owner process prints: a bounded file in the tunnel's run directory."""

from __future__ import annotations

import fcntl
import os
import stat

from reconciler.lean import suppress
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "owner.log"
LIMIT = 1024 * 1024  # bytes; more is cut off at the front
_KEPT = 256 * 1024
_TAIL = 256 * 1024
_FLAGS = os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # never waits for the other end of a planted FIFO
_CUT = "(log capture truncated)"
_MOST_FOLLOWED = 200  # lines of one start


def open_for_writing(path: str | Path) -> int:
    """A descriptor that appends, mode 0600. Whatever else stands there (a symlink, a FIFO) is taken away first."""
    for last in (False, True):
        try:
            descriptor = os.open(path, _FLAGS | os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError:
            if last:
                raise
            os.unlink(path)
            continue
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1:
            os.fchmod(descriptor, 0o600)
            fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)  # the program gets a blocking one
            return descriptor
        os.close(descriptor)
        os.unlink(path)
    raise FileExistsError(f"{path} is taken by something that is no file of ours")


def bound_log(path: str | Path, limit: int = LIMIT) -> None:
    """Keeps the end of a log that grew over the limit. The owner appends, so it goes on writing to the same file."""
    with suppress(OSError):
        descriptor = os.open(path, _FLAGS | os.O_RDWR)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size > limit:
                kept = os.pread(descriptor, _KEPT, status.st_size - _KEPT)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, kept.partition(b"\n")[2] or kept)
        finally:
            os.close(descriptor)


def size(path: str | Path) -> int:
    """In bytes; 0 when there is none."""
    with suppress(OSError):
        return os.lstat(path).st_size
    return 0


def tail(path: str | Path, lines: int = 12, since: int = 0) -> list[str]:
    """The last lines written after byte `since`, safe to print: control characters and broken UTF-8 are made visible."""
    content, cut = b"", False
    with suppress(OSError):
        descriptor = os.open(path, _FLAGS | os.O_RDONLY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return []
            start = since if since <= status.st_size else 0  # it was cut meanwhile
            cut = status.st_size - start > _TAIL
            content = os.pread(descriptor, _TAIL, max(start, status.st_size - _TAIL))
        finally:
            os.close(descriptor)
    text = [printable(line) for line in content.decode(errors="replace").split("\n") if line.strip()]
    return [_CUT, *text[-lines:]] if cut else text[-lines:]


class Follower:
    """Hands over what is written to a log from byte `since` on, line by line, as it comes."""

    def __init__(self, path: str | Path, since: int) -> None:
        self._path, self._at = path, since
        self._begun = b""  # a line that is not whole yet
        self._left = _MOST_FOLLOWED

    def lines(self) -> list[str]:
        """Whole lines that are new, safe to print. Of a program that babbles only the first ones."""
        if self._left <= 0:
            return []
        *whole, self._begun = (self._begun + self._read()).split(b"\n")
        shown = [printable(line.decode(errors="replace")) for line in whole if line.strip()]
        kept = shown[: self._left]
        is_cut = len(kept) < len(shown) or len(self._begun) > _TAIL
        self._left = 0 if is_cut else self._left - len(kept)
        return [*kept, _CUT] if is_cut else kept

    def _read(self) -> bytes:
        with suppress(OSError):
            descriptor = os.open(self._path, _FLAGS | os.O_RDONLY)
            try:
                content = os.pread(descriptor, _TAIL, self._at) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
            finally:
                os.close(descriptor)
            self._at += len(content)
            return content
        return b""


def printable(line: str) -> str:
    """Without anything that could move a terminal's cursor; at most 1000 characters."""
    shown = line.rstrip("\r")[:1000]
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in shown)
