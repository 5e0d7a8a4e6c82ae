"""What the daemon shows to `status`: what somebody keeps undoing. That it runs is proven by its lock alone, which the
kernel knows; the file is a hint and counts only while the lock is held. Without it `status` is as true, and only knows
less of others."""

from __future__ import annotations

import os

from reconciler.host import files
from reconciler.host.holder import file_holder
from reconciler.host.jsontext import dumps, loads
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LOCK, CONTESTED = "daemon.lock", "contested.json"
_MOST_BYTES = 1 << 20


class Fight(NamedTuple):
    """An object that is repaired again and again."""

    tunnel: str
    text: str
    by: str  # who undoes it, as far as it is known

    def __str__(self) -> str:
        return f"contested: {self.text} is {self.undone}"

    @property
    def undone(self) -> str:
        return f"undone again and again by {self.by}" if self.by else "undone again and again"


def keeper(run_dir: str | Path) -> int | None:
    """The pid of the daemon of this run directory; None: there is none."""
    try:
        return file_holder(os.stat(os.path.join(run_dir, LOCK)), ("WRITE",))
    except OSError:
        return None


def contested(run_dir: str | Path) -> tuple[Fight, ...]:
    """What the daemon wrote last; nothing when it cannot be read as that."""
    try:
        document = loads(files.read(os.path.join(run_dir, CONTESTED), _MOST_BYTES).decode())
        return tuple(Fight(str(one["tunnel"]), str(one["text"]), str(one["by"])) for one in document["contested"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def show(run_dir: str | Path, fights: Sequence[Fight]) -> None:
    """OSError when it cannot be written."""
    path = os.path.join(run_dir, CONTESTED)
    if fights:
        content = {"version": 1, "contested": [fight._asdict() for fight in fights]}
        files.replace(path, dumps(content).encode() + b"\n", 0o644, synced=False)
    elif os.path.lexists(path):
        os.unlink(path)
