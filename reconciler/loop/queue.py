"""When to look next, and what to leave alone until when. Pure: times are seconds of a clock that its user reads.

A batch of events settles, then a look follows at once. Who repairs the same thing again and again has an opponent, not
a repair: after ten within a minute it is done every five seconds, and said (guarantee 8).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from reconciler.host.board import Fight
from reconciler.loop.watch import Due
from reconciler.model.tunnel import Restart

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

SETTLE_S = 0.002  # after the first event: those of one `ip link del` come within a millisecond
SOON_S = 0.1  # the host around the tunnels changes in many small steps
APART_S = 0.5  # between two looks that such steps cause
MINUTE_S, AT_ONCE, THEN_EVERY_S = 60.0, 10, 5.0


class Timetable:
    """When the next look is due."""

    def __init__(self, now_s: float) -> None:
        self._at_s: float | None = now_s
        self._last_s = now_s - APART_S

    def mark(self, due: Due, now_s: float) -> None:
        """An event: the earlier time counts."""
        if due is Due.NOW:
            self.at(now_s + SETTLE_S)
        elif due is Due.SOON:
            self.at(max(now_s + SOON_S, self._last_s + APART_S))

    def at(self, when_s: float) -> None:
        """A look not later than this."""
        self._at_s = when_s if self._at_s is None else min(self._at_s, when_s)

    @property
    def next_s(self) -> float | None:
        """When, if at all."""
        return self._at_s

    def begun(self, now_s: float) -> None:
        """A look has begun: what was marked until now is seen by it."""
        self._at_s, self._last_s = None, now_s


class Repairs:
    """How often which object was repaired within the last minute."""

    def __init__(self) -> None:
        self._times: dict[Hashable, deque[float]] = {}
        self._told: dict[Hashable, Fight] = {}

    def add(self, key: Hashable, now_s: float) -> bool:
        """One more. True when it is contested."""
        times = self._times.setdefault(key, deque(maxlen=AT_ONCE))
        times.append(now_s)
        return key in self._told or (len(times) == AT_ONCE and times[0] >= now_s - MINUTE_S)

    def fight(self, key: Hashable, fight: Fight) -> bool:
        """What is to be told of it. True when it is news: it was not contested, or by somebody who could not be named."""
        known = self._told.get(key)
        if known is not None and (not fight.by or known.by == fight.by):
            return False
        self._told[key] = fight
        return known is None or not known.by

    def withheld(self, now_s: float) -> dict[Hashable, float]:
        """What is contested and was repaired less than five seconds ago: until when it is left alone."""
        self._forget(now_s)
        until = {key: self._times[key][-1] + THEN_EVERY_S for key in self._told}
        return {key: at_s for key, at_s in until.items() if at_s > now_s}

    def contested(self, now_s: float) -> list[Fight]:
        """All of them. One that was left in peace for a minute is none any more."""
        self._forget(now_s)
        return list(self._told.values())

    def _forget(self, now_s: float) -> None:
        for key in [key for key, times in self._times.items() if times[-1] < now_s - MINUTE_S]:
            del self._times[key]
            self._told.pop(key, None)


class Rest(NamedTuple):
    """A program that ended too often: which attempt is next, and when."""

    attempt: int
    for_s: float


class Restarts:
    """How often programs were started anew: the first time at once, then with the patience that `[restart]` asks for."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, float]] = {}  # how many in a row, when the last one was

    def add(self, name: str, now_s: float) -> None:
        """It was started."""
        self._counts[name] = (self._counts.get(name, (0, now_s))[0] + 1, now_s)

    def forget(self, names: Iterable[str]) -> None:
        """A user has had a say in them."""
        for name in names:
            self._counts.pop(name, None)

    def rest(self, name: str, restart: Restart, now_s: float) -> Rest | None:
        """None: it may be started now. Once it has run for longer than the longest pause, what was before is forgotten."""
        count, last_s = self._counts.get(name, (0, now_s))
        if now_s - last_s > restart.max_s:
            del self._counts[name]
            return None
        for_s = last_s + restart.delay_s(count - 1) - now_s if count > 1 else 0.0
        return Rest(count - 1, for_s) if for_s > 0 else None
