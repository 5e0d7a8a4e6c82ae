"""Does a process hold a TUN device of *this* network namespace? Its /proc entry tells only the name, and anybody can make
a device of any name in a namespace of his own and keep its descriptor here.

By ctypes: pidfd_getfd(2) has no name in Python. To be asked only where nothing cheaper proves a process to be ours, so what
it needs is imported then.
"""

from __future__ import annotations

import os

from reconciler.host import process
from reconciler.lean import cache, suppress
from reconciler.model.names import IfName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_SYS_PIDFD_GETFD = 438  # asm-generic/unistd.h, the same everywhere; Linux 5.6
_TUNGETDEVNETNS = 0x54E3  # linux/if_tun.h; Linux 5.2


def holds_here(pid: int, dev: IfName) -> bool:
    """False also where that cannot be proven: an older kernel, or without the right to look into the process."""
    with suppress(OSError):
        here = os.stat("/proc/thread-self/ns/net")
        pidfd = os.pidfd_open(pid)
        try:
            return any(
                name == dev and os.path.samestat(_namespace(pidfd, number), here)
                for number, name in process.device_descriptors(pid)
            )
        finally:
            os.close(pidfd)
    return False


def _namespace(pidfd: int, number: int) -> os.stat_result:
    """The network namespace in which the device behind this descriptor of the process lives. OSError."""
    import ctypes
    import fcntl

    copy = _libc().syscall(_SYS_PIDFD_GETFD, pidfd, number, 0)
    if copy < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    try:
        namespace = fcntl.ioctl(copy, _TUNGETDEVNETNS)
    finally:
        os.close(copy)
    try:
        return os.fstat(namespace)
    finally:
        os.close(namespace)


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
