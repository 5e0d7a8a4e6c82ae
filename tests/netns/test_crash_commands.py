"""Commands that are killed or interrupted at any moment, that run at the same time, whose steps fail, whose reader goes."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.faults import (
    assert_clean,
    assert_converged,
    changed,
    everything,
    fault,
    kernel_lines,
    state,
    tun_file,
)
from tests.netns.test_crash import Bench, bench  # noqa: F401 - a fixture
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

pytestmark = pytest.mark.bound(300)


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as warm:
        yield warm


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_at_a_random_moment(bench: Bench, number: signal.Signals, seed: int) -> None:  # noqa: F811
    """Between the fork and well after the end; what comes next always puts it right."""
    randomly = random.Random(f"{number} {seed}")
    hit = 0
    for turn in range(14):
        command = ("apply", "change", "down")[turn % 3]
        bench.reset(command)
        pid = bench.tunctl.begin(*bench.words(command))
        time.sleep(randomly.uniform(0, 0.25))
        try:
            os.kill(pid, number)
            if randomly.random() < 0.3:
                time.sleep(0.01)
                os.kill(pid, number)
        except ProcessLookupError:
            pass
        begun = time.monotonic()
        done = bench.tunctl.end(timeout=20)
        assert time.monotonic() - begun < 2, f"{command} ends within 2 s of {number.name}"
        assert done.returncode in (0, -number, 128 + number), (command, done)
        hit += done.returncode != 0
        follow_up = randomly.choice(("apply", "down") if done.returncode else ("apply", "reconcile", "down"))
        bench.follow(command, follow_up, f"{command} {number.name} turn {turn}")
    assert hit >= 3, "most signals met a running command"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_while_a_program_is_waited_for(host: Host, tunctl: Warm, number: signal.Signals) -> None:
    """A program that never becomes ready, and does not listen to SIGTERM either."""
    from tests.netns.faults import exec_file, marked

    before = state(host)
    file = exec_file(host, "program", words=("never", "stubborn"))
    pid = tunctl.begin("apply", file)
    wait_until(lambda: marked(host) and "holder.py" in host.run(["ps", "-eo", "args"]).stdout)
    time.sleep(0.2)
    os.kill(pid, number)
    begun = time.monotonic()
    done = tunctl.end(timeout=20)
    assert time.monotonic() - begun < 2
    assert done.returncode == 128 + number, done
    tunctl.run("down", "--all")
    assert_clean(host, before)


def test_eight_at_once(host: Host, tunctl: Warm) -> None:
    """One does the work, the others find nothing to do, or say within 2 s who is at it."""
    before, file = state(host), everything(host)
    started = [host.start(tunctl.cold_argv("apply", file), log=f"apply-{number}.log") for number in range(8)]
    codes = [process.wait(30) for process in started]
    assert set(codes) <= {0, 75}, codes
    assert 0 in codes
    logs = [(host.dir / f"apply-{number}.log").read_text() for number in range(8)]
    assert sum(bool(kernel_lines(log)) for log in logs) == 1, "exactly one did the work"
    for code, log in zip(codes, logs, strict=True):
        assert code == 0 or "holds" in log, log
    now = state(host)
    assert_converged(host, tunctl, now)
    tunctl.run("forget", "--all")
    assert_clean(host, before)
    tunctl.run("apply", file)
    assert state(host) == now, "the same as one alone would have made"


@pytest.mark.parametrize("seed", range(4))
def test_apply_and_down_at_once(host: Host, tunctl: Warm, seed: int) -> None:
    """The result is that of one of the two orders."""
    randomly = random.Random(seed)
    before, file = state(host), everything(host)
    tunctl.run("apply", file)
    wanted = state(host)
    other = changed(host)
    orders = [("apply", other), ("down", "--all"), ("reconcile",), ("apply", file)]
    randomly.shuffle(orders)
    started = []
    for number, words in enumerate(orders):
        started.append(host.start(tunctl.cold_argv(*words, "--lock-timeout", "20s"), log=f"{number}.log"))
        time.sleep(randomly.uniform(0, 0.3))
    codes = [process.wait(30) for process in started]
    assert codes == [0] * 4, [(host.dir / f"{number}.log").read_text() for number in range(4)]
    assert tunctl.run("plan").returncode == 0
    tunctl.run("apply", file)
    assert_converged(host, tunctl, wanted)
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_the_lock_of_a_dead_process_blocks_nobody(host: Host, tunctl: Warm) -> None:
    file = tun_file(host, "demo")
    for _ in range(3):
        tunctl.run("apply", file, env=fault("kill-before:1"), expect=-signal.SIGKILL)
    begun = time.monotonic()
    tunctl.run("apply", file, "--lock-timeout", "0s")
    assert time.monotonic() - begun < 2
    pid = tunctl.begin("reconcile")
    os.kill(pid, signal.SIGSTOP)
    stopped = host.run(host.tunctl_argv("reconcile", "--lock-timeout", "100ms"), check=False)
    os.kill(pid, signal.SIGCONT)
    tunctl.end()
    assert stopped.returncode in (0, 75), stopped


ERRORS = ("EPERM", "EBUSY", "ENOSPC")


@pytest.mark.parametrize("command", ["apply", "change", "down", "forget"])
def test_each_step_fails_once(bench: Bench, command: str) -> None:  # noqa: F811
    """One tunnel has a step that fails: it is told, the other tunnels go on, and the same command done again finishes."""
    failed = 0
    for number in range(1, 80, 3 if command == "change" else 1):
        name = ERRORS[number % len(ERRORS)]
        bench.reset(command)
        done = bench.tunctl.run(*bench.words(command), env=fault(f"fail:{number}:{name}"), expect=None)
        told = f"{command}, step {number} fails with {name}"
        if done.returncode == 0:
            break
        failed += 1
        assert re.search(r"^error: .*\w+ .*: .+ \(injected by TUNCTL_FAULT\)$", done.stderr, re.MULTILINE), (told, done)
        assert done.returncode in (1, 73, 77), (told, done)
        if command == "apply":
            _others_are_up(bench, told)
        if command in ("down", "forget"):
            left = [link["ifname"] for link in bench.host.ip_json("link") if link["ifname"] != "lo"]
            assert len(left) <= 1, f"{told}: the rest is removed all the same"
        bench.follow(command, "down" if command in ("down", "forget") else "apply", told)
    assert failed >= 6


def _others_are_up(bench: Bench, told: str) -> None:  # noqa: F811
    """A first bring-up that failed is taken back whole; the other three tunnels are there whole."""
    up = {t["name"] for t in bench.tunctl.json("status", expect=None)["tunnels"] if t["verdict"] in ("connected", "degraded")}
    links = {link["ifname"] for link in bench.host.ip_json("link")} - {"lo"}
    names = {"tun-plain": "plain", "tun-prog": "prog", "tun-made": "made", "wg-a": "wg"}
    assert len(up) == 3, (told, up)
    assert {names[link] for link in links} == up, (told, links, up)
    numbers = {"plain": "10.8[34]", "prog": "10.8[15]", "made": "10.8[26]", "wg": "10.8[078]"}
    (down,) = set(names.values()) - up
    traces = subprocess.run(
        ["grep", numbers[down]], input=state(bench.host), capture_output=True, text=True, check=False
    ).stdout
    assert traces == "", (told, traces)


def test_two_tunnels_fail_and_both_are_told(host: Host, tunctl: Warm) -> None:
    """A foreign link in the place of each: down and apply go on over them and report every one."""
    before = state(host)
    tunctl.run("apply", tun_file(host, "one", "two", "three"))
    for name in ("one", "two"):
        host.ip(f"link del tun-{name}")
        host.ip(f"tuntap add tun-{name} mode tun")
    done = tunctl.run("reconcile", expect=73)
    assert "one: " in done.stderr
    assert "two: " in done.stderr
    host.ip("route del 10.16.128.0/20", check=False)
    tunctl.run("down", "--all", expect=None)
    assert "tun-three" not in host.ip("link")
    for name in ("one", "two"):
        host.ip(f"link del tun-{name}")
    tunctl.run("down", "--all")
    assert_clean(host, before)


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--json"), ("plan",), ("reconcile",), ("history",), ("show", "demo"), ("apply", "d.toml")]
)
def test_a_reader_that_went_away(host: Host, tunctl: Warm, words: tuple[str, ...]) -> None:
    """`tunctl … | true`: the exit code stays, and nobody sees a traceback."""
    tunctl.run("apply", tun_file(host, "demo", "two", "three"))
    code = tunctl.run(*words, expect=None).returncode
    if words[0] == "apply":
        tunctl.run("forget", "--all")
    done = host.run(["bash", "-c", 'exec 3>&1; { "$@"; echo "code $?" >&3; } | sleep 0', "bash", *host.tunctl_argv(*words)])
    assert f"code {code}" in done.stdout, done
    assert done.stderr == "", done
    if words[0] == "apply":
        assert "no changes" in tunctl.run("apply", "d.toml").stdout, "the change was made to its end"


def test_standard_streams_that_are_closed(host: Host, tunctl: Warm) -> None:
    """A daemon may start us with nothing on 0, 1 and 2: no descriptor of ours may become one of them by accident."""
    wanted = state(host)
    file = everything(host)
    done = host.run(["bash", "-c", '"$@" 0<&- 1>&- 2>&-', "bash", *tunctl.cold_argv("apply", file)], check=False)
    assert done.returncode == 0, done
    tunctl.run("apply", file)
    tunctl.run("plan")
    tunctl.run("forget", "--all")
    assert_clean(host, wanted)


def test_the_terminal_is_closed_during_a_change(bench: Bench) -> None:  # noqa: F811
    """SIGHUP never stops a change half-way."""
    bench.reset("apply")
    pid = bench.tunctl.begin("apply", bench.file)
    wait_until(lambda: int(re.findall(r"SigIgn:\t(\w+)", Path(f"/proc/{pid}/status").read_text())[0], 16) & 1)
    for _ in range(20):
        try:
            os.kill(pid, signal.SIGHUP)
        except ProcessLookupError:
            break
        time.sleep(0.01)
    done = bench.tunctl.end()
    assert done.returncode == 0, done
    bench.follow("apply", "apply", "SIGHUP")
