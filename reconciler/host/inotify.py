"""Changes of single files, as inotify(7) tells them. It is their directories that are watched: resolv.conf is replaced,
not written; and where there is none, the place where it would be made."""

from __future__ import annotations

import ctypes
import os
import struct

from reconciler.lean import suppress
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK | IN_CLOEXEC
GONE = 0x200 | 0x400 | 0x800  # IN_DELETE, DELETE_SELF, MOVE_SELF
CHANGED = GONE | 0x8 | 0x80 | 0x40 | 0x100 | 0x4  # IN_CLOSE_WRITE, MOVED_TO, MOVED_FROM, CREATE, ATTRIB
_MASK_ADD, _MOVE_SELF, _OVERFLOW, _IGNORED = 0x20000000, 0x800, 0x4000, 0x8000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_CHUNK = 1 << 16


class Inotify:
    """Watches files that may come, go, and be links to others."""

    def __init__(self) -> None:
        """OSError when the kernel gives none (fs.inotify.max_user_instances)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(_FLAGS)
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._names: dict[int, set[bytes]] = {}  # by watch
        self._seen_at: dict[str, bytes] = {}  # by path: the directory in which a change of it shows

    def fileno(self) -> int:
        return int(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def watch(self, paths: Iterable[str], mask: int = CHANGED) -> bool:
        """These, too. True: some of them only from now on, so nobody was told what happened before."""
        is_new = False
        for path in paths:
            directory, name = _nearest(os.fsencode(path))
            if self._seen_at.get(path) != directory:
                number = self._libc.inotify_add_watch(self._descriptor, directory, mask | _MASK_ADD)
                if number >= 0:
                    self._names.setdefault(number, set()).add(name)
                    self._seen_at[path] = directory
                    is_new = True
        return is_new

    def read(self) -> bool:
        """Takes what has come. Was one of the files among it?"""
        changed = False
        with suppress(BlockingIOError):
            while content := os.read(self._descriptor, _CHUNK):
                at = 0
                while at + _EVENT.size <= len(content):
                    number, mask, _, length = _EVENT.unpack_from(content, at)
                    name = content[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                    changed = self._is_of_ours(number, mask, name) or changed
                    at += _EVENT.size + length
        return changed

    def _is_of_ours(self, number: int, mask: int, name: bytes) -> bool:
        if mask & _MOVE_SELF:  # the directory is another one now, what it is called is to be seen
            self._libc.inotify_rm_watch(self._descriptor, number)
        elif mask & _IGNORED:
            del self._names[number]
            self._seen_at.clear()  # each is looked for again, and finds the watch that it had, or another one
            return True
        return bool(mask & _OVERFLOW) or name in self._names.get(number, ())


def _nearest(path: bytes) -> tuple[bytes, bytes]:
    """The directory that a file is in, or as much of the way there as exists, and what is to be seen in there."""
    directory, name = os.path.split(path)
    while directory not in (b"", b"/") and not os.path.isdir(directory):
        directory, name = os.path.split(directory)
    return directory, name
