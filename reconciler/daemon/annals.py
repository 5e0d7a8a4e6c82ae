"""Lines of the history that wait for a quiet moment: a disk takes longer than a repair."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import StoreError
from reconciler.lean import suppress
from reconciler.store.stored import Line
from reconciler.store.write import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

QUIET_S = 0.5  # after the last repair
_MOST = 1000  # lines: more than the history keeps of a tunnel


class Lines(NamedTuple):
    """To be written by a process that has nothing else to do."""

    lines: tuple[Line, ...] = ()

    def write(self, state_dir: str | Path) -> None:
        """What a full disk does not take is in the log anyway."""
        with suppress(StoreError), Store(state_dir) as store:
            store.chronicle(self.lines)


class Annals:
    """What is still to be written."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self.due_s: float | None = None  # None: nothing is

    def add(self, lines: Iterable[Line], now_s: float) -> None:
        """These, too, when it is quiet."""
        before = len(self._lines)
        self._lines += lines
        if len(self._lines) > before:
            self.due_s = now_s + QUIET_S
            del self._lines[:-_MOST]

    def is_due(self, now_s: float) -> bool:
        return self.due_s is not None and now_s >= self.due_s

    @property
    def lines(self) -> Lines:
        return Lines(tuple(self._lines))

    def written(self, lines: Lines) -> None:
        """They are in good hands."""
        del self._lines[: len(lines.lines)]
        self.due_s = None
