"""Counts what passes report. Counters begin with the daemon: they fall to nothing when it
starts anew, as those of Prometheus may, and never otherwise but with the tunnel they are about."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

from reconciler.model.meter import Histogram, Meter, Work, histogram
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Outcome
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def measured(outcomes: Iterable[Outcome]) -> Work:
    """What a pass did, in figures: there may be a hundred thousand steps, and the loop is not to count them."""
    took: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    repairs: Counter[tuple[TunnelName, str]] = Counter()
    failures: Counter[tuple[TunnelName, str]] = Counter()
    for step, error, seconds, skipped in outcomes:
        kind = step.resource.kind
        if error:
            failures[step.tunnel, kind] += step.number
        elif not skipped:
            repairs[step.tunnel, kind] += step.number
            took[kind, step.verb.name.lower()] += [seconds] * step.number
    return Work({key: histogram(seconds) for key, seconds in took.items()}, repairs, failures)


class Tally:
    """One of them a daemon."""

    def __init__(self) -> None:
        self._started_us = _now_us()
        self._last_pass_us: int | None = None
        self._passes: defaultdict[str, Histogram] = defaultdict(Histogram)
        self._unfinished: Counter[str] = Counter()
        self._steps: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self._repairs: Counter[tuple[TunnelName, str]] = Counter()
        self._failures: Counter[tuple[TunnelName, str]] = Counter()

    def passed(self, scope: str, seconds: float, work: Work, names: Iterable[TunnelName]) -> None:
        """A pass has done its work. `scope`: all, tunnel; `names`: of tunnels that are to be up, others are forgotten: what is
        kept does not grow with every name that ever was."""
        self._last_pass_us = _now_us()
        self._passes[scope] = self._passes[scope].plus(histogram((seconds,)))
        for key, took in work.steps.items():
            self._steps[key] = self._steps[key].plus(took)
        self._repairs.update(work.repairs)
        self._failures.update(work.failures)
        kept = {HOST, *names}
        _forget(self._repairs, kept)
        _forget(self._failures, kept)

    def missed(self, why: str) -> None:
        """A pass has not: failed, locked, killed."""
        self._unfinished[why] += 1

    @property
    def meter(self) -> Meter:
        """As it stands, for whoever asks for metrics."""
        work = Work(dict(self._steps), dict(self._repairs), dict(self._failures))
        return Meter(self._started_us, self._last_pass_us, dict(self._passes), dict(self._unfinished), work)


def _forget(counter: Counter[tuple[TunnelName, str]], kept: Collection[TunnelName]) -> None:
    for key in [key for key in counter if key[0] not in kept]:
        del counter[key]


def _now_us() -> int:
    return time.time_ns() // 1000
