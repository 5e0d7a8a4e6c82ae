"""Faults of programs and commands as they go with a daemon at work: it hears of them, or commands go through its socket."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

from tests.netns.engines import kill
from tests.netns.faults import assert_clean, changed, everything, exec_file, kernel_lines, marked, state, tun_file
from tests.netns.scenario import alive
from tests.netns.test_control import kept
from tests.netns.test_daemon import SOON_S, Keeper, keepers, tunctl, tunnel
from tests.netns.test_faults_owner import _cpu_s, _pump_file
from tests.netns.test_scenarios_daemon import family
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

__all__ = ["keepers", "tunctl"]
pytestmark = pytest.mark.bound(120)


def owner(host: Host) -> int:
    (line,) = marked(host)
    return int(line.split()[-1])


@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_a_pump_and_its_device(host: Host, tunctl: Warm, keepers: list[Keeper], device: str) -> None:
    """S36, F57: set down, it is set up again; deleted, the pump ends and both are there anew; `down` needs no SIGKILL."""
    before = state(host)
    tunctl.run("apply", _pump_file(host, device))
    wanted = state(host)
    keeper = kept(host, tunctl, keepers)
    for words in ("link set tun-demo down", "link del tun-demo", "link set tun-demo down"):
        host.ip(words)
        wait_until(lambda: tunnel(tunctl, "demo")["verdict"] == "connected", SOON_S, lambda: keeper.said)
        wait_until(lambda: state(host) == wanted, SOON_S, lambda: keeper.said)
    pid = owner(host)
    spent, begun = _cpu_s(pid), time.monotonic()
    time.sleep(0.5)
    assert (_cpu_s(pid) - spent) / (time.monotonic() - begun) < 0.2, "it spins"
    done = tunctl.run("down", "demo")
    assert "SIGKILL" not in done.stderr
    assert_clean(host, before)


@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_one_that_dies_right_after_it_was_ready(host: Host, tunctl: Warm, keepers: list[Keeper], device: str) -> None:
    """F15: told with its last words and taken back; the daemon tries again with patience; a better file is obeyed at once."""
    before = state(host)
    keeper = kept(host, tunctl, keepers)
    file = exec_file(host, device, words=("die",), more='restart = { base = "1s" }')
    done = tunctl.run("apply", file, expect=1)
    assert "dying" in done.stderr, "its last words"
    assert state(host) == before
    waits = tunnel(tunctl, "demo")
    assert (waits["verdict"], waits["state"], waits["attempt"]) == ("not-connected", "waiting", 1), waits
    assert waits["next_retry_at"]
    wait_until(lambda: tunnel(tunctl, "demo")["attempt"] == 2, SOON_S, lambda: keeper.said)
    assert state(host) == before
    tunctl.run("apply", exec_file(host, device))
    wait_until(lambda: tunnel(tunctl, "demo")["verdict"] == "connected", SOON_S)
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_an_old_engine_that_ends_late(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F16: killed, or stopped and replaced, wireguard-go takes nothing of its successor along; the socket is the new one's."""
    file = everything(host)
    tunctl.run("apply", file)
    keeper = kept(host, tunctl, keepers)

    def engine() -> list[str]:
        return [line for line in marked(host) if line.startswith("wg ")]

    old = engine()
    kill(int(old[0].split()[-1]))
    wait_until(lambda: tunnel(tunctl, "wg")["verdict"] == "connected" and engine() != old, SOON_S, lambda: keeper.said)
    old = engine()
    os.kill(int(old[0].split()[-1]), signal.SIGSTOP)
    text = file.read_text().replace(
        'backend = "userspace"',
        'backend = "userspace"\nuserspace_command = ["/usr/bin/env", "wireguard-go", "-f", "{interface}"]',
    )
    tunctl.run("apply", host.write("env.toml", text), "--lock-timeout", "30s")
    assert len(engine()) == 1
    assert engine() != old
    said = keeper.said
    assert tunctl.run("reconcile").stdout == "no changes\n"
    found = tunnel(tunctl, "wg")
    assert (found["verdict"], len(found["peers"])) == ("connected", 2)
    assert keeper.said == said


def test_a_persistent_device_that_lost_its_program(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F58: its successor takes the same one. While it waits nobody is sent into it: on_failure is "bypass"."""
    words = exec_file(host, "tunctl", more='restart = { base = "60s", max = "60s" }').read_text()
    tunctl.run("apply", host.write("demo.toml", words))
    wanted = state(host)
    (link,) = host.ip_json("link show dev tun-demo")
    keeper = kept(host, tunctl, keepers)
    for _ in range(2):  # the second one is the daemon's own
        pid = owner(host)
        kill(pid)
        wait_until(
            lambda: state(host) == wanted and tunnel(tunctl, "demo")["verdict"] == "connected", SOON_S, lambda: keeper.said
        )
        assert owner(host) != pid
        assert host.ip_json("link show dev tun-demo")[0]["ifindex"] == link["ifindex"]
    kill(owner(host))
    wait_until(lambda: tunnel(tunctl, "demo")["state"] == "waiting", SOON_S, lambda: keeper.said)
    found = tunnel(tunctl, "demo")
    assert "owner not running" in found["reasons"], found
    wait_until(lambda: "tun-demo" not in host.ip("route get 10.9.130.1", check=False), SOON_S, "no black hole")
    tunctl.run("up", "demo")
    assert (state(host), host.ip_json("link show dev tun-demo")[0]["ifindex"]) == (wanted, link["ifindex"])


def test_eight_at_once(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F47: they share the work, find nothing to do, or are told who is at it. Nobody ends what another one has started."""
    before, file = state(host), everything(host)
    kept(host, tunctl, keepers)
    started = [host.start(tunctl.cold_argv("apply", file), log=f"apply-{number}.log") for number in range(8)]
    codes = [process.wait(60) for process in started]
    logs = [(host.dir / f"apply-{number}.log").read_text() for number in range(8)]
    assert set(codes) <= {0, 75}, "\n\n".join(logs)
    assert 0 in codes
    steps = kernel_lines("\n".join(logs))
    assert not [step for step in steps if step[0] in "-!"], steps
    for code, log in zip(codes, logs, strict=True):
        assert code == 0 or "holds" in log, log
    assert tunctl.run("reconcile").stdout == "no changes\n"
    tunctl.run("forget", "--all")
    assert_clean(host, before)


@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_two_that_wait_for_one_program(host: Host, tunctl: Warm, keepers: list[Keeper], device: str) -> None:
    """F47: whoever finds a program that is only starting waits for it, too: another client, and the daemon that comes after
    one that was killed while it waited. It is started once."""
    keeper = kept(host, tunctl, keepers)
    file = exec_file(host, device, words=("late",))
    first = host.start(tunctl.cold_argv("apply", file), log="first.log")
    wait_until(lambda: marked(host), SOON_S)
    pid = owner(host)
    done = tunctl.run("apply", file, "--lock-timeout", "30s")
    assert first.wait(SOON_S) == 0, (host.dir / "first.log").read_text()
    assert (owner(host), tunnel(tunctl, "demo")["verdict"]) == (pid, "connected"), done
    tunctl.run("down", "demo")
    tunctl.begin("up", "demo")
    wait_until(lambda: marked(host), SOON_S)
    pid, whole = owner(host), family(keeper)
    for one in whole:  # the daemon first; the process that works for the client would go on without it
        kill(one)
    assert tunctl.end(timeout=SOON_S).returncode == 1
    again = kept(host, tunctl, keepers)
    wait_until(lambda: tunnel(tunctl, "demo")["verdict"] == "connected", SOON_S, lambda: again.said)
    assert owner(host) == pid, again.said


@pytest.mark.parametrize("seed", range(2))
def test_orders_at_once(host: Host, tunctl: Warm, keepers: list[Keeper], seed: int) -> None:
    """F47: the result is that of one of the orders in which they may have come. An `apply` that waits for a program when `down`
    gets its turn says so, and nothing else."""
    randomly = random.Random(seed)
    before, file = state(host), everything(host)
    tunctl.run("apply", file)
    wanted, other = state(host), changed(host)
    kept(host, tunctl, keepers)
    orders = [("apply", str(other)), ("down", "--all"), ("reconcile",), ("apply", str(file))]
    randomly.shuffle(orders)
    started = []
    for number, words in enumerate(orders):
        started.append(host.start(tunctl.cold_argv(*words, "--lock-timeout", "30s"), log=f"{number}.log"))
        time.sleep(randomly.uniform(0, 0.3))
    codes = [process.wait(60) for process in started]
    for number, (words, code) in enumerate(zip(orders, codes, strict=True)):  # in the order in which they were begun
        log = (host.dir / f"{number}.log").read_text()
        errors = [line for line in log.splitlines() if "error:" in line]
        assert code == bool(errors), f"{words}: {code}\n{log}"
        assert not errors or words[0] == "apply", log
        assert all(line.endswith(": another order has taken it down before it was up") for line in errors), f"{words}\n{log}"
    wait_until(lambda: tunctl.run("plan", expect=None).returncode == 0, SOON_S, "no pass is left with anything to do")
    tunctl.run("apply", file)
    assert state(host) == wanted
    tunctl.run("forget", "--all")
    assert_clean(host, before)


@pytest.mark.parametrize("whom", ["client", "daemon"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_ended_in_the_middle(host: Host, tunctl: Warm, keepers: list[Keeper], whom: str, number: signal.Signals) -> None:
    """F49: a client that is ended changes nothing; what a daemon that is ended leaves, the next one finishes."""
    randomly = random.Random(f"{whom} {number}")
    before, file, other = state(host), everything(host), changed(host)
    tunctl.run("apply", file)
    wanted = state(host)
    keeper = Keeper(host, tunctl)
    for turn in range(3):
        if turn and whom == "daemon":
            keeper = Keeper(host, tunctl)
        command = (("apply", str(other)), ("down", "--all"), ("apply", str(file)))[turn % 3]
        client = tunctl.begin(*command)
        time.sleep(randomly.uniform(0, 0.2))
        for _ in range(2):
            if alive(pid := client if whom == "client" else keeper.process.pid):
                os.kill(pid, number)
        done = tunctl.end(timeout=30)
        if whom == "daemon":
            assert keeper.process.wait(20) in (0, -number), keeper.said
        elif done.returncode:
            assert done.returncode in (-number, 128 + number), done
    if whom == "daemon":
        keeper = Keeper(host, tunctl)
    keepers.append(keeper)
    wait_until(lambda: len(family(keeper)) <= 2, SOON_S, "orders whose clients have ended are done: it, and one that rests")
    wait_until(lambda: tunctl.run("plan", expect=None).returncode == 0, SOON_S, "the last wish is carried out")
    tunctl.run("apply", file, "--lock-timeout", "30s")
    assert state(host) == wanted
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_readers_that_went_away(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """F63: of a command through the daemon, of its metrics: the same exit code."""
    keeper = kept(host, tunctl, keepers)
    file = tun_file(host, *(f"t{number}" for number in range(10)))
    for words in (("apply", str(file)), ("metrics",), ("reconcile",), ("down", "--all")):
        argv = " ".join(tunctl.cold_argv(*words))
        done = host.run(
            ["bash", "-c", f"set -o pipefail; {argv} 2>err | true; echo ${{PIPESTATUS[0]}}; cat err >&2"], timeout=60
        )
        assert done.stdout == "0\n", (words, done)
        assert "Traceback" not in done.stderr
    assert "tun-" not in host.ip("link")
    assert keeper.process.poll() is None


def test_a_log_that_nobody_reads_any_more(host: Host, tunctl: Warm) -> None:
    """F63: the pipe behind stderr is closed: the daemon goes on."""
    tunctl.run("apply", tun_file(host, "demo"))
    wanted = state(host)
    reading, writing = os.pipe()
    argv = host._inside_argv(tunctl.cold_argv("daemon"))
    process = subprocess.Popen(argv, env=host.env, cwd=host.dir, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing)
    host._processes.append(process)
    os.close(writing)
    wait_until((host.run_dir / "control.sock").exists, SOON_S)
    os.close(reading)
    for words in ("link del tun-demo", "route flush proto 115 table all", "link del tun-demo"):
        host.ip(words)
        wait_until(lambda: state(host) == wanted, SOON_S, words)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
