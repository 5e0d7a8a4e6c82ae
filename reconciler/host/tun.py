"""TUN and TAP devices through /dev/net/tun (linux/if_tun.h): made, given away, made to stay."""

from __future__ import annotations

import fcntl
import os
from struct import Struct

_PATH = "/dev/net/tun"
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOWNER, _TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE  # asm-generic
_MODES = {"tun": 1, "tap": 2}  # IFF_TUN, IFF_TAP
_MULTI_QUEUE, _NO_PI, _EXCL = 0x100, 0x1000, 0x8000  # IFF_*; EXCL: EBUSY instead of attaching to one that exists
_IFREQ = Struct("16sH22x")


def create(name: str, mode: str, uid: int | None = None, gid: int | None = None, *, multi_queue: bool = False) -> int:
    """A new device of this very name, without packet information, to which this user, or members of this group, may attach
    without privileges; the descriptor that keeps it alive.

    OSError: EBUSY when the name is taken by any link, EPERM without CAP_NET_ADMIN, ENOENT, ENODEV or ENXIO (filename
    /dev/net/tun) when the kernel or the container has no TUN.
    """
    descriptor = os.open(_PATH, os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _MODES[mode] | _NO_PI | _EXCL | (_MULTI_QUEUE if multi_queue else 0)
        fcntl.ioctl(descriptor, _TUNSETIFF, bytearray(_IFREQ.pack(name.encode(), flags)))
        if uid is not None:
            fcntl.ioctl(descriptor, _TUNSETOWNER, _as_int(uid))
        if gid is not None:
            fcntl.ioctl(descriptor, _TUNSETGROUP, _as_int(gid))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def persist(descriptor: int) -> None:
    """The device outlives the descriptor."""
    fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)


def _as_int(number: int) -> int:
    """A user or group, of 32 bits, as the number with a sign that ioctl takes: the kernel sees the same bits."""
    return number - (number >> 31 << 32)
