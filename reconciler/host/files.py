"""Files that survive a crash, and reads that nothing planted can block or lead astray. Standard library only.

Errors are plain OSErrors with the path in them; whoever calls knows what the file was for.
"""

from __future__ import annotations

import errno
import os
import stat

from reconciler.lean import suppress
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = ".tunctl"


def replace(
    path: str | Path,
    content: bytes,
    prepare: int | Callable[[int], None] = 0o600,
    *,
    must_last: bool = True,
    synced: bool = True,
) -> None:
    """The whole new content or the whole old one, whatever happens: temporary file, fsync, rename, fsync of the directory.

    `prepare`: the mode, or what gives the open temporary file its mode and owner. Not `must_last`: after a power cut it may
    be the old one again, which spares the directory's fsync. Not `synced`: after a power cut nobody wants it, and nobody
    waits for a disk.
    """
    directory, _, name = os.fspath(path).rpartition("/")
    temporary = f"{directory}/.{name}.{os.urandom(4).hex()}{_TEMPORARY}"
    descriptor = os.open(temporary, _NEW, 0o600)
    try:
        try:
            if isinstance(prepare, int):
                os.fchmod(descriptor, prepare)  # the umask has no say
            else:
                prepare(descriptor)
            write_all(descriptor, content)
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if must_last and synced:
        sync_directory(directory)


def sweep(path: str | Path) -> None:
    """Removes what `replace` left beside the file when its process was killed. Nobody else may be at it: hold the lock."""
    directory, name = os.path.split(path)
    with suppress(OSError):
        for left in os.listdir(directory):
            if left.startswith(f".{name}.") and left.endswith(_TEMPORARY):
                os.unlink(f"{directory}/{left}")


def write_all(descriptor: int, content: bytes) -> None:
    """A write may take less than it was given."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(path: str | Path) -> None:
    """Makes renames and removals in it outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | Path, limit: int, *, follow: bool = False) -> bytes:
    """The content of a regular file of root or of us that not everybody can write.

    Never waits (a FIFO is refused) and follows no symlink unless told to; more than ``limit`` bytes is EFBIG.
    """
    return read_checked(path, limit, follow=follow)[0]


def read_checked(path: str | Path, limit: int, *, follow: bool = False) -> tuple[bytes, os.stat_result]:
    """As ``read``, with what fstat said of the very file that was read."""
    return _read(path, limit, follow=follow, check=_check)


def read_of_anybody(path: str | Path, limit: int) -> bytes:
    """As ``read``, whoever owns the file or may write it: its content proves itself. Follows symlinks."""
    return _read(path, limit, follow=True, check=_check_kind)[0]


def _read(
    path: str | Path, limit: int, *, follow: bool, check: Callable[[os.stat_result, str | Path], None]
) -> tuple[bytes, os.stat_result]:
    descriptor = os.open(path, _READ if follow else _READ | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        check(status, path)
        content = os.read(descriptor, min(status.st_size, limit) + 1)
        while status.st_size < len(content) <= limit and (more := os.read(descriptor, limit + 1 - len(content))):  # it grows
            content += more
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"is larger than {limit} bytes", str(path))
    return content, status


def _check_kind(status: os.stat_result, path: str | Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))


def _check(status: os.stat_result, path: str | Path) -> None:
    _check_kind(status, path)
    if status.st_uid and status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"belongs to uid {status.st_uid}, not to root or to us", str(path))
    if status.st_mode & stat.S_IWOTH:
        raise PermissionError(errno.EPERM, "is writable by everybody", str(path))


def make_directory(path: str | Path, mode: int = 0o755) -> bool:
    """The directory and its missing parents, with exactly this mode whatever the umask; an existing one must be ours.

    One of ours with a wider mode is narrowed; a symlink or somebody else's directory is refused. → whether it was made.
    """
    try:
        os.mkdir(path, mode)
        is_new = True
        if os.lstat(path).st_mode & 0o777 == mode:
            return True
    except FileExistsError:
        is_new = False
    except FileNotFoundError:
        parent = os.path.dirname(os.path.abspath(path))
        if os.path.isdir(parent):
            os.mkdir(path, mode)  # somebody has just made it; else no directory can be made there, as in /proc
        else:
            make_directory(parent, mode)
        return make_directory(path, mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid not in (0, os.geteuid()):
            raise PermissionError(errno.EPERM, f"belongs to uid {status.st_uid}, not to root or to us", str(path))
        if status.st_mode & 0o777 != mode and status.st_uid == os.geteuid():
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
    return is_new
