"""One writer: a lock file of the run directory, and the claim of the network namespace (claim.py).

The file excludes commands of the same run directory, whoever squats on the socket; the socket excludes those of other
directories and containers. Both die with the process, so neither is ever stale, and the kernel knows the holder:
nothing is written into the file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from reconciler.errors import Foreign, NotPermitted, TunctlError, Unavailable
from reconciler.host import files
from reconciler.host.claim import claim, locked, pause_s
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from _socket import socket
    from pathlib import Path

FILE = "lock"


class Held:
    """The lock, held until `release` or the end of the process. `warnings`: a squatter has the socket."""

    def __init__(self, run_dir: str | Path, descriptor: int, listener: socket | None, warnings: tuple[str, ...]) -> None:
        self._run_dir = run_dir
        self._descriptor = descriptor
        self._listener = listener
        self.warnings = warnings

    def hold_again(self, timeout_s: float) -> None:
        """After it was released: others may have had it. Locked when it is not free within `timeout_s`."""
        again = hold(self._run_dir, timeout_s)
        self._descriptor, self._listener = again._descriptor, again._listener

    @property
    def is_held(self) -> bool:
        return self._descriptor >= 0

    def release(self) -> None:
        """Gives it up; twice is no error."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(run_dir: str | Path, timeout_s: float = 2.0) -> Held:
    """Takes both within `timeout_s` together, or raises Locked (75) naming who has them.

    NotPermitted, Foreign or Unavailable when the lock file cannot be made or must not be trusted.
    """
    deadline = time.monotonic() + timeout_s
    descriptor = _lock_file(run_dir, deadline)
    try:
        listener, warnings = claim(deadline)
    except BaseException:
        os.close(descriptor)
        raise
    return Held(run_dir, descriptor, listener, warnings)


def _lock_file(run_dir: str | Path, deadline: float) -> int:
    path = os.path.join(run_dir, FILE)
    while True:
        descriptor = _open(run_dir, path)
        try:
            _flock(descriptor, deadline, path)
            if _is_same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # somebody removed the run directory while we waited: what we hold excludes nobody


def _open(run_dir: str | Path, path: str) -> int:
    """0600: who may open it may hold it."""
    try:
        if not os.path.isdir(run_dir):
            files.make_directory(run_dir)
        _trust(os.stat(run_dir), str(run_dir))
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _refused(error, path) from error


def _flock(descriptor: int, deadline: float, path: str) -> None:
    """Polled: a blocking flock has no time limit."""
    begun_s = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                from reconciler.host.holder import file_holder

                raise locked(file_holder(os.fstat(descriptor)), path) from None
        else:
            return
        time.sleep(pause_s(begun_s, deadline))


def _is_same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _trust(found: os.stat_result, path: str) -> None:
    """Who can write here can replace the lock."""
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & stat.S_IWOTH:
        raise Foreign(
            f"{path} belongs to uid {found.st_uid} and has mode {stat.S_IMODE(found.st_mode):o}: others could replace the lock",
            hint="Choose another --run-dir, or take away the rights of others.",
        )


def _refused(error: OSError, path: str) -> TunctlError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(f"{path}: {error.strerror}", hint="Run it as root.")
    if error.errno == errno.ELOOP:
        return Foreign(f"{path} is a symbolic link", hint="Remove it: the lock is a file that tunctl makes itself.")
    return Unavailable(f"{path}: {error.strerror}", hint="Choose a --run-dir that can be written.")
