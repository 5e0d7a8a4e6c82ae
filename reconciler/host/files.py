"""Files that survive a crash, and reads that nothing planted can block or lead astray. Standard library only.

Errors are plain OSErrors with the path in them; whoever calls knows what the file was for.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from reconciler.host.bounded import Call
from reconciler.lean import suppress
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = ".tunctl"
_WAITS_S = 0.0002  # an fsync in memory takes 3 µs, of a disk from 50 µs to some milliseconds
_AT_ONCE = 100  # temporary files that are open; a process may have 1024
_TOGETHER = 16  # threads: more cost more than they spare
_HANGS_S = 30.0  # no disk takes so long
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT)


class Draft:
    """New content in a temporary file, about to take the place of a file. OSError when it cannot be written."""

    def __init__(self, path: str, content: bytes, prepare: int | Callable[[int], None] = 0o600, word: str = "") -> None:
        """`prepare`: the mode, or what gives the open file its mode and owner. `word`: that nobody else uses for this path."""
        self.path = path
        directory, _, name = path.rpartition("/")
        self._temporary = f"{directory}/.{name}.{word or _new_word()}{_TEMPORARY}"
        self.descriptor = os.open(self._temporary, _NEW, 0o600)
        try:
            if isinstance(prepare, int):
                os.fchmod(self.descriptor, prepare)  # the umask has no say
            else:
                prepare(self.descriptor)
            write_all(self.descriptor, content)
        except BaseException:
            self.drop()
            raise

    def place(self) -> os.stat_result:
        """It is the file from now on. → what it is like."""
        os.rename(self._temporary, self.path)
        status = os.fstat(self.descriptor)
        os.close(self.descriptor)
        return status

    def drop(self) -> None:
        """Nothing is left of it."""
        with suppress(OSError):
            os.close(self.descriptor)
        with suppress(OSError):
            os.unlink(self._temporary)


def replace(path: str | Path, content: bytes, prepare: int | Callable[[int], None] = 0o600, *, synced: bool = True) -> None:
    """The whole new content or the whole old one, whatever happens: temporary file, fsync, rename, fsync of the directory.

    `prepare`: as of a `Draft`. Not `synced`: after a power cut nobody wants it, and nobody waits for a disk.
    """
    draft = Draft(os.fspath(path), content, prepare)
    try:
        if synced:
            os.fsync(draft.descriptor)
        draft.place()
    except BaseException:
        draft.drop()
        raise
    if synced:
        sync_directory(os.path.dirname(path))


def _new_word() -> str:
    return os.urandom(4).hex()


def replace_all(contents: Mapping[str, bytes]) -> tuple[dict[str, os.stat_result], dict[str, OSError]]:
    """As `replace`, but that after a power cut it may be the old one: by path, each with mode 0600. → what the new ones are
    like, and which could not be."""
    placed: dict[str, os.stat_result] = {}
    failed: dict[str, OSError] = {}
    left = dict(contents)
    while left:
        _place(_drafted(left, failed), placed, failed)
    return placed, failed


def _drafted(left: dict[str, bytes], failed: dict[str, OSError]) -> list[Draft]:
    """As many of what is left as may be open at once; these, and those that cannot be written, are left no more."""
    drafts: list[Draft] = []
    word = _new_word()
    for path, content in tuple(left.items())[:_AT_ONCE]:
        try:
            drafts.append(Draft(path, content, word=word))
        except OSError as error:
            if drafts and error.errno in _NO_ROOM:
                break  # there is some again when these are in their places
            failed[path] = error
        del left[path]
    return drafts


def _place(drafts: list[Draft], placed: dict[str, os.stat_result], failed: dict[str, OSError]) -> None:
    left = list(drafts)
    try:
        _sync_together(drafts)
        for draft in drafts:
            try:
                placed[draft.path] = draft.place()
                left.remove(draft)
            except OSError as error:
                failed[draft.path] = error
    except OSError as error:
        failed |= {draft.path: error for draft in drafts}
    finally:
        for draft in left:
            draft.drop()


def _sync_together(drafts: Sequence[Draft]) -> None:
    """A disk writes many at once as fast as one: where the first has to wait, the others wait together."""
    if not drafts:
        return
    begun_s = time.monotonic()
    _sync(drafts[:1])
    left = drafts[1:]
    if time.monotonic() - begun_s < _WAITS_S:
        _sync(left)
        return
    shares = [left[first::_TOGETHER] for first in range(min(_TOGETHER, len(left)))]
    for call, share in [(Call(_syncing(share)), share) for share in shares]:
        try:
            call.result(_HANGS_S)
        except TimeoutError as error:
            if error.errno != errno.EAGAIN:
                raise TimeoutError(errno.ETIMEDOUT, "the disk does not answer") from None
            _sync(share)  # there is no room for a thread


def _syncing(drafts: Sequence[Draft]) -> Callable[[], None]:
    return lambda: _sync(drafts)


def _sync(drafts: Sequence[Draft]) -> None:
    for draft in drafts:
        os.fsync(draft.descriptor)


def sweep(path: str | Path) -> None:
    """Removes what `replace` left beside the file when its process was killed. Nobody else may be at it: hold the lock."""
    directory, name = os.path.split(path)
    with suppress(OSError):
        for left in os.listdir(directory):
            if left.startswith(f".{name}.") and left.endswith(_TEMPORARY):
                os.unlink(f"{directory}/{left}")


def move(path: str, aside: str) -> None:
    """Whatever stands there stands beside it then, and what stood there is gone."""
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise
        from shutil import rmtree

        if os.path.isdir(aside) and not os.path.islink(aside):
            rmtree(aside)
        else:
            os.unlink(aside)
        os.rename(path, aside)


def remove_directory(path: str) -> None:
    """With all that is in it, if it is there; a symlink goes itself, and is not followed. OSError when something stays."""
    try:
        is_link = stat.S_ISLNK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if is_link:
        os.unlink(path)
        return
    try:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
    except OSError:  # something in it is no file, or came meanwhile
        from shutil import rmtree  # follows no symlink

        rmtree(path)


def write_all(descriptor: int, content: bytes) -> None:
    """A write may take less than it was given."""
    while content:
        content = content[os.write(descriptor, content) :]


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
