"""The daemon waits by a clock that nobody sets, whatever the store and the wall say (F52). A clock that is really set needs a
machine of its own: tests/vm."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time

import pytest

from tests.netns.faults import marked
from tests.netns.test_daemon import SOON_S, Keeper, exec_block, exec_file, keep, keepers, pid_of, tunctl, tunnel
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers", "tunctl"]
pytestmark = pytest.mark.bound(240)
DAY_US = 86_400 * 1_000_000
FEW = 25  # passes; one that waits for nothing takes ten milliseconds
RARELY = '\n[host]\nreconcile_interval = "10m"\n'


def passes(tunctl: Warm) -> int:
    """How many there were. The figures are written when nothing is due."""
    text = tunctl.run("metrics").stdout
    return sum(int(float(n)) for n in re.findall(r'(?m)^tunctl_pass_duration_seconds_count\{scope="all"\} (\S+)$', text))


def ended_too_often(tunctl: Warm, keeper: Keeper) -> None:
    """Until the daemon lets its program wait."""

    def waits() -> bool:
        pid = pid_of(tunctl, "prog")
        if pid:
            os.kill(pid, signal.SIGKILL)
        return tunnel(tunctl, "prog")["state"] == "waiting"

    wait_until(waits, SOON_S, lambda: keeper.said)


@pytest.mark.parametrize("step_us", [DAY_US, -DAY_US], ids=["forward", "back"])
def test_the_clock_is_set_while_a_program_waits(host: Host, tunctl: Warm, keepers: list[Keeper], step_us: int) -> None:
    """It is not started earlier by the daemon that lets it wait, not a day later, and nobody asks for it all the time."""
    tunctl.run("apply", exec_file(host, RARELY, exec_block("prog", restart='base = "8s"\nfactor = 1')))
    keeper = keep(host, tunctl, keepers)
    ended_too_often(tunctl, keeper)
    begun, before = time.monotonic(), passes(tunctl)
    with sqlite3.connect(host.state_dir / "intent.db", timeout=SOON_S) as connection:
        connection.execute("UPDATE intent SET since_us = since_us - ?, next_retry_us = next_retry_us - ?", (step_us, step_us))
    keeper.process.send_signal(signal.SIGHUP)
    wait_until(lambda: marked(host), SOON_S, lambda: f"its time has come\n{keeper.said}")
    assert time.monotonic() - begun > 4, "the daemon's own clock says when"
    wait_until(lambda: tunnel(tunctl, "prog")["state"] == "up", SOON_S, lambda: keeper.said)
    time.sleep(0.5)
    assert passes(tunctl) - before <= FEW


def test_nobody_asks_again_for_what_is_being_done(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """A program whose time has come and that is slow to start: other passes do not follow each other because of it."""
    slow = exec_block("slow", "never", restart='base = "1s"\nfactor = 1').replace('"30s"', '"5s"')
    tunctl.run("apply", exec_file(host, RARELY, slow), expect=1)
    keeper = keep(host, tunctl, keepers)
    for _ in range(2):  # the second time the daemon has let it wait, and begins anew by itself
        wait_until(lambda: not marked(host) and tunnel(tunctl, "slow")["state"] == "waiting", SOON_S, lambda: keeper.said)
        wait_until(lambda: marked(host), SOON_S, lambda: keeper.said)
    before = passes(tunctl)
    keeper.process.send_signal(signal.SIGHUP)
    wait_until(lambda: not marked(host), SOON_S, lambda: keeper.said)
    time.sleep(0.5)
    assert 0 < passes(tunctl) - before <= FEW
    wait_until(lambda: marked(host), SOON_S, lambda: keeper.said)
    assert keeper.end() == 0
    assert "killed" not in keeper.said, "a pass that ends with the daemon is done by nobody else"
