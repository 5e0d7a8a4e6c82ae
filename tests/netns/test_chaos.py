"""A seeded random walk of everything that others, users and chance do to a host, and then quiet: all is as it was wished,
nothing foreign was touched, and nothing leaks.

TUNCTL_CHAOS_S (seconds, 15) and TUNCTL_CHAOS_SEED (1) choose another walk; a failure prints its seed and its steps. When the
deeds meet the daemon is up to chance all the same.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.netns.faults import assert_clean, assert_converged, changed, difference, everything, marked, state
from tests.netns.test_daemon import BREAKAGES, Keeper
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

WALK_S = float(os.environ.get("TUNCTL_CHAOS_S", "15"))
SEED = os.environ.get("TUNCTL_CHAOS_SEED", "1")
QUIET_S = 90
pytestmark = pytest.mark.bound(WALK_S * 3 + 2 * QUIET_S + 60)

FOREIGN = (
    "link add their0 type veth peer name their1", "addr add 198.51.100.1/24 dev their0", "link set their0 up",
    "link set their1 up", "route add 10.200.0.0/16 dev their0", "-6 route add fd00:200::/32 dev their0",
    "rule add priority 12345 to 10.201.0.0/16 lookup 77", "route add 10.201.0.0/16 dev their0 table 77",
    "tuntap add tun-theirs mode tun",
)  # fmt: skip
NAMES = ("plain", "prog", "made", "wg")


class Walk:
    """The daemon of the moment, and what was done so far."""

    def __init__(self, host: Host, tunctl: Warm, chance: random.Random) -> None:
        self.host, self.tunctl, self.chance = host, tunctl, chance
        self.done: list[str] = []
        self.keepers = [Keeper(host, tunctl)]
        self.file = str(everything(host))
        self.other = str(changed(host))
        self.file = str(everything(host))  # the programs and files of both are there

    @property
    def told(self) -> str:
        return f"TUNCTL_CHAOS_SEED={SEED} TUNCTL_CHAOS_S={WALK_S:g}\n" + "\n".join([*self.done, self.keepers[-1].said])

    def step(self) -> None:
        deed = self.chance.choices(DEEDS, [weight for _, weight in WEIGHTED])[0]
        self.done.append(deed.__name__)
        deed(self)
        if self.chance.random() < 0.5:  # else the next thing happens at once
            time.sleep(self.chance.uniform(0, 0.4))

    def break_something(self) -> None:
        what = self.chance.choice(sorted(BREAKAGES))
        self.done.append(f"  {what}")
        self.host.ip(BREAKAGES[what], check=False)

    def flush(self) -> None:
        self.host.ip(self.chance.choice(("route flush proto 115 table all", "addr flush dev tun-plain")), check=False)

    def kill_an_owner(self) -> None:
        owners = marked(self.host)
        if owners:
            with suppress(ProcessLookupError):
                pid = int(self.chance.choice(owners).split()[-1])
                os.kill(pid, self.chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)))

    def kill_the_daemon(self) -> None:
        self.keepers[-1].end(signal.SIGKILL)
        self.keepers.append(Keeper(self.host, self.tunctl))

    def restart_the_daemon(self) -> None:
        assert self.keepers[-1].end(within_s=20) == 0, self.told
        self.keepers.append(Keeper(self.host, self.tunctl))

    def down_and_up(self) -> None:
        command = self.chance.choice(("down", "up", "up"))
        self.tunctl.run(command, self.chance.choice(NAMES), expect=None, timeout=60)

    def apply(self) -> None:
        self.tunctl.run("apply", self.file, "--allow-withdraw", expect=None, timeout=90)

    def edit(self) -> None:
        self.tunctl.run("apply", self.other, "--allow-withdraw", expect=None, timeout=90)

    def damage_hints(self) -> None:
        tunnels = self.host.run_dir / "tunnels"
        files = sorted(tunnels.glob("*/handles.json"))
        if files and self.chance.random() < 0.7:
            with suppress(OSError):
                self.chance.choice(files).write_text("{")
        else:
            shutil.rmtree(tunnels, ignore_errors=True)

    def their_things(self) -> None:
        for verb in ("add", "del"):
            self.host.ip(f"route {verb} 10.202.0.0/16 dev their0", check=False)

    def nothing(self) -> None:
        time.sleep(self.chance.uniform(0, 1))


Deed = Callable[[Walk], None]
WEIGHTED: tuple[tuple[Deed, int], ...] = (
    (Walk.break_something, 12), (Walk.flush, 3), (Walk.kill_an_owner, 3), (Walk.kill_the_daemon, 1),
    (Walk.restart_the_daemon, 1), (Walk.down_and_up, 3), (Walk.apply, 1), (Walk.edit, 1), (Walk.damage_hints, 1),
    (Walk.their_things, 2), (Walk.nothing, 1),
)  # fmt: skip
DEEDS = [deed for deed, _ in WEIGHTED]


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as tunctl:
        yield tunctl


def descriptors(keeper: Keeper) -> int:
    return len(list(Path(f"/proc/{keeper.process.pid}/fd").iterdir()))


def namespaces(host: Host) -> int:
    """Mount and network namespaces of whatever lives here."""
    found = set()
    for pid in host.pids():
        with suppress(OSError):
            found |= {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net")}
    return len(found)


def inhabitants(host: Host) -> list[str]:
    """What runs here, by its command line; passes of a daemon look like it."""
    lines = []
    for pid in host.pids():
        with suppress(OSError):
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return sorted(lines)


def shape(host: Host) -> str:
    """The state without the kernel's own routes for IPv6 multicast: who flushes all addresses of a device flushes them, too,
    and the kernel makes them anew only with the device."""
    return "\n".join(line for line in state(host).splitlines() if not ("ff00::/8" in line and "proto kernel" in line))


def wake_all(host: Host) -> None:
    """Programs that were stopped go on: to be stopped is no fault that anybody but their stopper could mend."""
    for owner in marked(host):
        with suppress(ProcessLookupError):
            os.kill(int(owner.split()[-1]), signal.SIGCONT)


def test_a_random_walk(host: Host, tunctl: Warm) -> None:
    for words in FOREIGN:
        host.ip(words)
    host.run(["nft", "add table inet theirs; add chain inet theirs c { type filter hook input priority 0; }"])
    before = state(host)
    tunctl.run("apply", everything(host))
    wanted = shape(host)
    walk = Walk(host, tunctl, random.Random(SEED))
    wait_until(
        lambda: len(inhabitants(host)) == 2 + len(marked(host)), QUIET_S, lambda: walk.told
    )  # the daemon, and one that rests
    time.sleep(1)
    open_, spaces, people = descriptors(walk.keepers[-1]), namespaces(host), inhabitants(host)
    end_s = time.monotonic() + WALK_S
    while time.monotonic() < end_s:
        walk.step()
    wake_all(host)
    walk.apply()
    tunctl.run("up", "--all", expect=None, timeout=90)
    wait_until(lambda: shape(host) == wanted, QUIET_S, lambda: difference(wanted, shape(host)) + walk.told)
    wait_until(lambda: inhabitants(host) == people, QUIET_S, lambda: walk.told)
    assert_converged(host, tunctl, state(host), walk.told)
    assert namespaces(host) == spaces, walk.told
    assert descriptors(walk.keepers[-1]) <= open_ + 2, walk.told
    assert walk.keepers[-1].end(within_s=20) == 0, walk.told
    for keeper in walk.keepers:
        assert "Traceback" not in keeper.said, walk.told
        assert "bug" not in keeper.said.lower(), walk.told
    tunctl.run("forget", "--all")
    assert_clean(host, before, walk.told)
