"""A fork whose child is born in a control group.

To move it there afterwards takes 10 to 35 ms, on an idle machine, too: the kernel first waits until no processor can be in the
middle of a fork (a grace period of cgroup_threadgroup_rwsem).

By ctypes: Python's fork knows no groups, and the C library's posix_spawn learned of them with glibc 2.39.
"""

from __future__ import annotations

import os
import struct

from reconciler.host.signals import signal
from reconciler.lean import cache
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE3 = 435  # the same for all architectures that have it
_CLONE_INTO_CGROUP = 0x200000000  # linux/sched.h, since 5.7
_ARGUMENTS = struct.Struct("=11Q")  # clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, …, cgroup


@cache
def _syscall() -> Callable[..., int]:
    import ctypes

    function = ctypes.PyDLL(None).syscall  # keeps the interpreter's lock, as os.fork does: the child has it, too
    function.argtypes, function.restype = (ctypes.c_long, ctypes.c_char_p, ctypes.c_size_t), ctypes.c_long
    call: Callable[..., int] = function
    return call


def fork_into(directory: str | None) -> int:
    """As os.fork. The child is in that control group (v2), or where its parent is when the kernel or a filter of system calls
    does not let it be: who has to know looks. Beside other threads it is a plain fork: that takes care of the C library's
    locks, which one of them may hold."""
    if directory is None or len(os.listdir("/proc/self/task")) > 1:
        return os.fork()
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return os.fork()
    try:
        arguments = _ARGUMENTS.pack(_CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
        pid = _syscall()(_CLONE3, arguments, _ARGUMENTS.size)
    finally:
        os.close(group)
    return os.fork() if pid < 0 else pid
