"""When the next round of health checks is due. It is made in a process of its own, beside the passes: an engine that does not
answer, or a ping that nobody answers, holds up nothing."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.loop.commands import Session
from reconciler.loop.probe import Round, make_round
from reconciler.store.read import read
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN_S = 5.0  # after a round that could not even look
ROUND_S = 30.0  # one that takes longer hangs


class Rounds:
    """One at a time."""

    def __init__(self) -> None:
        self._due_s: float | None = None
        self._is_wanted = self._is_going_on = False

    @property
    def due_s(self) -> float | None:
        """None: not now, one is going on; or never."""
        return None if self._is_going_on or not self._is_wanted else self._due_s

    def know(self, now_s: float, *, wanted: bool, changed: bool) -> None:
        """After a pass. `changed`: it did something, so what there is to look at may be new."""
        if wanted and (changed or self._due_s is None):
            self._due_s = now_s
        self._is_wanted = wanted

    def put_off(self, now_s: float) -> None:
        """It may come to nothing: then there is another one."""
        self._due_s = now_s + AGAIN_S

    def begun(self) -> None:
        self._is_going_on, self._due_s = True, None

    def made(self, made: Round, now_s: float) -> None:
        """It has told what it found."""
        if made.next_s is not None:
            self._at(now_s + made.next_s)

    def ended(self, now_s: float, *, has_reported: bool) -> None:
        """Its process is gone."""
        self._is_going_on = False
        if not has_reported:
            self._at(now_s + AGAIN_S)

    def _at(self, when_s: float) -> None:
        self._due_s = when_s if self._due_s is None else min(self._due_s, when_s)


def serve(session: Session, tell: Callable[[Round], None]) -> None:
    """In a process of its own."""
    try:
        tell(make_round(session.run_dir, read(session.state_dir)))
    except TunctlError:  # a pass meets it, too, and says so
        tell(Round(next_s=AGAIN_S))
