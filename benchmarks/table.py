"""What is measured, against what, and what is to be reached. A round measures tunctl and its reference one after the other, in
the same minute on the same machine: the ratio travels, the seconds do not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from benchmarks import bulk, gateway, keeping, looks, many, peers
from benchmarks.stand import Sample

Round = Mapping[str, Sample]


class Line(NamedTuple):
    """A ratio between two commands of a round. `to` empty: the most memory that one takes, with `is_cpu` its processor time."""

    what: str
    of: str
    to: str
    target: float | None  # None: for information
    less: str = ""  # what is subtracted first
    is_cpu: bool = False


class Measurement(NamedTuple):
    """Rounds, and what is read off them."""

    name: str
    rounds: Callable[[int], Iterator[Round]]
    lines: tuple[Line, ...]
    factor: float = 1  # of the number of rounds
    is_long: bool = False


class Growth(NamedTuple):
    """How cost grows with size: the exponent between the smallest and the largest of these measurements."""

    what: str
    of: str
    less: str
    sizes: Mapping[int, str]  # size → measurement
    target: float


class Row(NamedTuple):
    """One line of the table."""

    what: str
    measured: float
    reference: float | None  # None: the target is absolute
    unit: str
    value: float  # what is compared with the target: the median of the ratios, or `measured`
    cpu: float | None  # the same ratio of processor time: it says more on a machine that has other work
    target: float | None

    @property
    def passed(self) -> bool:
        return self.target is None or self.value <= self.target


_BULK = (
    Line("apply of {n} routes, less one without them / ip -batch", "apply", "ip", 1.0, "without"),
    Line("second apply of {n} routes / the first ip -batch", "second", "ip", 1.0),
    Line("apply of {n} routes after one changed in the file / ip -batch", "changed", "ip", 1.0),
    Line("reconcile of {n} routes whose link was lost / the first apply", "lost", "apply", 1.0),
    Line("the most memory of these", "apply", "", 120),
)
_HUGE = (
    Line("apply of {n} routes, whole command / ip -batch", "apply", "ip", 1.5),
    Line("second apply of {n} routes / the first ip -batch", "second", "ip", None),
    Line("the most memory of these", "apply", "", 300),
)
_MANY = (
    Line("apply of {n} tunnels, less one of 1 / ip -batch", "apply", "ip", 1.5, "one"),
    Line("second apply of {n} tunnels / all lists by ip -j", "second", "lists", 3.0),
    Line("status of {n} tunnels / all lists by ip -j", "status", "lists", 3.0),
    Line("down of {n} tunnels / link del by ip -batch", "down", "ip down", 1.0),
)


def _with(count: int, lines: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(line._replace(what=line.what.format(n=f"{count:,}".replace(",", " "))) for line in lines)


MEASUREMENTS = (
    Measurement(
        "status of 20 (tun)", partial(looks.status_rounds, looks.TUN, 20),
        (Line("status of 20 tunnels (tun) / python -c pass", "status", "bare", 3.0),), 3,
    ),
    Measurement(
        "status of 20 (wireguard-go)", partial(looks.status_rounds, looks.WIREGUARD, 20),
        (Line("status of 20 tunnels (wireguard-go) / python -c pass", "status", "bare", 5.0),), 3,
    ),
    Measurement(
        "plan of 20 (tun)", partial(looks.plan_rounds, 20),
        (
            Line("plan of 20 tunnels, file unchanged / python -c pass", "unchanged", "bare", 6.0),
            Line("plan of 20 tunnels, file changed / python -c pass", "changed", "bare", 14.0),
        ), 3,
    ),
    Measurement(
        "one tunnel", partial(peers.tun_rounds, 5), (Line("apply of a tunnel, 5 routes / ifstate", "apply", "ifstate", 1.5),),
    ),
    Measurement(
        "1 000 routes, others", partial(peers.tun_rounds, 1000),
        (Line("apply of a tunnel, 1 000 routes / ifstate", "apply", "ifstate", None),), 0.5,
    ),
    Measurement(
        "10 000 routes, others", partial(peers.tun_rounds, 10_000),
        (Line("apply of a tunnel, 10 000 routes / ifstate", "apply", "ifstate", 0.1),), 0.2, is_long=True,
    ),
    Measurement(
        "one WireGuard tunnel", peers.wireguard_rounds,
        (Line("apply of a WireGuard tunnel through the daemon / wg-quick up", "apply", "wg-quick", 1.0),),
    ),
    Measurement("10 tunnels", partial(many.rounds, 10), (), 4),  # they take less than two starts of Python differ by
    Measurement("100 tunnels", partial(many.rounds, 100), _with(100, _MANY), 3),  # a difference, and one start is half of it
    Measurement("1 000 tunnels", partial(many.rounds, 1000), _with(1000, (_MANY[1], _MANY[2])), 0.3, is_long=True),
    Measurement("1 000 routes", partial(bulk.rounds, 1000), ()),
    Measurement("10 000 routes", partial(bulk.rounds, 10_000), _with(10_000, _BULK)),
    Measurement(
        "10 000 routes, daemon", partial(keeping.route_rounds, 10_000),
        (
            Line("apply of 10 000 routes through the daemon, whole command / ip -batch", "apply", "ip", 1.5),
            Line("the same after one changed in the file / ip -batch", "changed", "ip", 1.0),
        ),
    ),
    Measurement("100 000 routes", partial(bulk.rounds, 100_000), _with(100_000, _HUGE), 0.4, is_long=True),
    Measurement(
        "pass of the daemon", partial(keeping.idle_rounds, 100, 10_000),
        (Line("pass with nothing to do, 100 tunnels and 10 000 routes / raw lists", "pass", "lists", 3.0),), 0.5,
    ),
    Measurement(
        "full tunnel with NAT and name servers", gateway.idle_rounds,
        (
            Line("pass of the daemon with nothing to do, full tunnel with NAT and DNS: CPU", "pass", "", 20, is_cpu=True),
            Line("reconcile with nothing to do, the whole command / python -c pass", "reconcile", "bare", None),
        ),
    ),
)  # fmt: skip

GROWTHS = (
    Growth(
        "growth of an apply with its routes, 1 000 to 100 000", "apply", "without",
        {1000: "1 000 routes", 100_000: "100 000 routes"}, 1.1,
    ),
    Growth(
        "growth of an apply with its tunnels, 10 to 1 000", "apply", "one", {10: "10 tunnels", 1000: "1 000 tunnels"}, 1.1
    ),
)  # fmt: skip


def rows(measurement: Measurement, made: Sequence[Round]) -> Iterator[Row]:
    for line in measurement.lines:
        if line.to:
            yield _ratio(line, made)
        elif line.is_cpu:
            median = statistics.median(one[line.of].cpu_s for one in made) * 1e3
            yield Row(line.what, median, None, "ms", median, None, line.target)
        else:
            most = max(one[line.of].rss_mb for one in made)
            yield Row(line.what, most, None, "MB", most, None, line.target)


def _ratio(line: Line, made: Sequence[Round]) -> Row:
    """The median over the rounds of the ratio in each."""

    def spent(one: Round, field: str) -> tuple[float, float]:
        over: float = getattr(one[line.less], field) if line.less else 0.0
        return getattr(one[line.of], field) - over, getattr(one[line.to], field)

    pairs = [spent(one, "seconds") for one in made]
    measured, reference = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    wall, cpu = (statistics.median(a / b for a, b in (spent(one, f) for one in made)) for f in ("seconds", "cpu_s"))
    return Row(line.what, measured * 1e3, reference * 1e3, "ms", wall, cpu, line.target)


def growth(asked: Growth, samples: Mapping[str, Sequence[Round]]) -> Row | None:
    """The exponent; None when one of its measurements was left out."""
    if not all(name in samples for name in asked.sizes.values()):
        return None

    def spent(name: str, field: str) -> float:
        return statistics.median(getattr(one[asked.of], field) - getattr(one[asked.less], field) for one in samples[name])

    (small, low), (large, high) = asked.sizes.items()
    wall, cpu = (math.log(spent(high, f) / spent(low, f)) / math.log(large / small) for f in ("seconds", "cpu_s"))
    return Row(asked.what, spent(high, "seconds") * 1e3, spent(low, "seconds") * 1e3, "ms", wall, cpu, asked.target)
