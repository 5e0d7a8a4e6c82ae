"""Changes of single files, as inotify(7) tells them. It is their directories that are watched: resolv.conf is replaced,
not written."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import suppress

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # IN_NONBLOCK | IN_CLOEXEC
_MASK = 0x8 | 0x80 | 0x40 | 0x200 | 0x100 | 0x4  # IN_CLOSE_WRITE, MOVED_TO, MOVED_FROM, DELETE, CREATE, ATTRIB
_OVERFLOW = 0x4000
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
        self._paths: set[str] = set()

    def fileno(self) -> int:
        return int(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def watch(self, paths: Iterable[str]) -> None:
        """These, too. One whose directory is not there is passed over."""
        for path in paths:
            directory, name = os.path.split(os.fsencode(path))
            if path not in self._paths:
                number = self._libc.inotify_add_watch(self._descriptor, directory, _MASK)
                if number >= 0:
                    self._names.setdefault(number, set()).add(name)
                    self._paths.add(path)

    def read(self) -> bool:
        """Takes what has come. Was one of the files among it?"""
        changed = False
        with suppress(BlockingIOError):
            while content := os.read(self._descriptor, _CHUNK):
                at = 0
                while at + _EVENT.size <= len(content):
                    number, mask, _, length = _EVENT.unpack_from(content, at)
                    name = content[at + _EVENT.size : at + _EVENT.size + length].rstrip(b"\0")
                    changed = changed or bool(mask & _OVERFLOW) or name in self._names.get(number, ())
                    at += _EVENT.size + length
        return changed
