"""What the names of endpoints mean is found out in a process of its own, beside the passes: a name server that does not answer
holds up nothing. A pass goes by the last answers, and other ones are a reason for the next pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import TunctlError
from reconciler.host.resolve import NOT_NOW, Names
from reconciler.loop.commands import Session
from reconciler.loop.lookup import look_up
from reconciler.model.facts import Unknown
from reconciler.store.read import read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

APART_S = 2.0  # between two of them: the host around the tunnels changes in many small steps
LOOK_UP_S = 30.0  # one that takes longer hangs


class Answers(NamedTuple):
    """What came of it."""

    names: Mapping[str, tuple[bytes, ...] | Unknown] = {}


class Lookups:
    """One at a time. `names`: as they are known; None before the first pass, which looks them up itself."""

    def __init__(self) -> None:
        self.names: Names | None = None
        self._due_s: float | None = None
        self._begun_s = 0.0
        self._is_going_on = False

    @property
    def due_s(self) -> float | None:
        """None: not now, one is going on; or never."""
        return None if self._is_going_on else self._due_s

    def know(self, asked: Mapping[str, tuple[bytes, ...] | Unknown], now_s: float, *, is_news: bool) -> None:
        """After a pass: the names that it went by. `is_news`: it was only made because of the last answers."""
        is_first = self.names is None
        known = self.names or {}
        self.names = {name: known.get(name, answer) for name, answer in asked.items()}
        if is_first:
            self._begun_s = now_s
        if NOT_NOW in self.names.values() or (self.names and not is_news and not is_first):
            self._due_s = max(now_s, self._begun_s + APART_S)

    def put_off(self, now_s: float) -> None:
        """Until there is room for a process."""
        self._due_s = now_s + APART_S

    def begun(self, now_s: float) -> None:
        self._is_going_on, self._due_s, self._begun_s = True, None, now_s

    def made(self, answers: Answers) -> bool:
        """Is anything another than it was?"""
        before = self.names or {}
        self.names = {name: answers.names.get(name, answer) for name, answer in before.items()}
        return self.names != before

    def ended(self, now_s: float, *, has_reported: bool) -> None:
        """Its process is gone."""
        self._is_going_on = False
        if not has_reported:
            self._due_s = now_s + APART_S


def serve(session: Session, tell: Callable[[Answers], None]) -> None:
    """In a process of its own."""
    try:
        tell(Answers(look_up(session.run_dir, read(session.state_dir), {})))
    except TunctlError:  # a pass meets it, too, and says so
        tell(Answers())
