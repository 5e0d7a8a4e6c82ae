"""Whose a socket is: by its inode, through /proc/PID/fd. Standard library only."""

from __future__ import annotations

import _socket as socket  # the half of it in C: the other makes enumerations of all constants first
import errno
import os

from reconciler.host import process
from reconciler.lean import suppress
from reconciler.model.port import TCP
from reconciler.model.prefix import ntop
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Set

_GONE = (FileNotFoundError, ProcessLookupError)
_NAME_CHARS = 64


class Holders(NamedTuple):
    """Which processes have sockets open."""

    by_inode: dict[int, int]  # inode → pid, the oldest of several
    hidden: bool  # some processes could not be looked into


def inodes(pid: int) -> frozenset[int]:
    """Of the sockets that a process has open; none when it is gone. PermissionError."""
    return frozenset(_inodes(pid))


def _inodes(pid: int) -> Iterator[int]:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except _GONE:
        return
    for descriptor in descriptors:
        with suppress(*_GONE):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if target.startswith("socket:["):
                yield int(target[8:-1])


def holders(asked: Set[int], among: Iterable[int] | None = None) -> Holders:
    """Who has these sockets open; of all processes that may be seen, unless told among which."""
    found: dict[int, int] = {}
    hidden = False
    for pid in sorted(process.pids() if among is None else among):
        try:
            for inode in asked & inodes(pid):
                found.setdefault(inode, pid)
        except PermissionError:
            hidden = True
    return Holders(found, hidden)


def described(pid: int) -> str:
    """``pid 812 (sing-box)``: the name that the kernel knows it by."""
    with suppress(OSError), open(f"/proc/{pid}/comm", "rb") as file:
        name = file.read(_NAME_CHARS).strip().decode(errors="replace")
        return f"pid {pid} ({''.join(c if c.isprintable() else '?' for c in name)})"
    return f"pid {pid}"


def is_free(protocol: int, address: bytes, port: int) -> bool:
    """The kernel would let somebody bind it now, as far as we can try it: a bind that is given up at once.

    Only where something could not bind it: a try is in the way of others for a moment.
    """
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    kind = socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM
    with suppress(OSError):  # no such family here: nobody can have it either
        opened = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        try:
            if protocol == TCP:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what still closes is in nobody's way
            opened.bind((ntop(address), port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        finally:
            opened.close()
    return True
