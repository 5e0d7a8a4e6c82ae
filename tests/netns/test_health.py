"""Health checks on the real kernel: what is there and does not work is found out, said with evidence, and acted on."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.netns.names import PUMP
from tests.netns.scenario import desired, key_pair
from tests.netns.test_daemon import Keeper
from tests.netns.warm import Warm
from tests.netns.world import Host, Pair, wait_until

pytestmark = pytest.mark.bound(240)
SOON_S = 30  # generous: the machine is shared
INSIDE4, INSIDE6 = "10.80.0.1", "fd80::1"  # of b, through the tunnel
BEYOND = "10.81.0.1"  # another address of b
HEALTH = f"""
[tunnels.office.health]
ping = ["{INSIDE4}", "{INSIDE6}"]
interval = "1s"
failures = 2
"""


class Ends(NamedTuple):
    """a is under test; b is the other end. Each has its own tunctl."""

    a: Host
    b: Host
    tunctl: Warm
    keepers: list[Keeper]

    def status(self) -> dict[str, Any]:
        (tunnel,) = self.tunctl.json("status", "office", expect=None)["tunnels"]
        return dict(tunnel)

    def pulse(self) -> dict[str, Any]:
        return dict(json.loads((self.a.run_dir / "tunnels/office/health.json").read_text()))

    def pings(self, target: str = BEYOND) -> str:
        """What ping has to say: "" is an answer."""
        done = self.a.run(["ping", "-n", "-c", "1", "-W", "2", target], check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def keep(self) -> Keeper:
        self.keepers.append(Keeper(self.a, self.tunctl))
        return self.keepers[-1]

    def drop(self, words: str = "oifname wg-b drop", hook: str = "output") -> None:
        """On the other end: the way back is cut."""
        self.b.run(
            [
                "nft",
                f"add table inet t; add chain inet t o {{ type filter hook {hook} priority 0; }}; add rule inet t o {words}",
            ]
        )

    def mend(self) -> None:
        self.b.run(["nft", "delete table inet t"])


@pytest.fixture
def ends(pair: Pair) -> Iterator[Ends]:
    with Warm(pair.a) as tunctl:
        keepers: list[Keeper] = []
        yield Ends(pair.a, pair.b, tunctl, keepers)
        for one in keepers:
            if one.process.poll() is None:
                assert one.end() == 0, one.said
            assert "bug" not in one.said.lower(), one.said
            assert "Traceback" not in one.said, one.said


def wireguard(name: str, dev: str, key: str, peer: str, addresses: str, more: str) -> str:
    return f"""
[tunnels.{name}]
driver = "wireguard"
interface = "{dev}"
addresses = {addresses}
{more}
[tunnels.{name}.wireguard]
private_key_file = "{key}"
listen_port = 51820
[[tunnels.{name}.wireguard.peers]]
name = "berlin"
public_key = "{peer}"
"""


def connect(ends: Ends, health: str = HEALTH, *, keys: str = 'on_failure = "block"', peer: str = 'keepalive = "1s"') -> str:
    """Both ends up; → the file of a."""
    a, b = key_pair(ends.a, "a.key"), key_pair(ends.b, "b.key")
    far = wireguard("far", "wg-b", "b.key", a, f'["{INSIDE4}/24", "{INSIDE6}/64", "{BEYOND}/32"]', "")
    far += 'allowed_ips = ["10.80.0.2/32", "fd80::2/128"]\n'
    ends.b.write("d.toml", desired(far))
    ends.b.tunctl("apply", "d.toml")
    near = wireguard("office", "wg-a", "a.key", b, '["10.80.0.2/32", "fd80::2/128"]', keys)
    near += f'endpoint = "192.0.2.2:51820"\nallowed_ips = ["10.80.0.0/16", "10.81.0.0/16", "fd80::/32"]\n{peer}\n'
    file = str(ends.a.write("d.toml", desired(near + health)))
    ends.tunctl.run("apply", file)
    wait_until(lambda: not ends.pings(), SOON_S, "the tunnel works")
    return file


def reasons(ends: Ends) -> str:
    return "\n".join(ends.status()["reasons"])


def is_connected(ends: Ends) -> bool:
    """And seen to be."""
    status = ends.status()
    return status["verdict"] == "connected" and not status["unobserved"] and not status["pending"]


def test_a_cut_way_back_is_degraded_with_evidence_and_blocks(ends: Ends) -> None:
    """S64: packets are sent, and nothing comes back."""
    connect(ends)
    keeper = ends.keep()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    assert keeper.said == "", "what works is left alone"
    ends.drop()
    wait_until(lambda: "unhealthy" in reasons(ends), SOON_S, keeper.said)
    assert ends.status()["verdict"] == "degraded"
    assert f"ping {INSIDE4}: last answer" in reasons(ends)
    assert f"ping {INSIDE6}: last answer" in reasons(ends)
    assert "what goes into it is unreachable" in reasons(ends)
    wait_until(lambda: "No route to host" in ends.pings() and not ends.status()["pending"], SOON_S, keeper.said)
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups"]
    told = ends.a.run([*nobody, *ends.a.tunctl_argv("status")], check=False)
    assert (told.returncode, "unhealthy" in told.stdout, "Health: unhealthy" in told.stdout) == (3, True, True), told
    said = keeper.said
    time.sleep(1.5)
    assert keeper.said == said, "once"
    ends.mend()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    assert ends.pings() == ""
    assert "10.81.0.0/16" in ends.a.ip("route show table all type unicast dev wg-a")
    assert "10.80.0.1 " not in ends.a.ip("route show table all type unicast dev wg-a"), "it was only for the while"


def test_bypass(ends: Ends) -> None:
    """What went into it goes another way meanwhile."""
    connect(ends, keys='on_failure = "bypass"')
    ends.a.ip("route add 10.0.0.0/8 via 192.0.2.2")
    keeper = ends.keep()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    assert "dev wg-a" in ends.a.ip(f"route get {BEYOND}")
    ends.drop("udp sport 51820 drop")
    wait_until(lambda: "dev veth0" in ends.a.ip(f"route get {BEYOND}"), SOON_S, keeper.said)
    assert "goes past it" in reasons(ends)
    ends.mend()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    assert "dev wg-a" in ends.a.ip(f"route get {BEYOND}")


def test_by_a_timer_and_nobody_else(ends: Ends) -> None:
    """One pass, one round. Who only looks does not look too long ago."""
    connect(ends)
    assert ends.status()["verdict"] == "connected"
    assert ends.status()["unobserved"] == ["health: not looked at yet"]
    ends.tunctl.run("reconcile")
    assert is_connected(ends)
    ends.drop()
    for number in range(10):
        time.sleep(1)
        ends.tunctl.run("reconcile")
        if "unhealthy" in reasons(ends):
            break
        assert number < 9, ends.status()
    assert "No route to host" in ends.pings(), "in the same pass"
    assert [event for event, _ in events(ends)].count("unhealthy") == 1
    assert ends.tunctl.run("plan").returncode == 0
    pulse = ends.a.run_dir / "tunnels/office/health.json"
    known = json.loads(pulse.read_text())
    for years_us in (10**15, -(10**15)):
        pulse.write_text(json.dumps(known | {"at_us": known["at_us"] + years_us}))
        assert ends.status()["unobserved"] == [], "F52: the clock was set meanwhile, and only that"
    pulse.write_text(json.dumps(known | {key: known[key] - 1_000_000_000 for key in ("at_us", "boot_us")}))
    assert "unhealthy" in reasons(ends), "nobody knows better"
    assert ends.status()["unobserved"][0].startswith("health: last looked at 100")
    ends.tunctl.run("reconcile")
    assert "unhealthy" in reasons(ends), "what is old is no reason for a change"
    ends.tunctl.run("up", "office")
    assert "unhealthy" not in reasons(ends), "a user has had a say in it"
    ends.mend()
    wait_until(lambda: not ends.pings(), SOON_S)
    pulse.write_text("{")
    assert ends.status()["verdict"] == "connected"
    ends.tunctl.run("down", "office")
    assert not pulse.exists()


def pumped(ends: Ends, health: str, more: str = "") -> str:
    """A tunnel by a program that carries packets over UDP; → the file of a."""
    ends.b.ip("tuntap add tun-b mode tun")
    ends.b.ip(f"addr add {INSIDE4}/24 dev tun-b")
    ends.b.ip("link set tun-b up")
    ends.b.start([sys.executable, PUMP, "tun-b", "192.0.2.2:7000", "192.0.2.1:7000"])
    text = f"""
[tunnels.office]
driver = "exec"
interface = "tun-a"
addresses = ["10.80.0.2/24"]
exec = {{ command = ["{sys.executable}", "{PUMP}", "{{interface}}", "192.0.2.1:7000", "192.0.2.2:7000"], stop_grace = "500ms" }}
[[tunnels.office.routes]]
to = "10.81.0.0/16"
[tunnels.office.health]
ping = ["{INSIDE4}"]
interval = "1s"
failures = 2
{health}
{more}
"""
    file = str(ends.a.write("d.toml", desired(text)))
    ends.tunctl.run("apply", file)
    wait_until(lambda: not ends.pings(INSIDE4), SOON_S, "the tunnel works")
    return file


def events(ends: Ends) -> list[tuple[str, str]]:
    """Of the history, with their causes."""
    return [(one["event"], one["cause"]) for one in ends.tunctl.json("history", "office")["history"]]


def test_a_program_that_answers_nothing_is_started_anew(ends: Ends) -> None:
    """It holds its device, and does nothing: stopped, as good as hung."""
    pumped(ends, 'action = "restart"')
    keeper = ends.keep()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    before = ends.status()["owner"]["pid"]
    os.kill(before, signal.SIGSTOP)
    wait_until(lambda: (ends.status()["owner"] or {}).get("pid") not in (None, before), SOON_S, keeper.said)
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    assert ends.pings(INSIDE4) == ""
    assert keeper.said.count("is started anew") == 1, keeper.said
    assert f"(pid {before}) is started anew" in keeper.said
    assert "office: works again" in keeper.said
    assert ends.pulse()["restarts"] == 1
    wait_until(lambda: ("healthy", "works again") in events(ends), 30, "the history is written when there is time")
    assert any(event == "unhealthy" and f"(pid {before}) is started anew" in cause for event, cause in events(ends))


def test_restarts_that_do_not_help_come_to_an_end(ends: Ends) -> None:
    """The other end is gone: no storm, and `failed` when the attempts are used up."""
    pumped(ends, 'action = "restart"', '[tunnels.office.restart]\nbase = "1s"\nmax = "1s"\nattempts = 2')
    keeper = ends.keep()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    ends.drop("udp dport 7000 drop", hook="input")
    wait_until(lambda: ends.status()["verdict"] == "failed", 60, keeper.said)
    assert "gave up restarting it (attempts = 2)" in reasons(ends)
    assert "goes past it" in reasons(ends)
    time.sleep(3)
    assert keeper.said.count("is started anew") == 2, keeper.said
    ends.mend()
    wait_until(lambda: is_connected(ends), SOON_S, "it works again by itself")
    assert "contested" not in keeper.said


def test_without_action_a_program_is_left_alone(ends: Ends) -> None:
    pumped(ends, "")
    keeper = ends.keep()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    owner = ends.status()["owner"]
    ends.drop("udp dport 7000 drop", hook="input")
    wait_until(lambda: "unhealthy" in reasons(ends) and not ends.status()["pending"], SOON_S, keeper.said)
    time.sleep(3)
    assert ends.status()["owner"] == owner
    begun = time.monotonic()
    ends.a.ip("addr flush dev tun-a")
    wait_until(lambda: "10.80.0.2" in ends.a.ip("addr show dev tun-a"), 5, "pings that nobody answers hold up no repair")
    assert time.monotonic() - begun < 5
    ends.tunctl.run("forget", "--all")
    assert "tun-a" not in ends.a.ip("link")


def test_a_peer_that_moved_is_looked_up_again(ends: Ends) -> None:
    """Dynamic DNS: data is sent, nothing comes back, and long before the handshake is too old its name is looked up again."""
    ends.a.write_etc("hosts", "127.0.0.1 localhost\n192.0.2.2 vpn.test\n")
    file = connect(ends, '[tunnels.office.health]\ninterval = "1s"\n')
    text = ends.a.dir / "d.toml"
    text.write_text(text.read_text().replace("192.0.2.2:51820", "vpn.test:51820"))
    ends.a.tunctl("apply", file)
    daemon = ends.a.start(ends.a.tunctl_argv("daemon"))  # it sees the host's own /etc/hosts
    wait_until(lambda: is_connected(ends), SOON_S)
    (wire,) = ends.b.ip_json("link show dev veth0")
    ends.a.ip(f"neigh replace 192.0.2.2 lladdr {wire['address']} dev veth0")  # somebody takes the packets there, in silence
    ends.b.ip("addr del 192.0.2.2/24 dev veth0")
    ends.b.ip("addr add 192.0.2.77/24 dev veth0")
    ends.a.write_etc("hosts", "127.0.0.1 localhost\n192.0.2.77 vpn.test\n")

    def moved() -> bool:
        ends.pings()  # somebody sends
        return any(peer["endpoint"] == "192.0.2.77:51820" for peer in ends.status()["peers"])

    wait_until(moved, 60, "its new address")
    wait_until(lambda: is_connected(ends) and not ends.pings(), SOON_S, "it works again")
    daemon.terminate()
    assert daemon.wait(10) == 0


@pytest.mark.parametrize("with_daemon", [False, True])
@pytest.mark.parametrize(
    ("health", "said"),
    [("", "peer berlin: no handshake yet"), (HEALTH, "never answered|no health check has seen it work yet")],
    ids=["without", "with"],
)
def test_waiting_is_for_what_was_seen(ends: Ends, health: str, said: str, with_daemon: bool) -> None:
    """`apply --wait`: a handshake, and an answer, not only an interface."""
    file = connect(ends, health)
    ends.tunctl.run("down", "office")
    if with_daemon:
        ends.keep()
    ends.drop("udp sport 51820 drop")
    done = ends.tunctl.run("apply", file, "--wait", "--timeout", "3s", expect=1)
    assert re.search(said, done.stderr), done.stderr
    ends.mend()
    ends.tunctl.run("apply", file, "--wait", "--timeout", "40s")
    assert ends.status()["peers"][0]["latest_handshake"]
    assert is_connected(ends)


def test_while_one_waits_repairs_go_on(ends: Ends) -> None:
    file = connect(ends)
    keeper = ends.keep()
    wait_until(lambda: is_connected(ends), SOON_S, keeper.said)
    ends.drop()
    waiting = ends.a.start(ends.a.tunctl_argv("apply", file, "--wait", "--timeout", "60s"))
    wait_until(lambda: "unhealthy" in reasons(ends), SOON_S)
    ends.a.ip("addr flush dev wg-a")
    wait_until(lambda: "10.80.0.2" in ends.a.ip("addr show dev wg-a"), 20, "nobody waits for who waits")
    ends.mend()
    assert waiting.wait(60) == 0
