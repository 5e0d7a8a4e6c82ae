"""A daemon under what does not stop: floods of events, its own processes hanging or dying, a resolver that never answers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.netns.faults import state, tun_block, tun_file
from tests.netns.test_daemon import SOON_S, Keeper, exec_block, exec_file, is_back, keepers, pid_of, tunnel
from tests.netns.test_scenarios_daemon import SELDOM, family, keep, send
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers"]
pytestmark = pytest.mark.bound(120)
FOREIGN = 10_000  # routes that come and go: twice as many events
ENDS_WITHIN_S = 10.0  # guarantee 7


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as tunctl:
        yield tunctl


def memory_kb(pid: int) -> int:
    """What only this process has, and its share of what it shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))


def foreign_link(host: Host, name: str) -> None:
    """One of somebody else's, with nobody behind it."""
    host.ip(f"link add {name} type veth peer name {name}-end")
    for end in (name, f"{name}-end"):
        host.ip(f"link set {end} up")


def seconds_to_end(keeper: Keeper) -> float:
    begun = time.monotonic()
    assert keeper.end(within_s=40) == 0, keeper.said
    return time.monotonic() - begun


def content(file: Path) -> str:
    """Of one that is put aside and written anew at any moment."""
    with suppress(FileNotFoundError):
        return file.read_text()
    return ""


def storm(host: Host) -> Path:
    """A batch that makes and removes so many routes of somebody else's."""
    places = [f"10.{200 + n // 65536}.{n // 256 % 256}.{n % 256}/32 dev other" for n in range(FOREIGN)]
    return host.write("storm.batch", "".join(f"route {verb} {at}\n" for verb in ("add", "del") for at in places))


def test_a_storm_of_foreign_routes(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """20 000 events: what is broken meanwhile is repaired, memory does not grow with them, and SIGTERM is heard."""
    tunctl.run("apply", exec_file(host, SELDOM, exec_block("prog"), tun_block("demo")))
    foreign_link(host, "other")
    wanted, keeper, batch = state(host), keep(host, tunctl, keepers), storm(host)
    host.run(["ip", "-batch", str(batch)], timeout=60)
    before_kb = memory_kb(keeper.process.pid)
    for what in (
        "route del 10.9.128.0/20 dev tun-demo",
        "addr del 10.9.0.2/32 dev tun-demo",
        "route flush proto 115 table all",
    ):
        blowing = host.start(["ip", "-batch", str(batch)], log="storm.log")
        host.ip(what)
        assert blowing.wait(60) == 0
        is_back(host, wanted, what, keeper)
    assert memory_kb(keeper.process.pid) < before_kb + 8 * 1024, "60 000 events more"
    blowing = host.start(["sh", "-c", f"while ip -batch {batch}; do :; done"], log="storm.log")
    try:
        time.sleep(0.3)
        assert seconds_to_end(keeper) < ENDS_WITHIN_S
    finally:
        host.kill(blowing)
    wait_until(lambda: state(host) == wanted, SOON_S, "the storm is over, and the tunnels are as they were")


def test_it_ends_though_no_name_server_answers(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """A pass that looks a name up waits for the resolver; the daemon does not wait for it."""
    block = exec_block("prog").replace("ready_timeout", 'remote = ["vpn.example.net"], ready_timeout')
    tunctl.run("apply", exec_file(host, SELDOM, block), expect=None)
    foreign_link(host, "far")
    host.ip("addr add 192.0.2.1/24 dev far")
    host.ip("neigh add 192.0.2.53 lladdr 02:00:00:00:00:53 dev far nud permanent")
    host.write_etc("resolv.conf", "nameserver 192.0.2.53\noptions timeout:30 attempts:5\n")
    keeper = keep(host, tunctl, keepers)
    keeper.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert seconds_to_end(keeper) < ENDS_WITHIN_S


def test_an_idle_one_ends_at_once(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    tunctl.run("apply", tun_file(host, "demo"))
    took = []
    for _ in range(3):
        keeper = keep(host, tunctl, keepers)
        took.append(seconds_to_end(keeper))
    assert min(took) < 2, "the best of three, on a machine that has other work"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_the_process_that_rests_dies(host: Host, tunctl: Warm, keepers: list[Keeper], number: signal.Signals) -> None:
    """At any moment, also in the middle of a pass: another one takes its place, and repairs."""
    tunctl.run("apply", tun_file(host, "demo", "other"))
    wanted, keeper = state(host), keep(host, tunctl, keepers)
    for pause_s in (0.0, 0.004, 0.01, 0.02):
        host.ip("link del tun-demo")
        time.sleep(pause_s)
        for pid in family(keeper)[1:]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        is_back(host, wanted, "the link", keeper)
    assert "a pass was killed" in keeper.said
    assert keeper.process.poll() is None


def test_the_process_that_rests_is_stopped(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F13: what it should do waits; the daemon ends all the same, and so does a user's command begin."""
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = keep(host, tunctl, keepers)
    stopped = family(keeper)[1:]
    send(stopped, signal.SIGSTOP)
    host.ip("link del tun-demo")
    time.sleep(0.3)
    assert tunnel(tunctl, "demo")["verdict"] == "stale"
    tunctl.run("up", "demo")
    assert "tun-demo" in host.ip("link")
    assert seconds_to_end(keeper) < ENDS_WITHIN_S
    assert not [pid for pid in stopped if Path(f"/proc/{pid}").exists() and pid in host.pids()]


def test_the_recorded_pid_is_another_one(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F3, S70: hints are damaged, of another boot or wrong while it works: nothing is started, stopped or reported for it."""
    tunctl.run("apply", exec_file(host, SELDOM, exec_block("prog")))
    keeper, pid = keep(host, tunctl, keepers), pid_of(tunctl, "prog")
    file = host.run_dir / "tunnels/prog/handles.json"
    good = file.read_text()
    sleeper = host.start(["sleep", "60"], log="sleep.log")
    damages = (good.replace(str(pid), str(sleeper.pid)), good.replace('"boot_id": "', '"boot_id": "0'), "{", "")
    for damage in damages:
        file.write_text(damage)
        keeper.process.send_signal(signal.SIGHUP)
        wait_until(lambda: content(file) == good, SOON_S, "it is written anew")
        assert pid_of(tunctl, "prog") == pid
        assert tunnel(tunctl, "prog")["verdict"] == "connected"
    assert sleeper.poll() is None
    assert "+ owner" not in keeper.said
    assert "- owner" not in keeper.said


def test_the_log_of_a_program_is_bounded(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S79: a program that talks for ever, in no language at all, while nobody runs a command."""
    tunctl.run("apply", exec_file(host, SELDOM, exec_block("prog")))
    keeper = keep(host, tunctl, keepers)
    log = host.run_dir / "tunnels/prog/owner.log"
    with log.open("ab") as file:
        file.write(b"\xff\xfe no text\n" * 800_000)
    assert log.stat().st_size > 8 << 20
    keeper.process.send_signal(signal.SIGHUP)
    wait_until(lambda: log.stat().st_size <= 1 << 20, SOON_S, "the front of it is cut off")


def test_a_tunnel_of_somebody_else_comes(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S76: it is listed, and nothing is done about it."""
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = keep(host, tunctl, keepers)
    host.ip("tuntap add theirs mode tun")
    host.ip("addr add 100.64.0.1/10 dev theirs")
    host.ip("link set theirs up")
    theirs = host.ip("addr show dev theirs")
    time.sleep(1)
    assert [one["interface"] for one in tunctl.json("status", expect=None)["unmanaged"]] == ["theirs"]
    host.ip("link del tun-demo")
    wait_until(lambda: "tun-demo" in host.ip("link"), SOON_S, lambda: keeper.said)
    assert host.ip("addr show dev theirs") == theirs
    assert "theirs" not in keeper.said
