"""Starts an owner process that outlives us, and lets it run only after it has been written down who it is.

The child waits at a pipe before it becomes the program. If we die before the word is given, the pipe closes and the child
ends: no process that nobody knows of. A fork instead of `subprocess` because of that gate (and because it is not imported).
"""

from __future__ import annotations

import errno
import fcntl
import os

from reconciler.host import children, clone, limits, mounts, process
from reconciler.host.signals import signal
from reconciler.lean import suppress
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

_UMASK = 0o022
_INTERRUPTS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class Identity(NamedTuple):
    """Who an owner with `user` runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Program(NamedTuple):
    """What is to be started."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]  # all of it
    identity: Identity | None = None
    own_mounts: str | None = None  # this directory is private to it: a new mount namespace, a tmpfs there
    group: str | None = None  # a control group that it is to be born in


class Started(NamedTuple):
    """A child that waits at its gate."""

    pid: int
    start_ticks: int
    gate: int
    report: int

    def release(self) -> None:
        """Lets it become the program. OSError (with the path) when the kernel could not execute it."""
        answer = b""
        try:
            with suppress(BrokenPipeError):  # killed at its gate: whoever waits for it to be ready will see that
                os.write(self.gate, b"g")
            os.close(self.gate)
            while more := os.read(self.report, 256):  # it closes with the exec
                answer += more
        finally:
            os.close(self.report)
        if answer:
            code, _, what = answer.partition(b" ")
            children.wait_status(self.pid)
            raise OSError(int(code), os.strerror(int(code)), os.fsdecode(what))

    def abandon(self) -> None:
        """Lets it end without having run anything."""
        os.close(self.gate)
        while os.read(self.report, 256):
            pass
        os.close(self.report)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        children.forget(self.pid)


def start(program: Program, log: int) -> Started:
    """Forks a session of its own with stdin from /dev/null and its output to the descriptor `log`; it waits for `release`."""
    search = program.environment.get("PATH", children.PATH)
    path = children.find(program.argv[0], search)
    if path is None:
        raise FileNotFoundError(errno.ENOENT, "not found in " + search, program.argv[0])
    if program.own_mounts:
        mounts.prepare(program.own_mounts)
    with _Descriptors() as opened:
        wait, gate = opened.pipe()
        report, tell = opened.pipe()
        null = opened.high(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        output = opened.high(os.dup(log))
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)  # Python swallows what is raised while it forks
        try:
            pid = clone.fork_into(program.group)
            if pid == 0:
                _become(program, path, wait, tell, (null, output, output))
            children.add(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        opened.keep(gate, report)
    child = process.stat(pid)
    started = Started(pid, child.start_ticks if child else 0, gate, report)
    if child is None:  # it failed at once, and says why; or was killed by somebody within microseconds
        started.release()
        children.wait_status(pid)
        raise ProcessLookupError(errno.ESRCH, "was killed before it could run", program.argv[0])
    return started


def _become(program: Program, path: str, wait: int, tell: int, stdio: tuple[int, int, int]) -> NoReturn:
    """In the child. No lock of the parent is held here, nothing is imported, and no way leads back."""
    what = path
    try:
        _leave_behind(wait, tell, stdio)
        if program.own_mounts:
            what = program.own_mounts
            mounts.make_private(program.own_mounts)
        if os.read(wait, 1) != b"g":
            os._exit(0)
        if program.identity:
            what = f"uid {program.identity.uid}"
            os.setgroups(program.identity.groups)
            os.setgid(program.identity.gid)
            os.setuid(program.identity.uid)
        what = path
        limits.give_back()
        os.execve(path, program.argv, program.environment)  # noqa: S606 - that there is no shell is the point
    except OSError as error:
        os.write(tell, f"{error.errno or errno.EIO} {what}".encode(errors="surrogateescape"))
    finally:
        os._exit(127)


def _leave_behind(wait: int, tell: int, stdio: tuple[int, int, int]) -> None:
    """Signal handlers, terminal, working directory, umask and every descriptor of the parent."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.umask(_UMASK)
    os.chdir("/")
    for target, source in enumerate(stdio):
        os.dup2(source, target)
    low, high = sorted((wait, tell))
    os.closerange(3, low)
    os.closerange(low + 1, high)
    os.closerange(high + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 1 << 20)


class _Descriptors:
    """Descriptors above stdin, stdout and stderr, closed at the end of the block unless kept."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> _Descriptors:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def high(self, descriptor: int) -> int:
        """Moves it out of the way of 0, 1, 2 (which may be closed in a daemon)."""
        try:
            moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
        finally:
            os.close(descriptor)
        self._open.add(moved)
        return moved

    def pipe(self) -> tuple[int, int]:
        """Read end, write end."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        return self.high(reading), self.high(writing)

    def keep(self, *descriptors: int) -> None:
        self._open.difference_update(descriptors)
