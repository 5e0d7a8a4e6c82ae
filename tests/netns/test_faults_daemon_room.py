"""A daemon without room: on the disks, under the lock, in memory. It repairs what it can, says what it cannot, and recovers."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.netns.engines import kill
from tests.netns.faults import assert_clean, state, tun_block, tun_file
from tests.netns.test_control import kept, request, talk
from tests.netns.test_daemon import SOON_S, Keeper, exec_block, exec_file, is_back, keepers, tunctl, tunnel
from tests.netns.test_daemon_storms import seconds_to_end
from tests.netns.test_faults_store import _small
from tests.netns.test_scenarios_daemon import SELDOM, family
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers", "tunctl"]
pytestmark = pytest.mark.bound(120)


@pytest.mark.parametrize("which", ["state", "run"])
def test_a_full_disk(host: Host, which: str) -> None:
    """The state directory, or the run directory, has no room left: links and routes are repaired, what needs the disk is
    said and waits, and all is well once there is room. Nothing is ever half done."""
    directory = host.state_dir if which == "state" else host.run_dir
    inside = _small(host, directory, "size=600k,mode=755")

    def run(*words: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = host.run([*inside, *host.tunctl_argv(*words)], check=False)
        assert expect is None or done.returncode == expect, done
        return done

    def status(name: str) -> dict:  # type: ignore[type-arg]
        return dict(json.loads(run("status", name, "--json", expect=None).stdout)["tunnels"][0])

    run("apply", exec_file(host, SELDOM, exec_block("prog", restart='base = "1s"\nmax = "1s"'), tun_block("demo")))
    wanted = state(host)
    daemon = host.start([*inside, *host.tunctl_argv("daemon")], log="daemon.log")
    said = (host.dir / "daemon.log").read_text
    wait_until(lambda: json.loads(run("status", "--json", expect=None).stdout)["daemon"]["running"], SOON_S, said)
    time.sleep(0.5)
    filler = f"{directory}/lost+found"
    host.run([*inside, "sh", "-c", f"dd if=/dev/zero of={filler} bs=1024 count=600 2>/dev/null; true"])
    for words in ("route flush proto 115 table all", "addr flush dev tun-demo", "link del tun-demo"):
        host.ip(words)
        wait_until(lambda: state(host) == wanted, SOON_S, lambda: f"{words}\n{said()}")  # noqa: B023
    kill(status("prog")["owner"]["pid"])
    if which == "run":
        wait_until(lambda: "No space left on device" in said(), SOON_S, said)
        wait_until(lambda: "No space left" in str(status("prog")["reasons"]), SOON_S, said)
    done = run("down", "demo", expect=None)
    assert done.returncode in ((74,) if which == "state" else (0, 1)), done
    if which == "state":
        assert "full" in done.stderr.lower() or "space" in done.stderr.lower(), done
        assert "tun-demo" in host.ip("link"), "not even begun"
    assert daemon.poll() is None, said()
    host.run([*inside, "rm", filler])
    run("up", "demo", expect=None)
    wait_until(lambda: status("prog")["verdict"] == "connected", SOON_S, lambda: f"{status('prog')}\n{said()}")
    wait_until(lambda: state(host) == wanted, SOON_S, said)
    assert run("reconcile").stdout == "no changes\n"
    wait_until(lambda: "tunctl" in run("history", "prog").stdout, SOON_S, said)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0, said()
    assert "Traceback" not in said()


_HOLDS = """
import fcntl, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(300)
"""


def test_the_lock_of_a_stopped_process(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """Who has it is named to who asks, in time; nothing is done beside it, not even by a busy loop; then all is repaired."""
    tunctl.run("apply", tun_file(host, "demo", "other"))
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    holder = host.start([sys.executable, "-c", _HOLDS, str(host.run_dir / "lock")], log="holder.log")
    wait_until(lambda: "held" in (host.dir / "holder.log").read_text(), SOON_S)
    os.kill(holder.pid, signal.SIGSTOP)
    host.ip("link del tun-demo")
    done = tunctl.run("down", "other", expect=75)
    assert f"pid {holder.pid}" in done.stderr, done
    frames = talk(host, request(host, "reconcile"))
    assert frames[-1]["error"]["code"] == 75, frames  # type: ignore[index]
    assert tunnel(tunctl, "demo")["verdict"] == "stale", "status waits for nobody"
    spent = sum(map(cpu_s, family(keeper)))
    time.sleep(1)
    assert sum(map(cpu_s, family(keeper))) - spent < 0.5, "it waits"
    os.kill(holder.pid, signal.SIGCONT)
    host.kill(holder)
    is_back(host, wanted, "the link", keeper)
    with (host.run_dir / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host.ip("link del tun-demo")
        time.sleep(0.2)
        assert seconds_to_end(keeper) < 10


def cpu_s(pid: int) -> float:
    """Of it and of those of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def test_no_memory_is_left(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """No process of it gets any more (as with a limit of its unit): that is told or it dies, and the next one repairs all."""
    tunctl.run("apply", tun_file(host, "demo", "other"))
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    time.sleep(0.5)
    pids = family(keeper)
    for pid in pids:
        used = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(pid, resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
    host.ip("link del tun-demo")
    host.ip("route flush proto 115 table all")
    time.sleep(1)
    for pid in family(keeper):
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    if keeper.process.poll() is not None:
        keeper = kept(host, tunctl, keepers)
    is_back(host, wanted, "all of it", keeper)


def test_killed_for_its_memory(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """As by the kernel when memory is short: any of its processes, again and again. What stays alive does its work."""
    before = state(host)
    tunctl.run("apply", tun_file(host, *(f"n{number}" for number in range(10))))
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    for number in range(6):
        host.ip(f"link del tun-n{number}")
        for pid in family(keeper)[1:]:
            kill(pid)
        time.sleep(0.01 * number)
    is_back(host, wanted, "all of it", keeper)
    keeper.end(signal.SIGKILL)
    host.ip("link del tun-n7")
    is_back(host, wanted, "the last one", kept(host, tunctl, keepers))
    tunctl.run("forget", "--all")
    assert_clean(host, before)
