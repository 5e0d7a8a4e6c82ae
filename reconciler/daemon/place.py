"""The daemon's place in its run directory: the lock that says who it is. It is there as long as the daemon is, whatever
becomes of the directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from reconciler.errors import Locked, Unavailable
from reconciler.host import files, meters
from reconciler.host.board import CONTESTED, LOCK
from reconciler.host.holder import described, file_holder
from reconciler.lean import suppress


class Place:
    """One of them a daemon."""

    def __init__(self, run_dir: str | Path) -> None:
        """Takes it. Locked when another daemon has it; Unavailable."""
        self._run_dir = Path(run_dir)
        self._descriptor = _taken(self._run_dir)

    @property
    def is_there(self) -> bool:
        """The lock that we hold is the one that others see."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self._run_dir / LOCK, follow_symlinks=False))
        return False

    def take_again(self) -> None:
        """Somebody has removed it. Locked when another daemon has come meanwhile; Unavailable."""
        taken = _taken(self._run_dir)
        self.leave()
        self._descriptor = taken

    def leave(self) -> None:
        os.close(self._descriptor)


def _taken(run_dir: Path) -> int:
    path = run_dir / LOCK
    try:
        files.make_directory(run_dir)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}", hint="choose a --run-dir that can be written") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: no daemon yet, and no other one either
        _clear(run_dir)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file_holder(os.fstat(descriptor))
        os.close(descriptor)
        hint = "systemctl stop tunctl, or end it with SIGTERM"
        raise Locked(f"a daemon runs already: {described(holder)}", hint=hint) from None
    return descriptor


def _clear(run_dir: Path) -> None:
    """What one that was killed has shown would be taken for what the next one shows."""
    for name in (CONTESTED, meters.FILE):
        files.sweep(run_dir / name)
        with suppress(OSError):
            (run_dir / name).unlink()
