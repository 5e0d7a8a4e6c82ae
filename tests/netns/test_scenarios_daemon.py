"""Scenarios of the host as they go with a daemon at work: nobody runs `reconcile` here, and its interval is an hour."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.netns import layers, names
from tests.netns.faults import assert_clean, everything, marked, state, tun_file
from tests.netns.names import ORIGINAL, resolv_conf
from tests.netns.scenario import desired
from tests.netns.test_daemon import SOON_S, Keeper, exec_block, exec_file, keepers, pid_of, tunnel
from tests.netns.warm import Warm
from tests.netns.world import Host, Uplink, wait_until

__all__ = ["keepers"]
pytestmark = pytest.mark.bound(240)
SELDOM = '[host]\nreconcile_interval = "1h"\n'
FAR = "203.0.113.10"


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as tunctl:
        yield tunctl


def keep(host: Host, tunctl: Warm, keepers: list[Keeper], *words: str) -> Keeper:
    keepers.append(Keeper(host, tunctl, *words))
    wait_until((host.run_dir / "control.sock").exists, SOON_S)
    time.sleep(0.5)
    return keepers[-1]


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def family(keeper: Keeper) -> list[int]:
    """The daemon and its passes."""
    pid = keeper.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def test_status_waits_for_nothing_that_is_stopped(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S8: the daemon, the process that rests, and every program of a tunnel."""
    tunctl.run("apply", everything(host))
    keeper = keep(host, tunctl, keepers)

    def seconds() -> float:
        begun = time.monotonic()
        tunctl.run("status", expect=None)
        return time.monotonic() - begun

    usual = max(seconds() for _ in range(3))
    stopped = [*family(keeper), *(int(line.split()[-1]) for line in marked(host))]
    send(stopped, signal.SIGSTOP)
    try:
        assert seconds() < usual + 1
        assert tunnel(tunctl, "plain")["verdict"] == "degraded", "nobody has opened it"
    finally:
        send(stopped, signal.SIGCONT)


def test_a_second_apply_through_the_daemon_does_nothing(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S13: no message of the kernel, and no change of the store."""
    file = everything(host)
    tunctl.run("apply", file)
    keep(host, tunctl, keepers)
    store = host.state_dir / "intent.db"
    written = store.stat().st_mtime_ns
    with host.recording() as events:
        done = tunctl.run("apply", file, "--take-over")
    assert done.stdout == "no changes\n"
    assert events == []
    assert store.stat().st_mtime_ns == written


def test_quiet_passes_write_nothing(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S72: passes of the daemon, asked for by SIGHUP."""
    tunctl.run("apply", everything(host))
    keeper = keep(host, tunctl, keepers)
    store = host.state_dir / "intent.db"
    written, said = store.stat().st_mtime_ns, keeper.said
    with host.recording() as events:
        for _ in range(5):
            keeper.process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
    assert events == []
    assert (store.stat().st_mtime_ns, keeper.said) == (written, said)


def test_a_killed_daemon_is_not_missed(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S69, F2: the tunnel stays, the next daemon takes it as it is."""
    tunctl.run("apply", exec_file(host, SELDOM, exec_block("prog")))
    first = Keeper(host, tunctl)
    wanted, pid = state(host), pid_of(tunctl, "prog")
    index = tunnel(tunctl, "prog")["ifindex"]
    passes = family(first)
    first.end(signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{one}").exists() for one in passes[1:]), SOON_S, "its passes go with it")
    assert tunnel(tunctl, "prog")["verdict"] == "connected"
    second = keep(host, tunctl, keepers)
    time.sleep(1)
    assert second.said == ""
    assert (state(host), pid_of(tunctl, "prog"), tunnel(tunctl, "prog")["ifindex"]) == (wanted, pid, index)


def test_told_to_end_while_it_starts(host: Host, tunctl: Warm) -> None:
    """S78: SIGTERM at any moment of its start is obeyed, and nothing is left half done."""
    before = state(host)
    file = everything(host)
    tunctl.run("apply", file)
    wanted = state(host)
    for number in range(20):
        host.ip("link del tun-plain", check=False)
        process = host.start(tunctl.cold_argv("daemon"), log="starting.log")
        time.sleep(0.04 * number)
        process.send_signal(signal.SIGTERM)
        code = process.wait(15)
        assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), (number, code)  # before Python could listen
    assert "Traceback" not in (host.dir / "starting.log").read_text()
    tunctl.run("apply", file)
    assert state(host) == wanted
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_a_pipe_behind_a_command_is_not_kept_open(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S77: nothing that lives on holds the output of `apply`."""
    keep(host, tunctl, keepers)
    file = exec_file(host, exec_block("prog"))
    words = " ".join(map(str, tunctl.cold_argv("apply", file)))
    done = host.run(["sh", "-c", f"{words} 2>&1 | cat"], timeout=60)
    assert "+ owner" in done.stdout
    assert pid_of(tunctl, "prog")


@pytest.mark.parametrize("habit", ["stubborn", "family"])
def test_one_that_does_not_want_to_end(host: Host, tunctl: Warm, keepers: list[Keeper], habit: str) -> None:
    """S66, S68, F12: `down` through the daemon ends all of it, within bounds."""
    before = state(host)
    tunctl.run("apply", exec_file(host, exec_block("prog", habit)))
    keep(host, tunctl, keepers)
    done = tunctl.run("down", "prog", timeout=30)
    assert "SIGKILL" in done.stderr
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_one_that_never_becomes_ready(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S67: what it said last is told to the client; nothing of it is left."""
    before = state(host)
    keep(host, tunctl, keepers)
    file = exec_file(host, exec_block("prog", "never", "talk").replace('"30s"', '"1s"'))
    done = tunctl.run("apply", file, expect=1)
    assert "not ready within 1 s" in done.stderr
    assert "line 39" in done.stderr
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_it_ends_whatever_hangs(host: Host, tunctl: Warm) -> None:
    """F14: a program that is stopped while it is waited for, a log that nobody reads, clients that say nothing."""
    tunctl.run("apply", exec_file(host, exec_block("prog"), exec_block("stuck")))
    tunctl.run("down", "stuck")
    tunctl.run("apply", exec_file(host, exec_block("prog"), exec_block("stuck", "never", "stubborn")), "--keep-holds")
    reading, writing = os.pipe()
    argv = host._inside_argv(tunctl.cold_argv("daemon"))
    process = subprocess.Popen(argv, env=host.env, cwd=host.dir, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    os.set_blocking(writing, False)
    try:
        while os.write(writing, b"." * 4096):
            pass
    except BlockingIOError:
        pass
    host._processes.append(process)
    wait_until((host.run_dir / "control.sock").exists, SOON_S)
    held = tunctl.begin("up", "stuck")
    wait_until(lambda: "stuck" in "".join(marked(host)), SOON_S)
    send([int(line.split()[-1]) for line in marked(host)], signal.SIGSTOP)
    host.ip("link set tun-prog down")
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    assert process.wait(30) == 0
    assert time.monotonic() - begun < 15, "bounds of 3 and 2 s, on a machine that has other work"
    with suppress(ProcessLookupError):  # it was told that the daemon ends
        os.kill(held, signal.SIGKILL)
    tunctl.end()
    os.close(reading)
    os.close(writing)


@pytest.fixture
def full(uplink: Uplink) -> Iterator[tuple[Uplink, Warm]]:
    """A full tunnel of an engine that cannot mark its packets: its endpoint is pinned past it."""
    cl = uplink.cl
    block = exec_block("prog").replace("ready_timeout", f'remote = ["{FAR}"], ready_timeout')
    block += '[[tunnels.prog.routes]]\nto = ["0.0.0.0/0", "192.168.50.0/24"]\n'
    with Warm(cl) as tunctl:
        tunctl.run("apply", exec_file(cl, SELDOM, block))
        yield uplink, tunctl


def way(host: Host, to: str) -> str:
    return host.ip(f"route get {to}", check=False).split("uid")[0]


def test_the_uplink_moves(full: tuple[Uplink, Warm], keepers: list[Keeper]) -> None:
    """S40, F21, F22, F23: another gateway, none, an uplink that flaps: the pin follows, and is never in the tunnel."""
    (cl, gw), tunctl = full
    keepers.append(Keeper(cl, tunctl))
    assert "via 192.168.50.1 dev cl0" in way(cl, FAR)
    gw.ip("addr add 192.168.50.254/24 dev gw0")
    cl.ip("route replace default via 192.168.50.254")
    wait_until(lambda: "via 192.168.50.254 dev cl0" in way(cl, FAR), SOON_S, way(cl, FAR))
    cl.ip("route del default")
    time.sleep(1)
    assert "via 192.168.50.254 dev cl0" in way(cl, FAR), "the last one that was known"
    cl.ip("link set cl0 down")
    wait_until(lambda: "tun-prog" in way(cl, "8.8.8.8"), SOON_S)
    assert "tun-prog" not in cl.ip(f"route get {FAR}", check=False)
    cl.ip("link set cl0 up")
    cl.ip("route add default via 192.168.50.1 dev cl0")
    wait_until(lambda: "via 192.168.50.1 dev cl0" in way(cl, FAR), SOON_S, way(cl, FAR))
    assert keepers[0].end() == 0


def test_the_lan_is_left(full: tuple[Uplink, Warm], keepers: list[Keeper]) -> None:
    """S45: what stayed out because it was local goes into the tunnel once it is not."""
    (cl, _gw), tunctl = full
    keepers.append(Keeper(cl, tunctl))
    assert "dev cl0" in way(cl, "192.168.50.7")
    cl.ip("addr flush dev cl0 scope global")
    cl.ip("addr add 172.20.0.2/24 dev cl0")
    wait_until(lambda: "dev tun-prog" in cl.ip("route get 192.168.50.7", check=False), SOON_S, way(cl, FAR))
    assert keepers[0].end() == 0


def test_name_servers_that_others_write(uplink: Uplink) -> None:
    """S50, F31, S18: put back when the file changes; taken down whole, but for a file that cannot be written, which is owed."""
    root = layers.rooted(names.lab(uplink).cl)
    root.write_root("/etc/resolv.conf", ORIGINAL)
    root.tunctl("apply", root.write("d.toml", desired(names.tunnel(), host=SELDOM)))
    ours = resolv_conf(root)
    daemon = root.start(root.tunctl_argv("daemon"), log="daemon.log")
    said = (root.dir / "daemon.log").read_text
    wait_until(lambda: root.json("status", expect=None)["daemon"]["running"], SOON_S)
    time.sleep(1)
    for _ in range(3):
        root.run(["sh", "-c", "echo nameserver 192.0.2.1 > /etc/new && mv /etc/new /etc/resolv.conf"])
        wait_until(lambda: resolv_conf(root) == ours, SOON_S, said())
    root.run(["chattr", "+i", "/etc/resolv.conf"])
    try:
        done = root.tunctl("down", "demo", expect=1)
        assert re.search("resolv.conf.*Operation not permitted", done.stderr)
        assert "tun-demo" not in root.ip("link"), "everything else goes"
    finally:
        root.run(["chattr", "-i", "/etc/resolv.conf"])
    root.tunctl("down", "demo")
    assert "10.50.0.1" not in resolv_conf(root)
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(20) == 0, said()
    assert "Traceback" not in said()


def test_many_wishes_at_once_are_one_pass(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F64: what is due while a pass is at work is one more pass, not many."""
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = keep(host, tunctl, keepers)

    def passes() -> int:
        text = tunctl.run("metrics").stdout
        return int(re.findall(r'tunctl_pass_duration_seconds_count\{scope="all"\} (\d+)', text)[0])

    pids = family(keeper)[1:]
    before = passes()
    send(pids, signal.SIGSTOP)
    for _ in range(50):
        keeper.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    send(pids, signal.SIGCONT)
    wait_until(lambda: passes() > before, SOON_S)
    time.sleep(1)
    assert passes() - before <= 3
