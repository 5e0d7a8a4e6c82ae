"""`on_failure = "block"` over a reboot: the store of before in a fresh namespace, under another boot id.

What a kernel forgets is gone: links, routes, rules, processes. What the store remembers is that the tunnel had worked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.netns import world
from tests.netns.engines import kill
from tests.netns.layouts import is_unreachable, way
from tests.netns.test_full_tunnel import FULL, OUTSIDE, Ends, can_reach, desired, ends
from tests.netns.world import Host

__all__ = ["ends"]

Make = Callable[[str], Host]


class Booted(NamedTuple):
    """A machine after the power came back: the same disk, another kernel."""

    host: Host
    boot_id: str

    def argv(self, *words: str) -> list[str]:
        file = self.host.write("boot_id", f"{self.boot_id}\n")
        mount = f'mount --bind {file} /proc/sys/kernel/random/boot_id && exec "$@"'
        return ["unshare", "-m", "sh", "-c", mount, "sh", *self.host.tunctl_argv(*words)]

    def tunctl(self, *words: str, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = self.host.run(self.argv(*words), check=False)
        assert expect in (None, done.returncode), f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


def reboot(before: Host, gw: Host, new: Make, number: int, *, hints: bool) -> Booted:
    """The power is cut, and comes back. `hints`: the run directory lies on a disk, too."""
    for pid in before.pids():
        kill(pid)
    before.ip("link del cl0")
    after = new(f"cl{number}")
    shutil.copytree(before.state_dir, after.state_dir)
    if hints:
        shutil.copytree(before.run_dir, after.run_dir)
    after.ip(f"link add cl0 type veth peer name gw0 netns {gw.name}")
    after.ip("addr add 192.168.50.2/24 dev cl0")
    after.ip("link set cl0 up")
    gw.ip("addr add 192.168.50.1/24 dev gw0")
    gw.ip("link set gw0 up")
    after.ip("route add default via 192.168.50.1 dev cl0")
    world.wait_until(lambda: after.run(["ping", "-c1", "-W1", OUTSIDE], check=False).returncode == 0, 30, "the uplink")
    return Booted(after, f"00000000-0000-4000-8000-{number:012}")


def in_clear(gw: Host, number: int) -> Callable[[], str]:
    """What is for OUTSIDE on the wire of the uplink from now on."""
    gw.start(["tcpdump", "-ni", "gw0", "-l", "--immediate-mode", "host", OUTSIDE], log=f"wire{number}")
    text = (gw.dir / f"wire{number}").read_text
    world.wait_until(lambda: "listening" in text(), 30, "tcpdump")
    return lambda: text().partition("listening")[2]


def engine(ends: Ends, script: str) -> None:
    """The command that is the tunnel's engine."""
    ends.cl.write("engine", f"#!/bin/sh\n{script}\n", 0o755)


ENGINE = 'exec wireguard-go -f "$1"'


def tunnel(ends: Ends, allowed: str, more: str = "") -> str:
    command = f'userspace_command = ["{ends.cl.dir / "engine"}", "{{interface}}"]\nbackend = "userspace"'
    return desired(ends, allowed, more).replace("[tunnels.full.wireguard]", f"[tunnels.full.wireguard]\n{command}", 1)


@pytest.mark.bound(240)
@pytest.mark.parametrize("hints", [False, True], ids=["run directory lost", "run directory of before"])
@pytest.mark.parametrize(("allowed", "more"), [(FULL, ""), ('"8.8.8.0/24"', 'on_failure = "block"')], ids=["full", "split"])
def test_one_that_worked_blocks_until_it_works_again(ends: Ends, hosts: Make, allowed: str, more: str, hints: bool) -> None:
    worked(ends, allowed, more)
    machine = reboot(ends.cl, ends.gw, hosts, 2, hints=hints)
    machine.tunctl("status", "full", expect=2)
    machine.tunctl("reconcile", expect=None)
    wire = in_clear(ends.gw, 2)
    for command in ((), ("reconcile",)):
        if command:
            machine.tunctl(*command, expect=None)
        assert is_unreachable(machine.host, OUTSIDE)
        done = machine.host.run(["ping", "-c1", "-W2", OUTSIDE], check=False)
        assert "nreachable" in done.stdout + done.stderr or "No route to host" in done.stdout + done.stderr
        assert way(machine.host, "192.168.50.1") == "cl0"
    status = machine.tunctl("status", "full", expect=None)
    assert status.returncode in (2, 3)
    engine(ends, ENGINE)
    machine.tunctl("reconcile")
    again = Ends(machine.host, ends.gw, ends.server_key)
    can_reach(again, OUTSIDE)
    assert way(machine.host, OUTSIDE) == "wg-full"
    assert f"> {OUTSIDE}" not in wire()
    machine.tunctl("down", "full")
    assert way(machine.host, OUTSIDE) == "cl0"
    engine(ends, "exit 7")
    held = reboot(machine.host, ends.gw, hosts, 3, hints=hints)
    held.tunctl("reconcile")
    assert way(held.host, OUTSIDE) == "cl0"  # a user's "stay down" outlives it, too


def worked(ends: Ends, allowed: str = FULL, more: str = "") -> None:
    """The tunnel has worked, and its engine will not start again."""
    engine(ends, ENGINE)
    ends.cl.tunctl("apply", ends.cl.write("d.toml", tunnel(ends, allowed, more)))
    can_reach(ends, OUTSIDE)
    engine(ends, "exit 7")


@pytest.mark.bound(240)
@pytest.mark.parametrize(("allowed", "more"), [(FULL, ""), ('"8.8.8.0/24"', 'on_failure = "block"')], ids=["full", "split"])
def test_it_blocks_from_the_first_moment_of_the_pass(ends: Ends, hosts: Make, allowed: str, more: str) -> None:
    """While the engine is waited for. The LAN, and who came in by the uplink, are not cut off."""
    worked(ends, allowed, more)
    engine(ends, f"while [ ! -e {ends.cl.dir}/go ]; do sleep 0.05; done; exit 7")
    machine = reboot(ends.cl, ends.gw, hosts, 2, hints=False)
    begun = machine.host.start(machine.argv("reconcile"))
    world.wait_until(lambda: is_unreachable(machine.host, OUTSIDE), 20, "it blocks")
    assert begun.poll() is None
    assert way(machine.host, "192.168.50.1") == "cl0"
    assert way(machine.host, OUTSIDE, "from", "192.168.50.2") == "cl0"
    ends.cl.write("go", "")
    begun.wait(30)
    assert is_unreachable(machine.host, OUTSIDE)


@pytest.mark.bound(240)
def test_it_blocks_before_the_daemon_is_ready(ends: Ends, hosts: Make) -> None:
    """Its engine gets a pass of its own, so that nobody else waits for it. What blocks does not wait for that pass."""
    other = '[tunnels.other]\ndriver = "tun"\naddresses = ["10.66.0.1/24"]\n'
    engine(ends, ENGINE)
    ends.cl.tunctl("apply", ends.cl.write("d.toml", tunnel(ends, FULL) + other))
    can_reach(ends, OUTSIDE)
    engine(ends, f"while [ ! -e {ends.cl.dir}/go ]; do sleep 0.05; done; exit 7")
    machine = reboot(ends.cl, ends.gw, hosts, 2, hints=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(os.fspath(machine.host.dir / "notify"))
        notified.settimeout(30)
        machine.host.env["NOTIFY_SOCKET"] = os.fspath(machine.host.dir / "notify")
        daemon = machine.host.start(machine.argv("daemon"), log="daemon.log")
        while b"READY=1" not in notified.recv(4096):
            pass
    assert is_unreachable(machine.host, OUTSIDE)
    steps = re.findall(r"[+] (route unreachable|rule|link other)", (machine.host.dir / "daemon.log").read_text())
    assert [*dict.fromkeys(steps)] == ["route unreachable", "rule", "link other"]
    ends.cl.write("go", "")
    daemon.terminate()
    assert daemon.wait(20) == 0


@pytest.mark.bound(240)
@pytest.mark.parametrize(("attempts", "state"), [(1, "failed"), (0, "waiting")])
def test_one_that_is_not_tried_now_blocks_all_the_same(ends: Ends, hosts: Make, attempts: int, state: str) -> None:
    restart = f'[tunnels.full.restart]\nattempts = {attempts}\nbase = "10m"\nmax = "10m"\n'
    engine(ends, ENGINE)
    ends.cl.tunctl("apply", ends.cl.write("d.toml", tunnel(ends, FULL) + restart))
    can_reach(ends, OUTSIDE)
    engine(ends, "exit 7")
    first = reboot(ends.cl, ends.gw, hosts, 2, hints=False)
    for _ in range(2):
        first.tunctl("reconcile", expect=None)
    shown = json.loads(first.tunctl("status", "full", "--json", expect=None).stdout)["tunnels"][0]
    assert shown["state"] == state, shown
    second = reboot(first.host, ends.gw, hosts, 3, hints=False)
    daemon = second.host.start(second.argv("daemon"), log="daemon.log")
    world.wait_until(lambda: is_unreachable(second.host, OUTSIDE), 20, "it blocks")
    assert "link wg-full" not in (second.host.dir / "daemon.log").read_text()
    second.host.ip("route flush table all proto 115")
    world.wait_until(lambda: is_unreachable(second.host, OUTSIDE), 20, "and again")
    daemon.terminate()
    assert daemon.wait(20) == 0


@pytest.mark.bound(240)
def test_it_blocks_before_there_is_an_uplink(ends: Ends, hosts: Make) -> None:
    """The first pass comes before the network does. What the network brings then does not go beside the tunnel."""
    worked(ends)
    machine = reboot(ends.cl, ends.gw, hosts, 2, hints=False)
    machine.host.ip("route del default")
    machine.tunctl("reconcile", expect=None)
    machine.host.ip("route add default via 192.168.50.1 dev cl0")
    assert is_unreachable(machine.host, OUTSIDE)
    assert way(machine.host, "192.168.50.1") == "cl0"
    engine(ends, ENGINE)
    machine.tunctl("reconcile")
    can_reach(Ends(machine.host, ends.gw, ends.server_key), OUTSIDE)


@pytest.mark.bound(240)
@pytest.mark.parametrize(("allowed", "more"), [(FULL, ""), ('"8.8.8.0/24"', 'on_failure = "block"')], ids=["full", "split"])
def test_it_blocks_though_a_foreign_device_has_its_name(ends: Ends, hosts: Make, allowed: str, more: str) -> None:
    worked(ends, allowed, more)
    machine = reboot(ends.cl, ends.gw, hosts, 2, hints=False)
    machine.host.ip("link add wg-full type bridge")
    machine.tunctl("reconcile", expect=73)
    assert is_unreachable(machine.host, OUTSIDE)
    machine.tunctl("down", "full")
    assert way(machine.host, OUTSIDE) == "cl0"


def test_one_that_never_worked_blocks_nothing(ends: Ends, hosts: Make) -> None:
    engine(ends, "exit 7")
    ends.cl.tunctl("apply", ends.cl.write("d.toml", tunnel(ends, FULL)), expect=1)
    machine = reboot(ends.cl, ends.gw, hosts, 2, hints=False)
    before = machine.host.snapshot()
    machine.tunctl("reconcile", expect=1)
    assert way(machine.host, OUTSIDE) == "cl0"
    assert machine.host.snapshot() == before
