"""Routes in bulk: µs a route of adding, listing, comparing and removing, beside `ip -batch`. Run as root.

    python benchmarks/routes.py [HOW_MANY]

In a network namespace of its own (unshare), which goes with the process. Ratios travel, absolute values do not.
"""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from reconciler.actuate import link as actuate_link
from reconciler.actuate import route as actuate
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.route import Route
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Step
from reconciler.model.prefix import Prefix
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Tunnel
from reconciler.observe import link as observe_link
from reconciler.observe import route as observe
from reconciler.observe.question import Question

CLONE_NEWNET = 0x40000000
ROUNDS = 5
NAME = TunnelName("bench")
DEV = IfName("tun-bench")
MARK = Mark(NAME, "00ab", "12cd")
T = TypeVar("T")


def timed(function: Callable[[], T]) -> tuple[float, T]:
    begun = time.perf_counter()
    result = function()
    return time.perf_counter() - begun, result


def prefixes(count: int, family: int) -> list[Prefix]:
    if family == 4:
        return [Prefix((0x0A000000 + 4 * n).to_bytes(4, "big"), 30) for n in range(count)]
    return [Prefix((0x20010DB8 << 96 | n << 64).to_bytes(16, "big"), 64) for n in range(count)]


def measure(machine: Machine, question: Question, count: int, family: int) -> dict[str, float]:
    """Seconds for each thing done to `count` routes."""
    metric = 0 if family == 4 else 1024
    routes = [Route(NAME, *prefix, 254, metric, "unicast", DEV) for prefix in prefixes(count, family)]
    add = [Step(Verb.CREATE, route, None, NAME) for route in routes]
    remove = [Step(Verb.DELETE, route, route, NAME) for route in routes]
    states, links = observe_link.look(machine, question)
    devices = observe_link.devices(states, links)
    seconds: dict[str, float] = {}
    seconds["add"], errors = timed(lambda: actuate.perform(machine, add))
    assert errors == [None] * count
    seconds["list"], found = timed(lambda: observe.look(machine, devices, question))
    assert set(found) == set(routes)
    keys = {route[1:5] for route in routes}
    seconds["who is there"], _ = timed(lambda: observe.foreign(machine, keys))
    seconds["remove"], errors = timed(lambda: actuate.perform(machine, remove))
    assert errors == [None] * count
    with tempfile.NamedTemporaryFile("w") as batch:
        batch.writelines(f"route add {route.packed and Prefix(route.packed, route.length)} dev {DEV}\n" for route in routes)
        batch.flush()
        flag = "-4" if family == 4 else "-6"
        seconds["ip -batch add"], _ = timed(lambda: subprocess.run(["ip", flag, "-batch", batch.name], check=True))
    seconds["ip -j list"], _ = timed(
        lambda: subprocess.run(["ip", flag, "-j", "route", "show", "dev", DEV], check=True, capture_output=True)
    )
    subprocess.run(["ip", flag, "route", "flush", "dev", DEV, "proto", "boot"], check=True)
    return seconds


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise SystemExit("no network namespace of its own: run it as root")
    intent = Intent(Tunnel(NAME, "tun", DEV), MARK, 1, "bench", 1)
    question = Question((intent,), "00ab", Numbers())
    with tempfile.TemporaryDirectory() as run_dir, Machine(Path(run_dir)) as machine:
        actuate_link.create(machine, Link(NAME, DEV, "tun", 1400, up=True, alias=MARK.alias, group=20000))
        for family in (4, 6):
            rounds = [measure(machine, question, count, family) for _ in range(ROUNDS)]
            for what in rounds[0]:
                median = statistics.median(one[what] for one in rounds)
                print(f"IPv{family} {count} routes, {what}: {median * 1e3:.1f} ms, {median / count * 1e6:.2f} µs a route")


if __name__ == "__main__":
    main()
