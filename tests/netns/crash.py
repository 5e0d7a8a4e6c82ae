"""Processes that end badly, become nobody or sit on a small disk: forks of the test, so that nothing is imported anew."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")

NOBODY = 65534
_CLONE_NEWNS = 0x00020000  # linux/sched.h
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18  # linux/mount.h
_libc = ctypes.CDLL(None, use_errno=True)


def fork(function: Callable[[], object]) -> int:
    """Calls it in a child, which ends with 0, or with 1 after an exception; → its pid."""
    pid = os.fork()
    if pid == 0:
        _end(function)
    return pid


def _end(function: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """Its code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def elsewhere(function: Callable[[], T], *, before: Callable[[], object] = lambda: None) -> T:
    """The result, or the exception, of a function called in a child after `before`."""
    reading, writing = os.pipe()

    def work() -> None:
        before()
        try:
            told: tuple[bool, object] = (True, function())
        except Exception as error:
            told = (False, (type(error), getattr(error, "message", str(error))))
        with os.fdopen(writing, "wb") as file:
            pickle.dump(told, file)

    pid = fork(work)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        content = file.read()
    assert wait(pid) == 0
    is_result, value = pickle.loads(content)
    if not is_result:
        raise value[0](value[1])
    return value  # type: ignore[no-any-return]


def as_nobody(function: Callable[[], T]) -> T:
    """Without any right."""
    return elsewhere(function, before=become_nobody)


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def mount_small(place: Path, size: str) -> None:
    """A tmpfs that only this process sees."""
    _private_mounts()
    _mount(b"tmpfs", place, b"tmpfs", 0, f"size={size},mode=755".encode())


def mount_read_only(place: Path) -> None:
    """The directory, read-only for this process."""
    _private_mounts()
    _mount(bytes(place), place, b"", _MS_BIND, b"")
    _mount(b"", place, b"", _MS_BIND | _MS_REMOUNT | _MS_RDONLY, b"")


def _private_mounts() -> None:
    if _libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _mount(b"none", Path("/"), b"", _MS_REC | _MS_PRIVATE, b"")


def _mount(source: bytes, place: Path, kind: bytes, flags: int, words: bytes) -> None:
    if _libc.mount(source, bytes(place), kind, flags, words):
        raise OSError(ctypes.get_errno(), "mount", str(place))


def killed_at(call: int, function: Callable[[], object]) -> bool:
    """Calls it in a child that is killed when it enters its n-th (from 1) call that changes a file; False: it had fewer."""
    reading, writing = os.pipe()

    def work() -> None:
        os.close(writing)
        os.read(reading, 1)
        function()

    pid = fork(work)
    os.close(reading)
    calls = "pwrite64,write,ftruncate,fsync,fdatasync,unlink,rename"
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL:when={call}"]
    tracer = subprocess.Popen([*argv, "-p", str(pid)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = Path(f"/proc/{pid}/status")
    while "TracerPid:\t0" in status.read_text():
        assert tracer.poll() is None, "strace could not attach"
        time.sleep(0.002)
    os.close(writing)
    code = wait(pid)
    tracer.wait(10)
    assert code in (0, -signal.SIGKILL)
    return code != 0
