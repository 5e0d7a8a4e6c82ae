"""`make bench`: medians of several rounds, as ratios to a reference of the same round, each beside its target.

Everything happens in a network namespace of its own. All samples go to benchmarks/results/ as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import repairs
from benchmarks.plot import plot
from benchmarks.rounds import TUN, WIREGUARD, Round, plan_rounds, route_rounds, status_rounds
from benchmarks.stand import leave_the_machine, machine

RESULTS = Path(__file__).parent / "results"


class Row(NamedTuple):
    """One line of the table."""

    key: str
    what: str
    measured: float
    reference: float | None  # None: the target is absolute
    unit: str
    value: float  # what is compared with the target: the median of the ratios, or `measured`
    cpu: float | None  # the same ratio of processor time: it says more on a machine that has other work
    target: float | None  # None: for information

    @property
    def passed(self) -> bool:
        return self.target is None or self.value <= self.target


def row(
    rounds: Sequence[Round], key: str, what: str, of: str, to: str, target: float | None, *, less: str | None = None
) -> Row:
    """A ratio between two commands of a round: the median over the rounds of the ratio in each."""

    def spent(one: Round, field: str) -> tuple[float, float]:
        over: float = getattr(one[less], field) if less else 0.0
        return getattr(one[of], field) - over, getattr(one[to], field)

    pairs = [spent(one, "seconds") for one in rounds]
    measured, reference = (statistics.median(pair[n] for pair in pairs) for n in (0, 1))
    wall, cpu = (statistics.median(a / b for a, b in (spent(one, f) for one in rounds)) for f in ("seconds", "cpu_s"))
    return Row(key, what, measured * 1e3, reference * 1e3, "ms", wall, cpu, target)


def status_rows(key: str, what: str, rounds: Sequence[Round], target: float | None) -> list[Row]:
    return [row(rounds, key, what, "status", "bare", target)]


def route_rows(key: str, count: int, rounds: Sequence[Round], targets: Sequence[float | None]) -> list[Row]:
    text = f"{count:,}".replace(",", " ")
    memory = max(one[name].rss_mb for one in rounds for name in ("apply", "second", "again"))
    first = f"apply of {text} routes, less one without them / ip -batch"
    second = f"second apply of {text} routes / first ip -batch"
    most = f"memory of these, the most at once ({text} routes)"
    less, whole, through, again, megabytes = targets
    return [
        row(rounds, f"{key}b", first, "apply", "ip", less, less="without"),
        row(rounds, f"{key}b+", f"apply of {text} routes, whole command / ip -batch", "apply", "ip", whole),
        row(rounds, f"{key}b*", f"apply of {text} routes by the daemon, whole command / ip -batch", "through", "ip", through),
        row(rounds, f"{key}c", second, "second", "ip", again),
        row(rounds, f"{key}c*", f"apply of {text} routes by the daemon, one is new / ip -batch", "changed", "ip", again),
        row(rounds, f"{key}l", f"apply of {text} routes on a link that was lost / first apply", "again", "apply", 1.0),
        Row(f"{key}d", most, memory, None, "MB", memory, None, megabytes),
    ]


def measure(rounds: int, *, big: bool) -> tuple[list[Row], dict[str, list[Round]]]:
    samples: dict[str, list[Round]] = {}
    rows: list[Row] = []

    def keep(name: str, made: list[Round]) -> list[Round]:
        print(f"  {name}: {len(made)} rounds", file=sys.stderr)
        samples[name] = made
        return made

    for key, what, template, count, target in (
        ("a", "status of 20 tunnels (tun) / python -c pass", TUN, 20, 5.0),
        ("a+", "status of 20 tunnels (wireguard-go) / python -c pass", WIREGUARD, 20, 5.0),
        *((("a++", "status of 100 tunnels (tun) / python -c pass", TUN, 100, None),) if big else ()),
    ):
        rows += status_rows(key, what, keep(what, list(status_rounds(template, count, rounds * 3))), target)
    planned = keep("plan of 20 tunnels (tun)", list(plan_rounds(20, rounds * 3)))
    rows += [
        row(planned, "p", "plan of 20 tunnels, file unchanged / python -c pass", "unchanged", "bare", 6.0),
        row(planned, "p+", "plan of 20 tunnels, file changed / python -c pass", "changed", "bare", 14.0),
    ]
    rows += route_rows("", 10_000, keep("10 000 routes", list(route_rounds(10_000, rounds))), (1.0, None, 1.5, 1.0, 120))
    if big:
        rows += route_rows("+", 100_000, keep("100 000 routes", list(route_rounds(100_000, 3))), (None, 1.5, None, None, 300))
    return rows, samples


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'':4}{'':72}{'tunctl':>11}{'reference':>12}{'ratio':>8}{'of cpu':>8}{'target':>9}"]
    for one in rows:
        reference = "" if one.reference is None else f"{one.reference:.0f} {one.unit}"
        ratio = "" if one.reference is None else f"{one.value:.2f}"
        cpu = "" if one.cpu is None else f"{one.cpu:.2f}"
        unit = "" if one.reference is not None else f" {one.unit}"
        target = "" if one.target is None else f"≤ {one.target:g}{unit}"
        mark = "" if one.target is None else "pass" if one.passed else "FAIL"
        measured = f"{one.measured:.0f} {one.unit}"
        lines.append(f"{one.key:4}{one.what:72}{measured:>11}{reference:>12}{ratio:>8}{cpu:>8}{target:>9}  {mark}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of the routes; status and plan have three times as many (7)")
    parser.add_argument("--quick", action="store_true", help="without 100 tunnels and 100 000 routes")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a target is missed")
    parser.add_argument("--plot", action="store_true", help="also draw the samples, as SVG beside the JSON")
    words = parser.parse_args()
    leave_the_machine()
    about = machine()
    print("  ".join(f"{name}: {value}" for name, value in about.items()))
    rows, samples = measure(words.rounds, big=not words.quick)
    print(table(rows))
    repaired = repairs.measure()
    print(repairs.told(repaired))
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime())
    plain = {name: [{part: s._asdict() for part, s in one.items()} for one in made] for name, made in samples.items()}
    document = {
        "machine": about,
        "rows": [{**one._asdict(), "passed": one.passed} for one in rows],
        "samples": plain,
        "repairs": repaired._asdict(),
    }
    out.write_text(json.dumps(document, indent=1))
    print(f"all samples: {out}")
    if words.plot:
        drawn = out.with_suffix(".svg")
        drawn.write_text(plot(plain))
        print(f"drawn: {drawn}")
    return 1 if words.check and not all(one.passed for one in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
