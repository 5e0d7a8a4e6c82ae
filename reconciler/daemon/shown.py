"""What the daemon shows in its run directory: written by a process that has nothing else to do, never by the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reconciler.host import board, meters
from reconciler.host.board import Fight
from reconciler.lean import suppress
from reconciler.model.meter import Meter

if TYPE_CHECKING:
    from pathlib import Path


class Shown(NamedTuple):
    """Hints for `status` and `metrics`. Without a meter the daemon ends, and nothing is shown any more."""

    meter: Meter | None = None
    fights: tuple[Fight, ...] = ()

    def write(self, run_dir: str | Path) -> None:
        """What cannot be written (a full disk) is shown later, and is in the log anyway."""
        with suppress(OSError):
            board.show(run_dir, self.fights)
        with suppress(OSError):
            if self.meter is None:
                meters.hide(run_dir)
            else:
                meters.show(run_dir, self.meter)
