"""What a daemon costs that has nothing to do: wake-ups, processor time of a pass, memory, and growth.

    python -m benchmarks.idle [TUNNELS]

Memory is proportional (PSS): pages that its processes share count once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.many import desired
from benchmarks.stand import Stand, leave_the_machine, stand

TUNNELS, PASSES, EVENTS = 100, 50, 10_000
QUIET_S = 10.0  # of an interval of an hour
PASS_MS, MEMORY_MB, GROWTH_MB = 30, 70, 1.0
HEAD = '[host]\nreconcile_interval = "1h"\n'


class Idle(NamedTuple):
    """What was found. MB: 10^6 bytes."""

    tunnels: int
    wakeups: int  # of all its processes within QUIET_S
    pass_ms: float  # processor time of one that finds nothing to do: the mean
    memory_mb: float
    growth_mb: float  # over so many events, each a reason to look
    event_us: float  # processor time of one of them


def measure(tunnels: int = TUNNELS) -> Idle:
    with stand() as at:
        at.write("desired.toml", desired(tunnels).replace("version = 1\n", f"version = 1\n{HEAD}", 1))
        at.tunctl("apply", "desired.toml")
        with at.daemon() as running:
            _passes(running.pid, 5)
            before = _switches(running.pid)
            time.sleep(QUIET_S)
            wakeups = _switches(running.pid) - before
            spent_s = _cpu_s(running.pid)
            _passes(running.pid, PASSES)
            pass_s = (_cpu_s(running.pid) - spent_s) / PASSES
            _storm(at)
            memory, spent_s = _memory_mb(running.pid), _cpu_s(running.pid)
            _storm(at)
            event_s = (_cpu_s(running.pid) - spent_s) / EVENTS
            grown = _memory_mb(running.pid) - memory
            return Idle(tunnels, wakeups, pass_s * 1e3, memory, grown, event_s * 1e6)


def _passes(pid: int, count: int) -> None:
    """One after another, each after the one before is over."""
    for _ in range(count):
        asleep = before = now = _cpu_s(pid)
        os.kill(pid, signal.SIGHUP)
        while now == asleep or now != before:  # until it has begun, and until it has rested for a moment
            time.sleep(0.05)
            before, now = now, _cpu_s(pid)


def _storm(at: Stand) -> None:
    """Somebody changes routes on a link of ours."""
    places = [f"10.{210 + n // 65536}.{n // 256 % 256}.{n % 256}/32 dev tun-b0 table 999" for n in range(EVENTS // 2)]
    batch = at.write("storm.batch", "".join(f"route {verb} {one}\n" for verb in ("add", "del") for one in places))
    subprocess.run(["ip", "-batch", str(batch)], check=True)
    time.sleep(2)


def _family(pid: int) -> Iterator[int]:
    yield pid
    yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def _switches(pid: int) -> int:
    """How often its processes fell asleep."""
    texts = (Path(f"/proc/{one}/status").read_text() for one in _family(pid))
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("voluntary"))


def _cpu_s(pid: int) -> float:
    """schedstat: nanoseconds on a processor."""
    return sum(int(Path(f"/proc/{one}/schedstat").read_text().split()[0]) for one in _family(pid)) / 1e9


def _memory_mb(pid: int) -> float:
    texts = (Path(f"/proc/{one}/smaps_rollup").read_text() for one in _family(pid))
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith("Pss:")) * 1024 / 1e6


def told(found: Idle) -> str:
    """The table."""
    return "\n".join(
        [
            f"a daemon with {found.tunnels} tunnels that has nothing to do",
            _judged(f"wake-ups in {QUIET_S:g} s of an interval", found.wakeups, "", 0),
            _judged("processor time of a pass", found.pass_ms, "ms", PASS_MS),
            _judged("memory of all its processes (PSS)", found.memory_mb, "MB", MEMORY_MB),
            _judged(f"growth over {EVENTS} events", found.growth_mb, "MB", GROWTH_MB),
            f"{'processor time of an event':40}{found.event_us:>9.1f} µs",
        ]
    )


def _judged(what: str, value: float, unit: str, target: float) -> str:
    return f"{what:40}{value:>9.1f} {unit:2}   target ≤ {target:g} {unit}  {'pass' if value <= target else 'FAIL'}".rstrip()


if __name__ == "__main__":
    leave_the_machine()
    print(told(measure(int(sys.argv[1]) if len(sys.argv) > 1 else TUNNELS)))
