"""The one place where the words of SQLite become ours: StoreError (74) with the path, the cause and what to do."""

from __future__ import annotations

import os

from reconciler.errors import Bug, StoreError, TunctlError
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3

# Result codes: sqlite3.h; the low byte is the class.
_PERM, _BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT, _FULL, _CANTOPEN, _CONSTRAINT, _NOTADB = (
    3, 5, 6, 8, 10, 11, 13, 14, 19, 26,
)  # fmt: skip
_READONLY_ROLLBACK = 776
_HOT = "the last writer was killed in the middle of a change, which has to be rolled back first"
_HOT_HINT = "Run a command that writes, such as `tunctl reconcile` as root: it rolls the unfinished change back."
_RESTORE = "Restore it from a backup, or move it away and run `tunctl apply --adopt`; `tunctl down --all` works without it."
_MESSAGES = {
    _PERM: ("cannot be opened: permission denied", "Run it as root."),
    _BUSY: ("is locked by another program", "Wait for that program or end it, and try again."),
    _LOCKED: ("is locked by another program", "Wait for that program or end it, and try again."),
    _READONLY: ("cannot be written", "Check its owner and mode, and that the file system is not mounted read-only."),
    _IOERR: ("cannot be read or written: input/output error", "Check the disk and the kernel log."),
    _CORRUPT: ("is damaged", _RESTORE),
    _NOTADB: ("is not a database", _RESTORE),
    _FULL: ("cannot be written: the disk is full", "Make room on its file system and try again; nothing was changed."),
    _CANTOPEN: ("cannot be opened", "Check that its directory exists and that you may read and write it."),
}


class Recoverable(StoreError):
    """A reader can do nothing with it as it is; a writer puts it right when it opens it."""


def code_of(error: BaseException) -> int:
    """The extended result code; 1 (SQLITE_ERROR) where Python does not tell."""
    return int(getattr(error, "sqlite_errorcode", 1))


def is_busy(error: BaseException) -> bool:
    """Somebody else has a lock on it, for a moment or for long."""
    return code_of(error) & 0xFF in (_BUSY, _LOCKED)


def is_unfinished(error: BaseException) -> bool:
    """A read-only look met a journal. Either its writer is dead, or it commits at this moment."""
    return code_of(error) == _READONLY_ROLLBACK


def translated(error: sqlite3.Error, path: str) -> TunctlError:
    """What SQLite said → what we say; `path` is the database."""
    code = code_of(error)
    if code == _READONLY_ROLLBACK:
        return Recoverable(f"{path}: {_HOT}", hint=_HOT_HINT)
    if is_busy(error):
        return _locked(path)
    if code & 0xFF == _CONSTRAINT:
        return Bug(f"{path}: {error}", hint="Please report this with the file that was applied; nothing was stored.")
    if code & 0xFF in _MESSAGES:
        problem, hint = _MESSAGES[code & 0xFF]
        return StoreError(f"{path} {problem} ({error})", hint=hint)
    return StoreError(f"{path} is not a store of tunctl, or is damaged ({error})", hint=_RESTORE)


def _locked(path: str) -> StoreError:
    """Names the holder, where the kernel shows it to us."""
    from reconciler.host.holder import described, file_holder

    problem, hint = _MESSAGES[_BUSY]
    try:
        pid = file_holder(os.stat(path))
    except OSError:
        pid = None
    return StoreError(f"{path} {problem}{f': {described(pid)}' if pid else ''}", hint=hint)


def of_another_version(path: str, version: str, ours: str) -> StoreError:
    """A schema that a later tunctl made, or an older one, which a writer would migrate."""
    if version > ours:
        return StoreError(
            f"{path} was written by a newer tunctl (schema {version}, this one knows {ours})",
            hint="Use that version of tunctl, or restore the backup that it made beside the file.",
        )
    return Recoverable(
        f"{path} was written by an older tunctl (schema {version}, this one needs {ours})",
        hint="Run a command that writes, such as `tunctl reconcile` as root: it brings the store up to date.",
    )


def damaged(path: str, problem: object) -> StoreError:
    """A database that can be read, with content that cannot."""
    return StoreError(f"{path} is damaged: {problem}", hint=_RESTORE)


def full(path: str) -> StoreError:
    """There is no room for a change."""
    words, hint = _MESSAGES[_FULL]
    return StoreError(f"{path} {words}", hint=hint)


def refused(error: OSError, path: str) -> StoreError:
    """A system call on the database or its directory that failed."""
    return StoreError(f"{path}: {error.strerror}", hint="Check the owner and the mode of the state directory.")
