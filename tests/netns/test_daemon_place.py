"""What the daemon has in its run directory: removed under it, taken by another one, left by one that was killed."""

from __future__ import annotations

import shutil
import signal
import socket
from collections.abc import Callable

import pytest

from reconciler.host import meters
from reconciler.host.board import CONTESTED, LOCK
from tests.netns.faults import tun_file
from tests.netns.test_control import door, kept
from tests.netns.test_daemon import SOON_S, Keeper, keepers, tunctl
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers", "tunctl"]
pytestmark = pytest.mark.bound(240)


def _faked(host: Host) -> None:
    door(host).unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(door(host)))


def is_found(host: Host, tunctl: Warm, pid: int) -> bool:
    """By its lock, and by its socket."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(door(host))) == 0 and tunctl.json("status", expect=None)["daemon"]["pid"] == pid


REMOVED: dict[str, Callable[[Host], object]] = {
    "all": lambda host: shutil.rmtree(host.run_dir, ignore_errors=True),
    "the socket": lambda host: door(host).unlink(),
    "the lock": lambda host: (host.run_dir / LOCK).unlink(),
    "the name of the directory": lambda host: host.run_dir.rename(host.dir / "elsewhere"),
    "the socket, and another one is there": _faked,
}


@pytest.mark.parametrize("what", REMOVED)
def test_what_is_removed_is_there_again(host: Host, tunctl: Warm, keepers: list[Keeper], what: str) -> None:
    """Nobody takes it for ended, no second one starts beside it, and commands go through it."""
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = kept(host, tunctl, keepers)
    pid = tunctl.json("status", expect=None)["daemon"]["pid"]
    REMOVED[what](host)
    wait_until(lambda: is_found(host, tunctl, pid), SOON_S, lambda: keeper.said)
    assert "a daemon runs already" in host.run(tunctl.cold_argv("daemon"), check=False).stderr
    tunctl.run("down", "demo")
    assert "tun-demo" not in host.ip("link")
    assert "they are there again" in keeper.said


def test_one_that_finds_its_place_taken_ends(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """And takes nothing away from the other one."""
    tunctl.run("apply", tun_file(host, "demo"))
    first = kept(host, tunctl, [])
    first.process.send_signal(signal.SIGSTOP)
    shutil.rmtree(host.run_dir, ignore_errors=True)
    kept(host, tunctl, keepers)
    pid = tunctl.json("status", expect=None)["daemon"]["pid"]
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(SOON_S) == 75, first.said
    assert tunctl.json("status", expect=None)["daemon"]["pid"] == pid
    tunctl.run("down", "demo")
    assert door(host).exists()


def test_what_a_killed_one_has_shown_is_gone_before_the_next_one_is_there(
    host: Host, tunctl: Warm, keepers: list[Keeper]
) -> None:
    keeper = kept(host, tunctl, keepers)
    wait_until((host.run_dir / meters.FILE).exists, SOON_S, "its meter")
    keeper.process.kill()
    keeper.process.wait()
    (host.run_dir / CONTESTED).write_text('{"version": 1, "contested": [{"tunnel": "x", "text": "y", "by": "z"}]}')
    old = (host.run_dir / meters.FILE).read_text()
    with host.start(tunctl.cold_argv("daemon"), log="next.log") as following:
        wait_until(lambda: tunctl.json("status", expect=None)["daemon"]["running"], SOON_S, (host.dir / "next.log").read_text)
        path = host.run_dir / meters.FILE
        assert not path.exists() or path.read_text() != old
        assert not (host.run_dir / CONTESTED).exists()
        following.terminate()
