"""One writer: a lock file of the run directory, and a listening abstract socket of the network namespace.

The file excludes commands of the same run directory; the socket those of other directories and containers that share
this namespace. Both die with the process; neither is ever stale. Nothing is written into the lock: the kernel knows
its holder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from reconciler.errors import Foreign, Locked, NotPermitted, TunctlError, Unavailable
from reconciler.host import files

FILE = "lock"
SOCKET = "\0tunctl"
_POLL_S = 0.02
_COMMAND_CHARS = 200


class Peer(NamedTuple):
    """Who listens on the socket: SO_PEERCRED (struct ucred: pid, uid, gid). pid 0: outside our pid namespace."""

    pid: int
    uid: int


class Held:
    """The lock, held until `release` or the end of the process."""

    def __init__(self, descriptor: int, listener: socket.socket | None, warnings: tuple[str, ...]) -> None:
        self._descriptor = descriptor
        self._listener = listener
        self.warnings = warnings

    def release(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Held:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def hold(run_dir: Path, timeout_s: float = 2.0) -> Held:
    """Takes both within `timeout_s`, or raises Locked naming who has them. `warnings`: a squatter on the socket.

    NotPermitted, Foreign or Unavailable when the lock file cannot be made.
    """
    deadline = time.monotonic() + timeout_s
    descriptor = _lock_file(run_dir, deadline)
    try:
        listener, warnings = _listen(deadline)
    except BaseException:
        os.close(descriptor)
        raise
    return Held(descriptor, listener, warnings)


def describe_holder(found: os.stat_result) -> str | None:
    """Who has a lock on this file, by /proc/locks: ``pid 4711 (tunctl apply x.toml)``; None when nobody shows."""
    pid = _holder(found)
    return None if pid is None else _describe(pid)


def _lock_file(run_dir: Path, deadline: float) -> int:
    path = os.path.join(run_dir, FILE)
    while True:
        descriptor = _open(run_dir, path)
        try:
            if _flock(descriptor, deadline, path) and _is_same(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # somebody removed the run directory while we waited: what we hold excludes nobody


def _open(run_dir: Path, path: str) -> int:
    """The lock file, 0600: who may open it may hold it."""
    try:
        if not os.path.isdir(run_dir):
            files.make_directory(run_dir)
        _trust(os.stat(run_dir), str(run_dir))
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(error, path) from error
    return descriptor


def _flock(descriptor: int, deadline: float, path: str) -> bool:
    """Polled: a blocking flock has no time limit."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _locked(_holder(os.fstat(descriptor)), path) from None
        else:
            return True
        time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))


def _is_same(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _listen(deadline: float) -> tuple[socket.socket | None, tuple[str, ...]]:
    """The socket, or None and a warning when somebody without any right to it sits on the name."""
    while True:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(SOCKET)
            listener.listen(socket.SOMAXCONN)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise Unavailable(f"the socket @tunctl cannot be opened: {error.strerror}") from error
        except BaseException:
            listener.close()
            raise
        else:
            return listener, ()
        peer = _peer()
        if peer is not None and peer.uid not in (0, os.geteuid()):
            squatter = f"{_describe(peer.pid)} of uid {peer.uid}"
            return None, (f"the socket @tunctl is taken by {squatter}: other run directories are not excluded",)
        if time.monotonic() >= deadline:
            raise _locked(peer.pid if peer else None, "the socket @tunctl of this network namespace")
        time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))


def _peer() -> Peer | None:
    """Who listens now; None when nobody does any more, or nobody can tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(0)
        try:
            client.connect(SOCKET)
            pid, uid, _ = struct.unpack("iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return None
        return Peer(pid, uid)


def _locked(pid: int | None, what: str) -> Locked:
    holder = _describe(pid) if pid else "another tunctl"
    return Locked(f"{holder} holds {what}", hint="Wait until it is done, or give it longer with --lock-timeout.")


def _holder(found: os.stat_result) -> int | None:
    """The pid that holds a lock on this file. A line: ``1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`` (proc(5)).

    Only the inode counts where the device differs: on btrfs and overlays `stat` shows another one.
    """
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    inode = f":{found.st_ino}"
    try:
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except OSError:
        return None
    holders = [(words[5] == device, int(words[4])) for words in lines if len(words) == 8 and words[5].endswith(inode)]
    pids = [pid for _, pid in sorted(holders, reverse=True) if pid > 0]
    return pids[0] if pids else None


def _describe(pid: int) -> str:
    if pid <= 0:
        return "a process of another pid namespace"
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = file.read(4096).split(b"\0")
    except OSError:
        return f"pid {pid}"
    words = [word.decode(errors="replace") for word in argv if word]
    names = [os.path.basename(word) for word in words]
    if "tunctl" in names[:4]:  # behind the interpreter
        words = ["tunctl", *words[names.index("tunctl") + 1 :]]
    text = "".join(c if c.isprintable() else "?" for c in " ".join(words))[:_COMMAND_CHARS]
    return f"pid {pid} ({text})" if text else f"pid {pid}"


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
