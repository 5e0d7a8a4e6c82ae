"""How fast the daemon repairs: from the kernel's event until a second netlink listener hears that it is repaired.

    python -m benchmarks.repairs [TUNNELS]

Every object is broken once, one after another, with `reconcile_interval` = 60 s; then all of one kind at once. Beside it
stands the least that a program in Python could need: one that puts a single route back and does nothing else.
"""

from __future__ import annotations

import os
import random
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from benchmarks.breakages import MTU, Breakage, Breaker, Listener
from benchmarks.stand import PROJECT, Stand, leave_the_machine, stand
from reconciler.host import events
from reconciler.host.events import Events
from reconciler.host.nl_route import RTM_DELROUTE, RTM_NEWROUTE
from reconciler.host.rtnl import Rtnl

TUNNELS = 22  # nine objects each, and the packet filter: two hundred
MEDIAN_S, WORST_S, OWNER_S = 0.020, 0.250, 0.100
FLUSHES = 6  # of the one packet filter: fewer than would make it contested
PAUSE_S = (0.05, 0.15)  # between two breakages, at random: never in step with anything
BOUNDS_MS = (2, 5, 10, 15, 20, 30, 50, 100, 250)
HOLDER = PROJECT / "tests/programs/holder.py"

HEAD = 'version = 1\n[host]\nreconcile_interval = "60s"\n'
TUN = """
[tunnels.t{n}]
driver = "tun"
interface = "tun-b{n}"
addresses = ["10.100.{n}.1/32", "fd00:100:{n:x}::1/128"]
mtu = {mtu}
[[tunnels.t{n}.routes]]
to = ["10.101.{n}.0/24", "fd00:101:{n:x}::/64"]
[[tunnels.t{n}.rules]]
to = ["10.102.{n}.0/24", "fd00:102:{n:x}::/64"]
lookup = 200
"""
NAT = """
[[tunnels.t0.nat]]
source = ["172.16.0.0/24"]
out = "tunnel"
"""
EXEC = """
[tunnels.e{n}]
driver = "exec"
interface = "tun-e{n}"
addresses = ["10.103.{n}.1/32"]
exec = {{ command = ["{python}", "{holder}", "{{interface}}"] }}
"""


class Measured(NamedTuple):
    """Seconds by what was broken."""

    floor: list[float]
    single: Mapping[str, list[float]]
    at_once: Mapping[str, list[float]]
    owners: list[float]
    owners_alone: list[float]  # the same program, started by nobody but us


@contextmanager
def keeping(at: Stand) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon, until the end of the block."""
    with (at.dir / "daemon.log").open("ab") as log:
        process = at.start("daemon", log)
    try:
        while not at.has_daemon():
            if process.poll() is not None:
                raise RuntimeError(f"the daemon ended: {(at.dir / 'daemon.log').read_text()}")
            time.sleep(0.05)
        time.sleep(1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def measure(tunnels: int = TUNNELS, owners: int = 8) -> Measured:
    chance = random.Random(tunnels)
    with stand() as at:
        blocks = [TUN.format(n=n, mtu=MTU) for n in range(tunnels)]
        programs = [EXEC.format(n=n, python=sys.executable, holder=HOLDER) for n in range(owners)]
        at.write("desired.toml", HEAD + "".join((blocks[0], NAT, *blocks[1:], *programs)))
        at.tunctl("apply", "desired.toml")
        listener, breaker = Listener(), Breaker()
        with keeping(at):
            single = _singly(listener, breaker, tunnels, chance)
            owned = [_owner(at, listener, f"e{n}", n, chance) for n in range(owners)]
            at_once = _at_once(listener, breaker, tunnels)
        floor, alone = _floor(at, listener, breaker, chance), [_alone(listener, n) for n in range(owners)]
        return Measured(floor, single, at_once, owned, alone)


def _singly(listener: Listener, breaker: Breaker, tunnels: int, chance: random.Random) -> dict[str, list[float]]:
    todo: list[Callable[[], Breakage]] = [breaker.of_filter] * FLUSHES
    todo += [lambda one=one: one for one in breaker.of_rules()]  # type: ignore[misc]
    for number in range(tunnels):
        name = f"tun-b{number}"
        whats = [one.what for one in breaker.of_link(name)]
        todo += [lambda name=name, n=n: breaker.of_link(name)[n] for n in range(len(whats))]  # type: ignore[misc]
    chance.shuffle(todo)
    took: dict[str, list[float]] = {}
    for make in todo:
        one = make()
        time.sleep(chance.uniform(*PAUSE_S))
        took.setdefault(one.what, []).append(listener.seconds(one))
    return took


def _at_once(listener: Listener, breaker: Breaker, tunnels: int) -> dict[str, list[float]]:
    """All of one kind in one go; a minute may not have passed, so only what was touched rarely."""
    kinds: dict[str, list[Breakage]] = {}
    for number in range(tunnels):
        for one in breaker.of_link(f"tun-b{number}"):
            kinds.setdefault(one.what, []).append(one)
    took = {}
    for what in ("route deleted", "address removed", "link set down"):
        time.sleep(1)
        took[what] = listener.all_seconds(kinds[what])
    return took


def _owner(at: Stand, listener: Listener, tunnel: str, number: int, chance: random.Random) -> float:
    """Its program is killed: until its interface is back with its address."""
    time.sleep(chance.uniform(*PAUSE_S) + 0.5)
    pid = at.owner(tunnel)
    packed = bytes((10, 103, number, 1))
    return listener.seconds(Breakage("owner killed", lambda: os.kill(pid, signal.SIGKILL), {("address", packed)}))


def _alone(listener: Listener, number: int) -> float:
    """The program's own start: from the fork until its interface is there."""
    name = f"tun-x{number}"
    argv = [sys.executable, str(HOLDER), name]
    started: list[subprocess.Popen[bytes]] = []
    environment = {"PATH": os.environ["PATH"]}
    one = Breakage("started", lambda: started.append(subprocess.Popen(argv, env=environment)), {("link", name, False, 1500)})
    try:
        return listener.seconds(one)
    finally:
        for process in started:
            process.kill()
            process.wait()


def _floor(at: Stand, listener: Listener, breaker: Breaker, chance: random.Random) -> list[float]:
    """A process that does nothing but put one route back."""
    at.tunctl("apply", "desired.toml")
    route = next(one for one in breaker.of_link("tun-b0") if one.what == "route deleted")
    pid = os.fork()
    if pid == 0:
        try:
            _put_back()
        finally:
            os._exit(1)
    try:
        time.sleep(0.3)
        took = []
        for _ in range(50):
            time.sleep(chance.uniform(*PAUSE_S))
            took.append(listener.seconds(route))
        return took
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _put_back() -> None:
    rtnl, source = Rtnl(), Events(events.ROUTE, events.ROUTES)
    while True:
        select.select((source,), (), ())
        for event in source.read():
            if event and event.kind == RTM_DELROUTE:
                rtnl.request(
                    RTM_NEWROUTE, 0x400 | 0x4, event.body[:8] + bytes(4) + event.body[12:]
                )  # NLM_F_CREATE, NLM_F_ACK; no flags


def histogram(seconds: Sequence[float]) -> str:
    """`≤5: 12  ≤10: 140 …`: how many repairs were done within so many milliseconds."""
    counts = [0] * (len(BOUNDS_MS) + 1)
    for one in seconds:
        counts[next((n for n, bound in enumerate(BOUNDS_MS) if one * 1e3 <= bound), len(BOUNDS_MS))] += 1
    names = [*(f"≤{bound}" for bound in BOUNDS_MS), f">{BOUNDS_MS[-1]}"]
    return "  ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True) if count)


def line(what: str, seconds: Sequence[float]) -> str:
    ms = sorted(one * 1e3 for one in seconds)
    tenth = ms[min(len(ms) - 1, len(ms) * 9 // 10)]
    return f"{what:28}{len(ms):>5}{statistics.median(ms):>9.1f}{tenth:>9.1f}{ms[-1]:>9.1f}   {histogram(seconds)}"


def told(found: Measured) -> str:
    """The table."""
    every = [one for took in found.single.values() for one in took]
    floor = statistics.median(found.floor)
    start = statistics.median(found.owners_alone)
    late_s = statistics.median(found.owners) - start
    return "\n".join(
        [
            f"{'repairs, ms':28}{'n':>5}{'median':>9}{'p90':>9}{'worst':>9}   distribution",
            *(line(what, took) for what, took in sorted(found.single.items())),
            line("all of these", every),
            *(line(f"at once: {what}", took) for what, took in found.at_once.items()),
            line("owner killed", found.owners),
            line("its program alone", found.owners_alone),
            line("floor: one route, put back", found.floor),
            _judged("median of all", statistics.median(every), MEDIAN_S, floor),
            _judged("worst of all", max(every), WORST_S, floor),
            _judged("owner, beyond its start", late_s, OWNER_S, start),
        ]
    )


def _judged(what: str, seconds: float, target_s: float, floor_s: float) -> str:
    verdict = "pass" if seconds <= target_s else "FAIL"
    measured = f"{what:28}{seconds * 1e3:>9.1f} ms {seconds / floor_s:>7.1f} times the reference"
    return f"{measured}   target ≤ {target_s * 1e3:.0f} ms  {verdict}"


if __name__ == "__main__":
    leave_the_machine()
    print(told(measure(int(sys.argv[1]) if len(sys.argv) > 1 else TUNNELS)))
