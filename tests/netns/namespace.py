"""Network namespaces as `ip netns` makes, lists and deletes them, without a process for each: a test needs one or two."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

NETNS_DIR = Path("/run/netns")  # where iproute2 keeps the named ones
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_MS_BIND, _MNT_DETACH = 1 << 12, 2  # linux/mount.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_IFREQ = "16sh22x"  # struct ifreq with ifr_flags
_libc = ctypes.CDLL(None, use_errno=True)


def add(name: str) -> None:
    """A new one. iproute2 makes the first: it makes the directory a mount that is shared."""
    if not NETNS_DIR.is_mount():
        subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True, timeout=10)
        return
    place = NETNS_DIR / name
    os.close(os.open(place, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0))
    with _left_again():
        _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
        _checked(_libc.mount(b"/proc/thread-self/ns/net", bytes(place), b"none", _MS_BIND, None), str(place))


def delete(name: str) -> None:
    """OSError where there is none."""
    place = NETNS_DIR / name
    _checked(_libc.umount2(bytes(place), _MNT_DETACH), str(place))
    place.unlink()


@contextlib.contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """The calling thread is in this namespace for the block (os.setns came with Python 3.12)."""
    with _left_again():
        _checked(_libc.setns(descriptor, _CLONE_NEWNET), "setns")
        yield


@contextlib.contextmanager
def _left_again() -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _checked(_libc.setns(before, _CLONE_NEWNET), "setns")
        os.close(before)


def pids(descriptor: int) -> list[int]:
    """The processes in it. One that ends while we look, or is dead, is in none."""
    here, found = os.fstat(descriptor).st_ino, []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.stat(f"/proc/{entry}/ns/net").st_ino == here:
                found.append(int(entry))
    return found


def set_up(dev: str) -> None:
    """A link of the calling thread's namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_IFREQ, dev.encode(), 0))
        (flags,) = struct.unpack(_IFREQ, request)[1:]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_IFREQ, dev.encode(), flags | _IFF_UP))


def _checked(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)
