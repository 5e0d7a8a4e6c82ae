"""`make bench`: medians of several rounds, as ratios to a reference of the same round, each beside its target.

Everything happens in a network namespace of its own. All samples go to benchmarks/results/, as JSON and drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import idle, repairs
from benchmarks.plot import plot
from benchmarks.stand import leave_the_machine, machine
from benchmarks.table import GROWTHS, MEASUREMENTS, Round, Row, growth, rows

RESULTS = Path(__file__).parent / "results"


def measure(rounds: int, *, only: str, long: bool) -> tuple[list[Row], dict[str, list[Round]]]:
    samples: dict[str, list[Round]] = {}
    found: list[Row] = []
    for one in MEASUREMENTS:
        if only in one.name and (long or not one.is_long):
            samples[one.name] = list(one.rounds(max(1, round(rounds * one.factor))))
            found += rows(one, samples[one.name])
            print(f"  {one.name}: {len(samples[one.name])} rounds", file=sys.stderr)
    grown = [growth(asked, samples) for asked in GROWTHS]
    return [*found, *(row for row in grown if row is not None)], samples


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'':74}{'tunctl':>11}{'reference':>12}{'ratio':>8}{'of cpu':>8}{'target':>9}"]
    for one in rows:
        reference = "" if one.reference is None else f"{one.reference:.0f} {one.unit}"
        ratio = "" if one.reference is None else f"{one.value:.2f}"
        cpu = "" if one.cpu is None else f"{one.cpu:.2f}"
        unit = "" if one.reference is not None else f" {one.unit}"
        target = "" if one.target is None else f"≤ {one.target:g}{unit}"
        mark = "" if one.target is None else "pass" if one.passed else "FAIL"
        measured = f"{one.measured:.0f} {one.unit}"
        lines.append(f"{one.what:74}{measured:>11}{reference:>12}{ratio:>8}{cpu:>8}{target:>9}  {mark}".rstrip())
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of most measurements; quick ones have more, long ones fewer (5)")
    parser.add_argument("--quick", action="store_true", help="without 1 000 tunnels and 100 000 routes")
    parser.add_argument("--only", default="", metavar="NAME", help="measurements with this in their name")
    parser.add_argument("--check", action="store_true", help="exit code 1 when a target is missed")
    words = parser.parse_args()
    leave_the_machine()
    about = machine()
    print("  ".join(f"{name}: {value}" for name, value in about.items()))
    found, samples = measure(words.rounds, only=words.only, long=not words.quick)
    print(table(found))
    repaired = repairs.measure() if words.only in "repairs" else None
    if repaired is not None:
        print(repairs.told(repaired))
    rests = idle.measure() if words.only in "idle" else None
    if rests is not None:
        print(idle.told(rests))
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / time.strftime("%Y%m%dT%H%M%SZ.json", time.gmtime())
    plain = {name: [{part: s._asdict() for part, s in one.items()} for one in made] for name, made in samples.items()}
    document = {
        "machine": about,
        "rows": [{**one._asdict(), "passed": one.passed} for one in found],
        "samples": plain,
        "repairs": repaired and repaired._asdict(),
        "idle": rests and rests._asdict(),
    }
    out.write_text(json.dumps(document, indent=1))
    drawn = out.with_suffix(".svg")
    drawn.write_text(plot(plain))
    print(f"all samples: {out}, drawn: {drawn}")
    return 1 if words.check and not all(one.passed for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
