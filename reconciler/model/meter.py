"""What the daemon has counted since it started: how long passes and steps took, what was repaired, what failed."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.names import TunnelName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BOUNDS_S = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)  # from one netlink message to a program that takes its time


class Histogram(NamedTuple):
    """How many took how long: up to each of BOUNDS_S and longer than the one before, and at the end those above all."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS_S) + 1)
    sum_s: float = 0.0

    @property
    def total(self) -> int:
        return sum(self.counts)

    def plus(self, other: Histogram) -> Histogram:
        return Histogram(tuple(map(sum, zip(self.counts, other.counts, strict=True))), self.sum_s + other.sum_s)


def histogram(seconds: Iterable[float]) -> Histogram:
    """Of these."""
    counts, sum_s = [0] * (len(BOUNDS_S) + 1), 0.0
    for one in seconds:
        counts[bisect_left(BOUNDS_S, one)] += 1
        sum_s += one
    return Histogram(tuple(counts), sum_s)


class Work(NamedTuple):
    """What became of steps. Tunnels: HOST for what belongs to none."""

    steps: Mapping[tuple[str, str], Histogram] = {}  # that were done, by kind and verb
    repairs: Mapping[tuple[TunnelName, str], int] = {}  # the same by tunnel and kind
    failures: Mapping[tuple[TunnelName, str], int] = {}  # that failed, by tunnel and kind


class Meter(NamedTuple):
    """All of it at one moment."""

    started_us: int
    last_pass_us: int | None = None  # when the last one ended that could do its work
    passes: Mapping[str, Histogram] = {}  # by what they were about: all, tunnel
    unfinished: Mapping[str, int] = {}  # passes that could not do their work, by why: failed, locked, killed
    work: Work = Work()
