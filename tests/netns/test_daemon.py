"""The daemon on the real kernel: what is broken is repaired without anybody asking, and nothing it waits for holds it up."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

import pytest

from tests.netns.faults import PYTHON, assert_clean, everything, marked, state, tun_block, tun_file, write_programs
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

pytestmark = pytest.mark.bound(240)
SOON_S = 30  # generous: the machine is shared


class Keeper:
    """A daemon on a host, and what it said."""

    def __init__(self, host: Host, tunctl: Warm, *words: str) -> None:
        self.host, self._tunctl = host, tunctl
        self._log = f"daemon-{os.urandom(2).hex()}.log"
        self.process = host.start(tunctl.cold_argv("daemon", *words), log=self._log)
        wait_until(lambda: self.is_up or self.process.poll() is not None, SOON_S, "the daemon is up")
        assert self.process.poll() is None, self.said

    @property
    def is_up(self) -> bool:
        return bool(self._tunctl.json("status", expect=None)["daemon"]["running"])

    @property
    def said(self) -> str:
        return (self.host.dir / self._log).read_text()

    def repairs(self, words: str) -> list[float]:
        """With `--log-format json`: when (in seconds) which steps with these words were done."""
        entries = [json.loads(line) for line in self.said.splitlines()]
        done = [entry["time"] for entry in entries if entry["level"] == "info" and words in entry["message"]]
        return [datetime.fromisoformat(time_).timestamp() for time_ in done]

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = 10) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as tunctl:
        yield tunctl


@pytest.fixture
def keepers(host: Host, tunctl: Warm) -> Iterator[list[Keeper]]:
    """Those that a test started; none of them outlives it, and none had a bug."""
    started: list[Keeper] = []
    yield started
    for one in started:
        if one.process.poll() is None:
            assert one.end() == 0, one.said
        assert "bug" not in one.said.lower(), one.said
        assert "Traceback" not in one.said, one.said


def keep(host: Host, tunctl: Warm, keepers: list[Keeper], *words: str) -> Keeper:
    keepers.append(Keeper(host, tunctl, *words))
    return keepers[-1]


def is_back(host: Host, wanted: str, what: str, keeper: Keeper) -> None:
    wait_until(lambda: state(host) == wanted, SOON_S, f"{what} is repaired\n{keeper.said}")


BREAKAGES = {
    "a route": "route del 10.84.0.0/16 dev tun-plain",
    "an IPv6 route": "-6 route del fd00:84::/32 dev tun-plain",
    "an address": "addr del 10.83.0.2/24 dev tun-plain",
    "a rule": "rule del priority 20100",
    "an IPv6 rule": "-6 rule del priority 20100",
    "the link is down": "link set tun-plain down",
    "the MTU": "link set tun-plain mtu 1300",
    "the link": "link del tun-plain",
    "the link of an engine": "link del wg-a",
}


def test_each_breakage_is_repaired_and_then_it_is_silent(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    before = state(host)
    tunctl.run("apply", everything(host))
    wanted = state(host)
    keeper = keep(host, tunctl, keepers)
    for what, words in BREAKAGES.items():
        host.ip(words)
        is_back(host, wanted, what, keeper)
    assert "plain: + route 10.84.0.0/16 dev tun-plain metric 30" in keeper.said
    assert "prog" not in keeper.said, "what nobody touched was left alone"
    host.ip("route flush proto 115 table all")
    is_back(host, wanted, "all routes", keeper)
    said = keeper.said
    time.sleep(1)
    assert keeper.said == said, "a pass with nothing to do is silent"
    assert keeper.end(within_s=5) == 0
    assert state(host) == wanted, "the tunnels stay as they are"
    assert marked(host)
    again = keep(host, tunctl, keepers)
    time.sleep(1)
    assert again.said == "", "what works is adopted without a step"
    tunctl.run("forget", "--all")
    assert again.process.poll() is None
    assert_clean(host, before)


def exec_block(name: str, *words: str, restart: str = 'base = "3s"') -> str:
    """A tunnel whose program has these habits."""
    spoken = "".join(f', "{word}"' for word in words)
    return f"""
[tunnels.{name}]
driver = "exec"
interface = "tun-{name}"
exec = {{ command = ["{PYTHON}", "DIR/holder.py", "{{interface}}"{spoken}], ready_timeout = "30s", stop_grace = "1s" }}
[tunnels.{name}.restart]
{restart}
"""


def exec_file(host: Host, *blocks: str) -> str:
    write_programs(host)
    text = "version = 1\nsource = 'all'\n" + "".join(blocks)
    return str(host.write("d.toml", text.replace("DIR", str(host.dir))))


def pid_of(tunctl: Warm, name: str) -> int | None:
    owner = tunnel(tunctl, name)["owner"]
    return owner["pid"] if owner and owner["running"] else None


def tunnel(tunctl: Warm, name: str) -> dict:  # type: ignore[type-arg]
    found: dict = tunctl.json("status", name, expect=None)["tunnels"][0]  # type: ignore[type-arg]
    return found


def test_a_program_that_ends_is_started_at_once_and_then_with_patience(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S69: the first time at once; one that ends again and again waits, says so, and does not disturb the others."""
    file = exec_file(host, exec_block("prog"), tun_block("demo"))
    tunctl.run("apply", file)
    keeper = keep(host, tunctl, keepers)
    for _ in range(2):  # the one that was there when the daemon came was not started by it
        before = pid_of(tunctl, "prog")
        assert before
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: pid_of(tunctl, "prog") not in (None, before), SOON_S, "it is there again")  # noqa: B023
        wait_until(lambda: tunnel(tunctl, "prog")["verdict"] == "connected", SOON_S, keeper.said)
        time.sleep(0.3)  # until its start is recorded
    begun = time.monotonic()
    os.kill(pid_of(tunctl, "prog") or 0, signal.SIGKILL)
    wait_until(lambda: tunnel(tunctl, "prog")["next_retry_at"], SOON_S, keeper.said)
    waiting = tunnel(tunctl, "prog")
    assert waiting["state"] == "waiting", (waiting, keeper.said)
    assert waiting["attempt"] >= 1
    assert "ended" in str(waiting), waiting
    host.ip("link del tun-demo")
    wait_until(lambda: "tun-demo" in host.ip("link"), 2, "the others do not wait")
    wait_until(lambda: pid_of(tunctl, "prog"), SOON_S, "its time has come")
    assert time.monotonic() - begun > 2, "base = 3s"
    wait_until(lambda: tunnel(tunctl, "prog")["state"] == "up", SOON_S, keeper.said)


def test_one_that_gives_up(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """`attempts`: failed, until a user asks for it."""
    restart = 'base = "1s"\nfactor = 1\nmax = "40s"\nattempts = 2'
    rarely = '\n[host]\nreconcile_interval = "10m"\n'  # its next attempt is waited for, and nothing else
    file = exec_file(host, rarely, exec_block("prog", restart=restart))
    tunctl.run("apply", file)
    keeper = keep(host, tunctl, keepers)

    def failed() -> bool:
        pid = pid_of(tunctl, "prog")
        if pid:
            os.kill(pid, signal.SIGKILL)
        return tunnel(tunctl, "prog")["state"] == "failed"

    wait_until(failed, 40, lambda: keeper.said)
    time.sleep(1.5)
    assert pid_of(tunctl, "prog") is None
    tunctl.run("up", "prog")
    assert pid_of(tunctl, "prog")


def test_a_program_that_never_gets_ready_delays_nobody(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S67, F53: the daemon waits for it, and repairs, and obeys, and ends all the same."""
    before = state(host)
    tunctl.run("apply", exec_file(host, exec_block("stuck"), tun_block("demo")))
    tunctl.run("down", "stuck")
    wanted = state(host)
    file = exec_file(host, exec_block("stuck", "never", "stubborn"), tun_block("demo"))
    tunctl.run("apply", file, "--keep-holds")
    keeper = keep(host, tunctl, keepers)
    held = tunctl.begin("up", "stuck")  # a user waits for it
    wait_until(lambda: marked(host), SOON_S)
    os.kill(held, signal.SIGKILL)
    tunctl.end()
    wait_until(lambda: "stuck" in "".join(marked(host)), SOON_S, "the daemon goes on with it")
    for _ in range(3):
        host.ip("route flush proto 115 table all")
        is_back(host, wanted, "a route beside it", keeper)
    begun = time.monotonic()
    tunctl.run("down", "stuck")
    assert time.monotonic() - begun < 10, "a user's word goes before it"
    time.sleep(1)
    assert marked(host) == [], f"it is not brought back\n{keeper.said}"
    held = tunctl.begin("up", "stuck")
    wait_until(lambda: marked(host), SOON_S)
    os.kill(held, signal.SIGKILL)
    tunctl.end()
    assert keeper.end(within_s=10) == 0
    tunctl.run("forget", "--all")
    assert_clean(host, before)


def test_down_is_never_undone(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    tunctl.run("apply", everything(host))
    keep(host, tunctl, keepers)
    for _ in range(3):
        tunctl.run("down", "plain", "prog", "wg")
        time.sleep(0.3)
        assert "tun-plain" not in host.ip("link")
        assert [line.split()[0] for line in marked(host)] == ["made"]
        tunctl.run("up", "--all")


def test_contested(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """S71, guarantee 8: ten times at once, then one in five seconds, and both sides are named."""
    tunctl.run("apply", tun_file(host, "demo", "other"))
    keeper = keep(host, tunctl, keepers, "--log-format", "json")
    begun = time.monotonic()
    for number in range(10):
        host.ip("route del 10.9.128.0/20")
        wait_until(lambda: len(keeper.repairs("10.9.128.0/20")) == number + 1, SOON_S, keeper.said)  # noqa: B023
    assert time.monotonic() - begun < 40, "each at once"
    for number in range(10, 12):
        wait_until(lambda: "10.9.128.0/20" in host.ip("route"), SOON_S, keeper.said)
        host.ip("route del 10.9.128.0/20")
        wait_until(lambda: len(keeper.repairs("10.9.128.0/20")) == number + 1, SOON_S, keeper.said)  # noqa: B023
        if number == 10:
            host.ip("addr flush dev tun-demo")
            wait_until(lambda: keeper.repairs("10.9.0.2/32"), SOON_S, keeper.said)
    assert keeper.said.count("contested") == 1
    times = keeper.repairs("10.9.128.0/20")
    assert [later - earlier >= 4.9 for earlier, later in pairwise(times[9:])] == [True, True], times
    reasons = tunnel(tunctl, "demo")["reasons"]
    assert any(reason.startswith("contested: route 10.9.128.0/20") and "pid" in reason for reason in reasons), reasons
    assert tunnel(tunctl, "other")["reasons"] == ["no process attached"]
    assert keeper.repairs("10.9.0.2/32")[0] < times[11], "what nobody fights for does not wait"
    told = "demo contested by tunctl (route 10.9.128.0/20 dev tun-demo undone again and again by pid"
    wait_until(lambda: told in tunctl.run("history", "demo").stdout, 30, tunctl.run("history", "demo").stdout)


def test_killed_and_started_again(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """SIGKILL in the middle of what it does: the next one converges."""
    before = state(host)
    tunctl.run("apply", everything(host))
    wanted = state(host)
    for number in range(6):
        keeper = Keeper(host, tunctl)
        host.ip("link del tun-plain", check=False)
        host.ip("link del wg-a", check=False)
        time.sleep(0.03 * number)
        keeper.end(signal.SIGKILL)
    keeper = keep(host, tunctl, keepers)
    is_back(host, wanted, "all of it", keeper)
    tunctl.run("down", "--all")
    assert_clean(host, before)


def test_only_one(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    tunctl.run("apply", tun_file(host, "demo"))
    keeper = keep(host, tunctl, keepers)
    done = tunctl.run("daemon", expect=75)
    assert "a daemon runs already" in done.stderr
    found = tunctl.json("status", expect=None)["daemon"]
    assert found["running"]
    assert str(found["pid"]) in done.stderr
    assert keeper.end(signal.SIGINT) == 0
    assert tunctl.json("status", expect=None)["daemon"] == {"running": False, "pid": None}


def test_many_foreign_routes(host: Host, tunctl: Warm, keepers: list[Keeper]) -> None:
    """A routing daemon at work: no repair is missed, and SIGTERM is heard."""
    host.ip("link add dum0 type veth peer name dum1")
    host.ip("link set dum0 up")
    host.ip("link set dum1 up")
    tunctl.run("apply", tun_file(host, "demo"))
    wanted = state(host)
    keeper = keep(host, tunctl, keepers)
    lines = [f"route add 100.{64 + n // 256}.{n % 256}.0/24 dev dum0" for n in range(10_000)]
    batch = host.write(
        "batch", "\n".join(lines) + "\nroute del 10.9.128.0/20\n" + "\n".join(lines).replace("add", "del") + "\n"
    )
    host.run(["ip", "-batch", batch])
    is_back(host, wanted, "the one among 20 000", keeper)
    assert keeper.end(within_s=10) == 0
