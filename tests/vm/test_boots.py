"""One machine, from the installation to the last command: three boots, one of them after a power cut. The tests are a story,
in this order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.vm.machine import Machine, wait_until
from tests.vm.tunnels import BEYOND, DESIRED, FILE, SOON_S, Flow, Tunctl, answers, declare, in_clear, reaches, who

pytestmark = [pytest.mark.bound(1800), pytest.mark.xdist_group("vm")]
README = (Path(__file__).parents[2] / "README.md").read_text()
UP = {"office": "connected", "full": "connected", "prog": "connected"}
LEFT_DOWN = {"held": "not-connected", "manual": "not-connected"}
CHANGED = (
    DESIRED.replace('"10.8.0.0/24"', '"10.8.0.0/16"')
    .replace('"10.9.0.2/24"', '"10.9.0.2/24", "10.9.0.3/32"')
    .replace('engine", "{interface}"', 'engine", "{interface}", "again"')
)
SILENT_DRIFT = "wg set wg-office peer $(cat /srv/keys/gw.pub) persistent-keepalive 11"  # no event tells of it
DROP_IN = "/run/systemd/system/tunctl.service.d"
EXPOSURE = 38  # tenths, as tests/netns/test_units.py has it
DNS_BEFORE = "nameserver 192.168.50.1"  # of the machine, as it was built


@pytest.fixture(scope="module")
def tunctl(machine: Machine) -> Tunctl:
    return Tunctl(machine)


def test_it_is_installed_as_the_readme_says(machine: Machine) -> None:
    machine.power_on()
    machine.booted()
    (block,) = (text for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "systemd-sysusers" in text)
    machine.sh(block.replace("sudo ", ""))
    assert machine.sh("systemctl is-active tunctl") == "active"
    units = "tunctl.service tunctl-reconcile.service tunctl-reconcile.timer"
    done = machine.run(["systemd-analyze", "verify", "--man=no", *units.split()], check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "tunctl" in line]) == (0, [])
    machine.run(["systemd-analyze", "security", "--no-pager", f"--threshold={EXPOSURE}", *units.split()[:2]])
    assert machine.sh("stat -c '%n %a %U' /run/tunctl /var/lib/tunctl") == "/run/tunctl 755 root\n/var/lib/tunctl 755 root"
    assert machine.sh("stat -c '%a %G' /run/tunctl/control.sock") == "660 tunctl"
    completed = machine.sh("bash -c 'source <(tunctl completion bash); complete -p tunctl'")
    assert completed.endswith(" tunctl")


def test_traffic(machine: Machine, tunctl: Tunctl) -> None:
    declare(machine)
    machine.sh("touch /srv/go")
    assert who(machine) == "192.0.2.1"
    machine.sh(f"ping -c1 -w60 {BEYOND}")
    assert in_clear(machine) == 1
    tunctl("apply", "--timeout", f"{SOON_S}s", FILE)
    tunctl("down", "held")
    tunctl.whole("tunctl")
    assert "wireguard" in machine.sh("ip -d link show wg-office")
    assert_it_works(machine, in_the_clear=1)
    assert tunctl.verdicts() == UP | LEFT_DOWN
    for pid in tunctl.owners().values():
        assert "Seccomp:\t2" in machine.sh(f"cat /proc/{pid}/status"), "engines are in the sandbox too"


def assert_it_works(machine: Machine, in_the_clear: int = 0) -> None:
    """Through the kernel's WireGuard, through the program's, and the names that are asked through it."""
    reaches(machine, "10.8.0.1")
    reaches(machine, BEYOND)  # by wg-full
    assert in_clear(machine) == in_the_clear
    assert who(machine) == "192.0.2.9"


def test_the_daemon_is_not_missed(machine: Machine, tunctl: Tunctl) -> None:
    """Read again, started anew, hung and killed for it: no packet is lost, and no step is taken."""
    before, said = tunctl.owners(), tunctl.steps("tunctl")
    flows = {address: Flow(machine, address) for address in ("10.8.0.1", BEYOND)}
    machine.sh(f"mkdir -p {DROP_IN}")
    machine.write(f"{DROP_IN}/vm.conf", "[Service]\nWatchdogSec=20\n")
    machine.sh(
        "systemctl daemon-reload; systemctl reload tunctl; systemctl restart tunctl"
    )  # until it has looked at everything
    machine.sh("kill -STOP $(systemctl show -P MainPID tunctl)")
    wait_until(lambda: machine.sh("systemctl show -P NRestarts tunctl") != "0", SOON_S, "systemd starts another one")
    wait_until(lambda: machine.sh("systemctl is-active tunctl", check=False) == "active", SOON_S, "it is at work")
    assert "Watchdog timeout" in machine.sh("journalctl -b -u tunctl -o cat")
    assert {address: flow.end() for address, flow in flows.items()} == {"10.8.0.1": [], BEYOND: []}
    assert tunctl.owners() == before
    assert tunctl.steps("tunctl") == said
    assert tunctl.verdicts() == UP | LEFT_DOWN
    machine.sh(f"rm -r {DROP_IN}; systemctl daemon-reload")


def test_it_is_stopped_while_an_engine_hangs(machine: Machine, tunctl: Tunctl) -> None:
    """It does not wait for the engine, which goes on without it; starting it again takes no step."""
    before, said = tunctl.owners(), tunctl.steps("tunctl")
    machine.sh(f"kill -STOP {before['full']}; systemctl reload tunctl; systemctl stop tunctl")
    assert machine.sh("systemctl show -P Result tunctl") == "success", "systemd did not have to kill it"
    machine.sh(f"kill -CONT {before['full']}")
    assert tunctl.owners() == before
    assert_it_works(machine, in_the_clear=1)
    machine.sh("systemctl start tunctl")  # until it is ready: after its first pass
    assert tunctl.owners() == before
    assert tunctl.steps("tunctl") == said


def test_the_clock_is_set(machine: Machine, tunctl: Tunctl) -> None:
    """F52: a day back, and on again: it looks at once, starts nothing anew, and tells the truth. Back comes first: WireGuard
    takes no handshake that looks older than the one before."""
    before, said = tunctl.owners(), tunctl.steps("tunctl")
    for step in ("-1 day", "+1 day"):
        told = tunctl("history", "office").stdout.splitlines()
        machine.sh(f"{SILENT_DRIFT}; date -s '{step}'")
        assert_it_has_looked(machine, tunctl)
        wait_until(lambda: tunctl("history", "office").stdout.splitlines()[:-1] == told, SOON_S, "it is told")  # noqa: B023
        last = tunctl("history", "office").stdout.splitlines()[-1]
        assert (last > told[-1]) == (step == "+1 day"), (last, told[-1], "what happened last is told last")
    assert tunctl.owners() == before
    steps = tunctl.steps("tunctl")[len(said) :]
    assert [step[: len("office: ~ peer")] for step in steps] == ["office: ~ peer"] * 2, steps
    assert_it_works(machine, in_the_clear=1)


def test_it_sleeps(machine: Machine, tunctl: Tunctl) -> None:
    """Suspended to memory and woken up: it looks at once, and finds what nobody has told it."""
    before, said = tunctl.owners(), tunctl.steps("tunctl")
    machine.sh(SILENT_DRIFT)
    machine.sleep()
    assert_it_has_looked(machine, tunctl)
    assert "PM: suspend exit" in machine.sh("dmesg")
    assert tunctl.owners() == before
    (step,) = tunctl.steps("tunctl")[len(said) :]
    assert step.startswith("office: ~ peer")
    assert_it_works(machine, in_the_clear=1)


def assert_it_has_looked(machine: Machine, tunctl: Tunctl) -> None:
    """At what no event tells of, long before the next pass by its interval."""
    wait_until(lambda: machine.sh("wg show wg-office persistent-keepalive").split()[-1] == "25", SOON_S, "it has looked")
    tunnels = tunctl.tunnels()
    assert {tunnel["name"]: tunnel["verdict"] for tunnel in tunnels} == UP | LEFT_DOWN, tunnels
    assert [tunnel["name"] for tunnel in tunnels if (tunnel["duration_seconds"] or 0) < 0] == []


def test_a_reboot(machine: Machine, tunctl: Tunctl) -> None:
    """With the timer, this time: what was up comes up, what was down stays down, and old hints mean nothing."""
    machine.sh("systemctl disable tunctl; systemctl enable tunctl-reconcile.timer; cp -rT /run/tunctl /srv/run")
    before = machine.sh("cat /srv/run/tunnels/full/handles.json")
    machine.reboot()
    machine.booted()
    tunctl.whole("tunctl-reconcile")
    assert tunctl.verdicts() == UP | LEFT_DOWN
    assert machine.sh("systemctl --failed --no-legend") == ""
    assert machine.sh("cat /run/tunctl/tunnels/full/handles.json") != before
    reaches(machine, "10.8.0.1")
    reaches(machine, BEYOND)
    assert who(machine) == "192.0.2.9"
    machine.sh("ip addr del 10.81.0.2/24 dev tun-prog; ip link del wg-office; kill -KILL $(pidof wireguard-go)")
    tunctl.whole("tunctl-reconcile")  # at its next tick
    reaches(machine, "10.8.0.1")
    reaches(machine, BEYOND)
    owners = tunctl.owners()
    machine.sh("systemctl disable --now tunctl-reconcile.timer; systemctl stop tunctl-reconcile; systemctl enable --now tunctl")
    assert tunctl.owners() == owners, "engines outlive the passes that started them"
    assert tunctl.steps("tunctl") == [], "the daemon takes over without a step"


def test_a_power_cut_in_the_middle_of_an_apply(machine: Machine, tunctl: Tunctl) -> None:
    """The next boot does what the apply had begun; what had worked blocks until it works again, and names are answered."""
    machine.sh("rm -r /srv/go /srv/run; cp -rT /run/tunctl /srv/run; touch /srv/eager")
    declare(machine, CHANGED)
    machine.start(["tunctl", "apply", "--keep-holds", "--timeout", f"{SOON_S}s", FILE])
    wait_until(lambda: machine.sh("pgrep -f '^/bin/sh /srv/engine'", check=False), SOON_S, "the new engine is waited for")
    machine.cut_power()
    machine.power_on()
    machine.booted()
    assert "10.9.0.1" in machine.sh("cat /run/resolv.conf.before"), "it was cut off with the tunnel's name server in place"
    machine.sh("systemctl is-active tunctl")
    wait_until(lambda: tunctl.verdicts()["office"] == "connected", SOON_S, "what needs nothing is up")
    assert machine.sh("ip route get 10.8.77.1").startswith("10.8.77.1 dev wg-office"), "as the new file says"
    assert tunctl.verdicts()["full"] in ("stale", "degraded")
    assert not answers(machine, BEYOND)
    assert "cl0" not in machine.sh(f"ip route get {BEYOND} 2>&1", check=False)
    wait_until(lambda: "No route to host" in machine.sh("journalctl -b -u eager --no-pager"), SOON_S, "somebody has tried")
    assert in_clear(machine) == 0
    assert who(machine) == "192.0.2.1", machine.sh("cat /etc/resolv.conf")
    assert tunctl.verdicts().items() >= LEFT_DOWN.items()
    machine.sh("touch /srv/go")
    tunctl.whole("tunctl")
    assert tunctl.verdicts() == UP | LEFT_DOWN
    assert_it_works(machine)
    assert tunctl("apply", "--keep-holds", FILE).stdout.startswith("no changes\n")


def test_nothing_is_left(machine: Machine, tunctl: Tunctl) -> None:
    machine.sh("rm /srv/eager; systemctl stop eager")
    tunctl("forget", "--all")
    machine.sh("systemctl disable --now tunctl")
    assert machine.sh("ip -br link | grep -c -E 'wg-|tun-' || true") == "0"
    assert machine.sh("ip route show table all proto 115; ip -6 route show table all proto 115") == ""
    rules = machine.sh("ip rule; ip -6 rule").splitlines()
    assert [rule.partition(":")[0] for rule in rules] == ["0", "32766", "32767", "0", "32766"]
    assert machine.sh("nft list ruleset") == ""
    assert machine.sh("cat /etc/resolv.conf") == DNS_BEFORE
    assert machine.sh("pidof wireguard-go || pgrep -f '^/usr/bin/python3 .*holder.py' || true") == ""
    reaches(machine, BEYOND)
    assert in_clear(machine) > 0
