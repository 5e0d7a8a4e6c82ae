"""A private directory for one child: a mount namespace of its own with a tmpfs there.

By ctypes: os.unshare came with Python 3.12, and mount(2) never did.
"""

from __future__ import annotations

import errno
import os

from reconciler.lean import cache, suppress
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_CLONE_NEWNS = 0x00020000  # linux/sched.h
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 0x2, 0x4, 0x8, 0x4000, 0x80000  # linux/mount.h


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def prepare(directory: str) -> None:
    """To be called in the parent: the mount point must exist, and nothing may be loaded after a fork."""
    _libc()
    os.makedirs(directory, mode=0o755, exist_ok=True)


def make_private(directory: str) -> None:
    """To be called in the child. Without the right to mount (a container), the shared directory has to do.

    Slave, not private: what the host mounts later is still seen, what is mounted here is not seen by the host.
    """
    with suppress(PermissionError):
        _check(_libc().unshare(_CLONE_NEWNS))
        _mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None)
        _mount(b"tmpfs", os.fsencode(directory), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, b"mode=0700,size=1m")


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int, options: bytes | None) -> None:
    _check(_libc().mount(source, target, kind, flags, options))  # flags fit in an int


def _check(result: int) -> None:
    import ctypes  # loaded by then

    if result:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
