"""Faults of programs: dead, deaf, stopped, stuck in the kernel, gone right after their start, killed under traffic."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.netns.engines import PROGRAMS, kill
from tests.netns.faults import PYTHON, assert_clean, cases, control_groups, everything, exec_file, marked, state
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

# Stops a process at its very end (linux/ptrace.h): it survives SIGKILL for as long as its tracer wants, as one in
# uninterruptible sleep does. That sleep itself cannot be made without a broken disk.
_TRACER = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, TRACEEXIT = 0x4206, 0x40
if libc.ptrace(SEIZE, int(sys.argv[1]), None, TRACEEXIT):
    sys.exit(os.strerror(ctypes.get_errno()))
print("traced", flush=True)
while True:
    time.sleep(60)
"""


def _pid(host: Host) -> int:
    (owner,) = marked(host)
    return int(owner.split()[-1])


def test_a_client_that_was_killed_is_stale_and_is_repaired(host: Host) -> None:
    with cases(host, "program") as case:
        host.ip("route add blackhole 10.9.66.0/24 proto 115")  # as a residue that has no device
        kill(_pid(host))
        wait_until(lambda: not marked(host))
        left = state(host)
        (tunnel,) = case.tunctl.json("status", "demo", expect=2)["tunnels"]
        assert tunnel["verdict"] == "stale"
        assert "tun-demo: interface no longer present" in tunnel["reasons"]
        assert state(host) == left, "status changes nothing"
        case.tunctl.run("reconcile")
        assert state(host) == case.wanted
        kill(_pid(host))
        case.tunctl.run("down", "demo")
        assert_clean(host, case.before)


def test_what_is_left_of_a_killed_client_is_listed(host: Host) -> None:
    more = "table = 300"
    with cases(host, "program", more=more) as case:
        text = case.file.read_text() + "[[tunnels.demo.routes]]\nto = '10.9.66.0/24'\ntype = 'blackhole'\n"
        case.file.write_text(text)
        case.tunctl.run("apply", case.file)
        host.run(["ip", "link", "del", "tun-demo"])
        kill(_pid(host))
        text = host.write("less.toml", text.replace('from = "10.9.5.0/24"', 'from = "10.9.6.0/24"'))
        case.tunctl.run("apply", text, env={"TUNCTL_FAULT": "kill-at:stored"}, expect=None)
        (tunnel,) = case.tunctl.json("status", "demo", expect=2)["tunnels"]
        assert any("left over: rule" in reason and "10.9.5.0/24" in reason for reason in tunnel["reasons"]), tunnel["reasons"]


@pytest.mark.parametrize("word", ["stubborn", "family"])
@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_a_program_that_ignores_sigterm(host: Host, word: str, device: str) -> None:
    with cases(host, device, words=(word,)) as case:
        begun = time.monotonic()
        case.tunctl.run("down", "demo")
        assert time.monotonic() - begun < 10
        assert_clean(host, case.before)


@pytest.mark.parametrize("word", ["quiet", "stubborn"])
def test_a_stopped_program(host: Host, word: str) -> None:
    with cases(host, "tunctl", words=(word,)) as case:
        os.kill(_pid(host), signal.SIGSTOP)
        status = case.tunctl.run("status", "demo", timeout=5)
        assert status.returncode == 0, status
        assert "no changes" in case.tunctl.run("reconcile", timeout=5).stdout
        case.tunctl.run("down", "demo")
        assert_clean(host, case.before)


def test_a_program_that_survives_sigkill(host: Host) -> None:
    with cases(host, "tunctl") as case:
        pid = _pid(host)
        tracer = host.start([sys.executable, "-c", _TRACER, str(pid)], log="tracer.log")
        wait_until(lambda: (host.dir / "tracer.log").read_text() == "traced\n")
        done = case.tunctl.run("down", "demo", expect=None)
        assert done.returncode == 1, done
        assert f"pid {pid}" in done.stderr
        assert "survives SIGKILL" in done.stderr
        assert "tun-demo" not in host.ip("link"), "the network is taken down all the same"
        assert "proto 115" not in host.ip("route show table all")
        assert case.tunctl.run("status", "demo", expect=None, timeout=5).returncode in (1, 3)
        again = case.tunctl.run("down", "demo", expect=None)
        assert again.returncode == 1, again
        host.kill(tracer)
        wait_until(lambda: not Path(f"/proc/{pid}/fd").exists() or not marked(host))
        case.tunctl.run("down", "demo")
        assert_clean(host, case.before)


@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_a_program_that_dies_right_after_it_was_ready(host: Host, device: str) -> None:
    with Warm(host) as tunctl:
        before = state(host)
        done = tunctl.run("apply", exec_file(host, device, words=("die",)), expect=1)
        assert "dying" in done.stderr, "its last words"
        assert "7" in done.stderr
        assert (state(host), marked(host)) == (before, [])
        assert tunctl.run("status", "demo", expect=1)
        tunctl.run("apply", exec_file(host, device))
        assert tunctl.json("status", "demo")["tunnels"][0]["verdict"] == "connected"


def test_the_death_of_an_old_engine_takes_nothing_of_the_new_one(host: Host) -> None:
    """The socket of the new wireguard-go stays, though the old one removes its own when it ends."""
    with Warm(host) as tunctl:
        file = everything(host)
        tunctl.run("apply", file)
        old = [line for line in marked(host) if line.startswith("wg ")]
        text = file.read_text().replace(
            'backend = "userspace"',
            'backend = "userspace"\nuserspace_command = ["/usr/bin/env", "wireguard-go", "-f", "{interface}"]',
        )
        tunctl.run("apply", host.write("env.toml", text))
        new = [line for line in marked(host) if line.startswith("wg ")]
        assert len(new) == 1
        assert new != old
        assert "no changes" in tunctl.run("reconcile").stdout
        (tunnel,) = tunctl.json("status", "wg")["tunnels"]
        assert (tunnel["verdict"], len(tunnel["peers"])) == ("connected", 2)


def test_a_killed_program_leaves_a_persistent_device_that_its_successor_takes(host: Host) -> None:
    with cases(host, "tunctl") as case:
        (link,) = host.ip_json("link show dev tun-demo")
        kill(_pid(host))
        wait_until(lambda: "NO-CARRIER" in host.ip("link show dev tun-demo"))
        (tunnel,) = case.tunctl.json("status", "demo", expect=3)["tunnels"]
        assert tunnel["verdict"] == "degraded"
        assert {"owner not running"} <= set(tunnel["reasons"]), tunnel["reasons"]
        done = case.tunctl.run("reconcile")
        assert [line[:7] for line in done.stdout.splitlines()] == ["+ owner"]
        assert host.ip_json("link show dev tun-demo")[0]["ifindex"] == link["ifindex"]
        assert state(host) == case.wanted


def test_a_tun_that_nobody_has_open_is_degraded_until_somebody_has(host: Host) -> None:
    with Warm(host) as tunctl:
        tunctl.run(
            "apply",
            host.write(
                "d.toml", "version = 1\n[tunnels.demo]\ndriver = 'tun'\ninterface = 'tun-demo'\naddresses = ['10.9.0.2/24']\n"
            ),
        )
        assert tunctl.json("status", "demo", expect=3)["tunnels"][0]["reasons"] == ["no process attached"]
        holder = host.start([sys.executable, PROGRAMS / "holder.py", "tun-demo"])
        wait_until(lambda: "LOWER_UP" in host.ip("link show dev tun-demo"))
        tunctl.run("status", "demo", expect=0)
        host.kill(holder)
        wait_until(lambda: "LOWER_UP" not in host.ip("link show dev tun-demo"))
        tunctl.run("status", "demo", expect=3)
        assert "no changes" in tunctl.run("reconcile").stdout
        tunctl.run("down", "demo")
        assert "tun-demo" not in host.ip("link")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pump_file(host: Host, device: str) -> Path:
    for name in ("pump.py", "tun_device.py"):
        host.write(name, (PROGRAMS / name).read_text())
    return exec_file(host, device, command=f'"{PYTHON}", "{host.dir}/pump.py"', words=("127.0.0.1:7001", "127.0.0.1:7002"))


@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_a_pump_whose_device_is_deleted_ends_and_spins_never(host: Host, device: str) -> None:
    with Warm(host) as tunctl:
        tunctl.run("apply", _pump_file(host, device))
        pid = _pid(host)
        with host.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind(("127.0.0.1", 7002))  # the peer: its packets are written to the TUN
            host.ip("link set tun-demo down")
            begun = time.monotonic(), _cpu_s(pid)
            for _ in range(20):  # no IP packets, and a device that is down: EIO and EINVAL for the pump
                with contextlib.suppress(OSError):
                    sender.sendto(b"junk", ("127.0.0.1", 7001))
                time.sleep(0.02)
            if Path(f"/proc/{pid}").exists():
                share = (_cpu_s(pid) - begun[1]) / (time.monotonic() - begun[0])
                assert share < 0.2, "it spins"
        tunctl.run("reconcile")
        tunctl.run("status", "demo", expect=0)
        pid = _pid(host)
        host.ip("link del tun-demo")
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or not marked(host), 30, "the pump ends")
        tunctl.run("status", "demo", expect=2)
        tunctl.run("reconcile")
        tunctl.run("status", "demo", expect=0)


def test_the_group_of_a_program_that_never_ran(host: Host) -> None:
    """Killed between the making of the control group and the start: nobody is in it, and it goes all the same."""
    with cases(host, "tunctl") as case:
        groups = [Path(path) for path in control_groups(host)]
        assert len(groups) <= 1, "none on machines without control groups"
        case.tunctl.run("down", "demo")
        for group in groups:
            group.mkdir()
        case.tunctl.run("down", "demo")
        assert_clean(host, case.before)
