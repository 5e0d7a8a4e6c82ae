"""Faults of the kernel's side under a daemon: what others flush and move, looks that fail, events that are lost."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import threading
import time

import pytest

from tests.netns.engines import kill
from tests.netns.faults import cases, marked, state, tun_block, tun_file
from tests.netns.site import Site
from tests.netns.test_control import kept, request
from tests.netns.test_control_noise import connected
from tests.netns.test_daemon import SOON_S, Keeper, is_back, keepers, tunctl, tunnel
from tests.netns.test_daemon import exec_file as exec_blocks
from tests.netns.test_daemon_storms import foreign_link, storm
from tests.netns.test_forward import DOCKER, wall
from tests.netns.test_scenarios_daemon import FAR, SELDOM, family, full, way
from tests.netns.test_scenarios_network import FLUSHES, accepts, up, works
from tests.netns.warm import Warm
from tests.netns.whole import whole
from tests.netns.world import Host, Hosts, Uplink, wait_until

__all__ = ["full", "keepers", "tunctl", "whole"]
pytestmark = pytest.mark.bound(120)


def test_defaults_that_come_and_go(full: tuple[Uplink, Warm], keepers: list[Keeper]) -> None:
    """F24: the best default that is no tunnel's carries the endpoint; with none that the kernel could use, the last one."""
    (cl, gw), tunctl = full
    cl.ip(f"link add cl1 type veth peer name gw1 netns {gw.name}")
    for host, end, address in ((cl, "cl1", "198.51.100.2/24"), (gw, "gw1", "198.51.100.1/24")):
        host.ip(f"addr add {address} dev {end}")
        host.ip(f"link set {end} up")
    cl.ip("tuntap add tun1 mode tun")
    cl.ip("addr add 10.99.0.2/24 dev tun1")
    cl.ip("link set tun1 up")
    keepers.append(Keeper(cl, tunctl))
    for words, by in (
        ("route add default via 198.51.100.1 dev cl1 metric 10", "cl0"),
        ("route replace default via 192.168.50.1 dev cl0 metric 100", "cl0"),
        ("route del default via 192.168.50.1 dev cl0 metric 0", "cl1"),
        ("route add default dev tun1 metric 1", "cl1"),
        ("route del default via 198.51.100.1 dev cl1", "cl0"),
        ("route del default via 192.168.50.1 dev cl0", "cl0"),
        ("route add default via 198.51.100.1 dev cl1 metric 10", "cl1"),
    ):
        cl.ip(words)
        wait_until(lambda: f"dev {by} " in way(cl, FAR), SOON_S, lambda: f"{words}: {way(cl, FAR)}\n{keepers[0].said}")  # noqa: B023
        assert "tun-prog" in way(cl, "8.8.8.8")
    assert keepers[0].end() == 0


def test_what_others_flush(whole: Site) -> None:
    """F30: rebuilt exactly once by a daemon, behind a wall like Docker's; nothing is doubled, and then it is silent."""
    cl = whole.cl
    wall(cl, "iptables-legacy", DOCKER)
    up(whole)
    before, rules = cl.snapshot(), accepts(cl)
    daemon = cl.start(cl.tunctl_argv("daemon"), log="daemon.log")
    said = (cl.dir / "daemon.log").read_text
    wait_until((cl.run_dir / "control.sock").exists, SOON_S, said)
    for what in ("routes", "tables", "rules", "nft", "jumps", "all of it"):
        cl.run(["sh", "-c", FLUSHES[what]])
        wait_until(lambda: cl.snapshot() == before and len(accepts(cl)) == len(rules), SOON_S, lambda: f"{what}\n{said()}")  # noqa: B023
        assert len(set(accepts(cl))) == len(rules), what
    wait_until(lambda: works(whole), SOON_S, said)
    assert cl.tunctl("reconcile").stdout.startswith("no changes\n")
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0, said()
    assert "Traceback" not in said()


def test_blind_to_the_processes_of_other_users(host: Host, keepers: list[Keeper]) -> None:
    """F53: a daemon that may not look into a user's processes starts nothing twice, ends nothing, and calls nothing gone."""
    with cases(host, "tunctl") as case:
        text = case.file.read_text().replace('device = "tunctl"', 'device = "tunctl", user = "nobody"')
        case.tunctl.run("apply", host.write("demo.toml", text))
        owners, wanted = marked(host), state(host)
        assert len(owners) == 1
        case.handles.unlink()
        blind = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]
        *mounts, python, minus, module, command = case.tunctl.cold_argv("daemon")
        daemon = host.start([*mounts, *blind, python, minus, module, command], log="blind.log")
        said = (host.dir / "blind.log").read_text
        wait_until((host.run_dir / "control.sock").exists, SOON_S, said)
        for words in ("route flush proto 115 table all", "addr flush dev tun-demo", "link set tun-demo down"):
            host.ip(words)
            wait_until(lambda: state(host) == wanted, SOON_S, lambda: f"{words}\n{said()}")  # noqa: B023
        assert marked(host) == owners
        assert "owner" not in said(), said()
        assert tunnel(case.tunctl, "demo")["verdict"] == "connected"
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0, said()


def test_no_descriptors_are_left(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F53: passes cannot open a socket: that is said, and no fact; nothing is removed; once they can, what is missing comes."""
    tunctl.run("apply", tun_file(host, "demo", "other"))
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    usual = resource.prlimit(keeper.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(keeper.process.pid, resource.RLIMIT_NOFILE, (8, usual[1]))
    wait_until(lambda: not [kill(pid) for pid in family(keeper)[1:]], SOON_S, "those that were there before are gone")
    host.ip("route del 10.9.128.0/20 dev tun-demo")
    broken = state(host)
    wait_until(lambda: "Too many open files" in keeper.said, SOON_S, lambda: keeper.said)
    waits = connected(host)
    waits.sendall(request(host, "reconcile"))
    assert state(host) == broken
    assert tunnel(tunctl, "demo")["verdict"] == "degraded"
    resource.prlimit(keeper.process.pid, resource.RLIMIT_NOFILE, usual)
    is_back(host, wanted, "the route", keeper)
    with waits, waits.makefile("rb") as lines:
        assert b'"exit_code": 0' in lines.read(), "who came meanwhile is served"


def test_lists_that_are_interrupted(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F54: links and rules of others come and go all the time; no pass of the daemon takes that for a reason to do anything."""
    tunctl.run("apply", tun_file(host, *(f"n{number}" for number in range(6))))
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    stop, chance = threading.Event(), random.Random(54)

    def churn() -> None:
        while not stop.is_set():
            number = chance.randrange(50)
            for line in (f"link add d{number} type veth peer name p{number}", f"link set d{number} up", f"link del d{number}",
                         f"rule add priority {100 + number} lookup 99", f"rule del priority {100 + number}"):  # fmt: skip
                host.ip(line, check=False)

    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            keeper.process.send_signal(signal.SIGHUP)
            time.sleep(0.1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert state(host) == wanted
    assert keeper.said == ""


def test_events_that_are_lost(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F54: the daemon is stopped while more happens than its socket can hold: it looks at everything."""
    tunctl.run("apply", exec_blocks(host, SELDOM, tun_block("demo")))
    foreign_link(host, "other")
    wanted, keeper = state(host), kept(host, tunctl, keepers)
    os.kill(keeper.process.pid, signal.SIGSTOP)
    host.run(["ip", "-batch", str(storm(host))], timeout=60)
    host.ip("route del 10.9.128.0/20 dev tun-demo")
    time.sleep(0.1)
    os.kill(keeper.process.pid, signal.SIGCONT)
    is_back(host, wanted, "the route", keeper)


def test_the_namespace_is_deleted_under_it(host: Host) -> None:
    """F62: its name goes; the daemon lives in it, repairs, obeys and ends. (That the name is gone is what the helper says.)"""
    with pytest.raises(AssertionError, match="of this test is gone"), Hosts() as made:
        there = made.new("there")
        there.tunctl("apply", tun_file(there, "demo"))
        daemon = there.start(there.tunctl_argv("daemon"), log="daemon.log")
        said = (there.dir / "daemon.log").read_text
        wait_until((there.run_dir / "control.sock").exists, SOON_S, said)
        subprocess.run(["ip", "netns", "del", there.name], check=True, timeout=10)

        def inside(*argv: str) -> subprocess.CompletedProcess[str]:
            whole = ["nsenter", "-t", str(daemon.pid), "-n", "-m", *argv]
            return subprocess.run(whole, env=there.env, cwd=there.dir, capture_output=True, text=True, check=False, timeout=60)

        inside("ip", "link", "del", "tun-demo")
        wait_until(lambda: "10.9.128.0/20" in inside("ip", "route").stdout, SOON_S, said)
        assert inside(*there.tunctl_argv("down", "demo")).returncode == 0
        assert "tun-demo" not in inside("ip", "link").stdout
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0, said()
