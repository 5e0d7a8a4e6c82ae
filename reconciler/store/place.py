"""Where the store is, and whether that place can be trusted. Never opens the database itself:

POSIX locks belong to the process, and closing *any* descriptor of a file drops all of them, SQLite's own too.
"""

from __future__ import annotations

import errno
import os
import stat

from reconciler.errors import StoreError
from reconciler.host import files
from reconciler.lean import suppress
from reconciler.store.failure import full, refused
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE = "intent.db"
_HINT = "Check owner, mode and free space of the state directory; nothing was changed."
_ROOM_BYTES = 256 * 1024  # what one save of a hundred tunnels needs, journal included


def database(state_dir: str | Path) -> str:
    """The path of the database in a state directory."""
    return os.path.join(state_dir, FILE)


def is_there(state_dir: str | Path) -> bool:
    """Whether something was ever stored here; StoreError when the place cannot be seen or must not be trusted.

    An empty file is a creation that was cut off before its first commit: nothing was stored.
    """
    path = database(state_dir)
    try:
        directory, file = os.stat(state_dir), os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise refused(error, path) from error
    _trust(directory, str(state_dir))
    if not stat.S_ISREG(file.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(file.st_mode) else "no regular file"
        raise StoreError(f"{path} is {kind}", hint="Remove it: the store is a file that tunctl makes itself.")
    _trust(file, path)
    return file.st_size > 0


def make(state_dir: str | Path) -> None:
    """The directory (0755) and an empty database (0644), whatever the umask; what is there already stays as it is."""
    path = database(state_dir)
    try:
        if not os.path.isdir(state_dir):
            files.make_directory(state_dir)
        _trust(os.stat(state_dir), str(state_dir))
        if not os.path.lexists(path):
            with suppress(FileExistsError):  # somebody else was faster
                _make_file(path)
    except OSError as error:
        raise refused(error, path) from error


def ensure_allowed(state_dir: str | Path) -> None:
    """StoreError unless we may write here: owner, mode, a file system that is not read-only."""
    for place in (database(state_dir), str(state_dir)):
        if not os.access(place, os.W_OK, effective_ids=True):
            raise StoreError(f"{place} cannot be written", hint=_HINT)


def ensure_room(state_dir: str | Path) -> None:
    """StoreError unless a change could be stored now: asked before the machine is changed, and changes nothing."""
    try:
        _probe_room(str(state_dir))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full(database(state_dir)) from error
        raise StoreError(f"{database(state_dir)} cannot be written: {error.strerror}", hint=_HINT) from error


def _probe_room(state_dir: str) -> None:
    """Takes some room in a file without a name, and gives it back."""
    try:
        descriptor = os.open(state_dir, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):  # not every file system has O_TMPFILE
            return
        raise
    try:
        os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
    finally:
        os.close(descriptor)


def _make_file(path: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
    finally:
        os.close(descriptor)


def _trust(found: os.stat_result, path: str) -> None:
    """What others can change may make us start programs: neither theirs nor writable by everybody."""
    if found.st_uid not in (0, os.geteuid()):
        raise StoreError(
            f"{path} belongs to uid {found.st_uid}, neither to root nor to you",
            hint="Choose another --state-dir, or give it to the user who runs tunctl.",
        )
    if found.st_mode & stat.S_IWOTH:
        raise StoreError(f"{path} is writable by everybody", hint=f"Run `chmod o-w {path}` after a look at who changed it.")
