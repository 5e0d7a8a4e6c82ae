"""The units of packaging/ under a real systemd: installed as the README says, hardened, and at work in their sandbox."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.booted import Booted, booted
from tests.netns.engines import PROGRAMS
from tests.netns.faults import PYTHON
from tests.netns.world import PROJECT, Host, wait_until

pytestmark = pytest.mark.bound(240)
README = (PROJECT / "README.md").read_text()
PACKAGING = PROJECT / "packaging"
UNITS = ("tunctl.service", "tunctl-reconcile.service", "tunctl-reconcile.timer")
EXPOSURE = 38  # tenths: how much `systemd-analyze security` may find that a program on the loose could reach; 37 measured
SOON_S = 30
PREFIX = "/opt/tunctl"  # of the README's virtual environment
DESIRED = """
version = 1
source = "units"
[tunnels.wg]
driver = "wireguard"
interface = "wg-lab"
addresses = ["10.80.0.2/24", "fd00:80::2/64"]
[tunnels.wg.wireguard]
private_key_file = "/home/alice/wg.key"
backend = "userspace"
listen_port = 443
[[tunnels.wg.wireguard.peers]]
public_key = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
allowed_ips = ["10.87.0.0/16", "fd00:87::/32"]
[tunnels.prog]
driver = "exec"
interface = "tun-prog"
addresses = ["10.81.0.2/24"]
exec = { command = ["PYTHON", "DIR/holder.py", "{interface}"] }
[tunnels.prog.dns]
servers = ["10.81.0.53"]
domains = ["."]
[tunnels.made]
driver = "exec"
interface = "tun-made"
addresses = ["10.82.0.2/24"]
exec = { command = ["PYTHON", "DIR/holder.py", "{interface}"], device = "tunctl", user = "nobody" }
[tunnels.plain]
driver = "tun"
interface = "tun-plain"
addresses = ["10.83.0.2/24"]
[[tunnels.plain.nat]]
source = "10.77.0.0/24"
out = "uplink"
"""


@pytest.fixture
def machine(host: Host) -> Iterator[Booted]:
    """With an uplink, a systemd, and tunctl installed."""
    host.ip("link add cl0 type veth peer name gw0")
    host.ip("addr add 192.168.50.2/24 dev cl0")
    for dev in ("cl0", "gw0"):
        host.ip(f"link set {dev} up")
    host.ip("route add default via 192.168.50.1 dev cl0")
    for name in ("holder.py", "tun_device.py"):
        host.write(name, (PROGRAMS / name).read_text())
    for variable in ("TUNCTL_STATE_DIR", "TUNCTL_RUN_DIR"):
        del host.env[variable]
    with booted(host) as seen:
        install(seen)
        yield seen


def install(machine: Booted) -> None:
    """What `pip install` puts into the prefix, then the commands of the README."""
    shared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "shared-data"
    ]
    for source, place in shared.items():
        machine.run(["mkdir", "-p", f"{PREFIX}/{place}"])
        machine.run(["cp", "-r", f"{PROJECT}/{source}/.", f"{PREFIX}/{place}"])
    machine.run(["ln", "-s", Path(sys.executable).with_name("tunctl"), "/usr/local/bin/tunctl"])
    for line in commands("systemd-sysusers"):
        machine.run(["sh", "-ec", line])


def commands(word: str) -> list[str]:
    """Those of the README's block that has this word, without sudo, and without starting anything."""
    (block,) = (text for text in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if word in text)
    return [line.replace("sudo ", "") for line in block.splitlines() if "--now" not in line]


def declare(machine: Booted) -> None:
    """The tunnels are stored, and down: whoever is started next brings them up."""
    machine.run(["sh", "-ec", "mkdir -m 700 -p /home/alice && tunctl key generate --type x25519 --out /home/alice/wg.key"])
    machine.run(["chown", "12345", "/home/alice"])
    machine.run(["sh", "-c", "cat > /etc/resolv.conf && chown 12345 /etc/resolv.conf"], stdin="nameserver 192.168.50.1\n")
    file = machine.write("d.toml", DESIRED.replace("PYTHON", PYTHON).replace("DIR", str(machine.dir)))
    machine.run(["tunctl", "apply", file])
    wreck(machine)
    assert verdicts(machine) == dict.fromkeys(("wg", "prog", "made", "plain"), "stale")


def wreck(machine: Booted) -> None:
    """As after a reboot: nothing is left but the store and what is on the disk."""
    for pid in owners(machine).values():
        machine.run(["kill", "-KILL", str(pid)])
    for dev in ("wg-lab", "tun-prog", "tun-made", "tun-plain"):
        wait_until(lambda dev=dev: machine.run(["ip", "link", "del", dev], check=False).returncode, SOON_S)  # type: ignore[misc]
    machine.run(["nft", "flush", "ruleset"])
    machine.run(
        ["sh", "-c", "ip route flush proto 115 table all; for f in -4 -6; do while ip $f rule del proto 115; do :; done; done"]
    )
    machine.run(["sh", "-c", "rm -rf /run/tunctl; echo nameserver 192.168.50.1 > /etc/resolv.conf"])


def owners(machine: Booted) -> dict[str, int]:
    """The pids of engines that run."""
    document = json.loads(machine.run(["tunctl", "status", "--json"], check=False).stdout)
    return {t["name"]: t["owner"]["pid"] for t in document["tunnels"] if t["owner"] and t["owner"]["running"]}


def verdicts(machine: Booted) -> dict[str, str]:
    document = json.loads(machine.run(["tunctl", "status", "--json"], check=False).stdout)
    return {tunnel["name"]: tunnel["verdict"] for tunnel in document["tunnels"]}


def is_whole(machine: Booted) -> bool:
    """Nothing is left to be done, and nothing could not be seen."""
    done = machine.run(["tunctl", "plan"], check=False)
    return (done.returncode, done.stdout.strip()) == (0, "no changes")


def whole(machine: Booted, unit: str) -> None:
    """Until everything is as wanted."""
    try:
        wait_until(lambda: is_whole(machine), SOON_S)
    except AssertionError:
        raise AssertionError(machine.run(["tunctl", "plan"], check=False).stdout + machine.log(unit)) from None
    assert verdicts(machine) == {"wg": "connected", "prog": "connected", "made": "connected", "plain": "degraded"}


def main_pid(machine: Booted) -> int:
    return int(machine.systemctl("show", "-P", "MainPID", "tunctl"))


def test_units_are_understood_and_hardened(machine: Booted) -> None:
    done = machine.run(["systemd-analyze", "verify", "--man=no", *UNITS], check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "tunctl" in line]) == (0, [])
    for unit in UNITS[:2]:
        done = machine.run(["systemd-analyze", "security", "--no-pager", f"--threshold={EXPOSURE}", unit], check=False)
        assert done.returncode == 0, done.stdout


def test_groups_and_directories(machine: Booted) -> None:
    assert machine.run(["getent", "group", "tunctl"]).stdout.startswith("tunctl:x:")
    shown = machine.run(["stat", "-c", "%n %a %U:%G", "/run/tunctl", "/var/lib/tunctl"]).stdout
    assert shown == "/run/tunctl 755 root:root\n/var/lib/tunctl 755 root:root\n"


def test_the_daemon_in_its_sandbox(machine: Booted) -> None:
    """It makes everything anew that a machine can have, keeps it, and leaves it as it is when it ends."""
    declare(machine)
    machine.systemctl("enable", "--now", "tunctl")
    assert machine.systemctl("is-active", "tunctl") == "active"
    whole(machine, "tunctl")
    before = owners(machine)
    for path in before.values():
        assert "Seccomp:\t2" in machine.run(["cat", f"/proc/{path}/status"]).stdout, "engines are in the sandbox too"
    assert "10.81.0.53" in machine.run(["cat", "/etc/resolv.conf"]).stdout
    assert machine.run(["stat", "-c", "%u", "/etc/resolv.conf"]).stdout == "12345\n"
    assert "masquerade" in machine.run(["nft", "list", "ruleset"]).stdout
    assert machine.sysctl("net/ipv4/conf/cl0/forwarding") == "1"
    inside = ["nsenter", "-t", str(main_pid(machine)), "-m", "sh", "-c"]
    assert machine.run([*inside, "touch /usr/x /var/x /home/x"], check=False).stderr.count("Read-only file system") == 3
    entries = [json.loads(line) for line in machine.log("tunctl", "-o", "json").splitlines()]
    steps = [entry for entry in entries if entry["MESSAGE"].startswith("wg: + link")]
    assert [entry["PRIORITY"] for entry in steps] == ["6"]
    machine.systemctl("reload", "tunctl")
    machine.systemctl("stop", "tunctl")
    assert owners(machine) == before, "stopping it leaves the tunnels"
    assert is_whole(machine)
    said = machine.log("tunctl")
    machine.systemctl("start", "tunctl")  # it is ready after its first pass
    assert not re.search(r"(?m)^\w+: [-+~!] ", machine.log("tunctl").removeprefix(said)), "what works is adopted without a step"
    machine.run(["tunctl", "forget", "--all"])
    assert machine.run(["cat", "/etc/resolv.conf"]).stdout == "nameserver 192.168.50.1\n"


def test_a_daemon_that_dies_or_hangs_is_replaced(machine: Booted) -> None:
    declare(machine)
    machine.drop_in("tunctl.service", "WatchdogSec=3\nRestartSec=100ms")
    machine.systemctl("start", "tunctl")
    whole(machine, "tunctl")
    before = owners(machine)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        first = main_pid(machine)
        machine.run(["kill", f"-{number.value}", str(first)])
        wait_until(lambda: main_pid(machine) not in (0, first), SOON_S, machine.log("tunctl"))  # noqa: B023
        wait_until(lambda: machine.systemctl("is-active", "tunctl", check=False) == "active", SOON_S, machine.log("tunctl"))
        assert owners(machine) == before, "the engines have not noticed"
    machine.run(["ip", "link", "del", "tun-made"])
    whole(machine, "tunctl")


def test_a_store_that_cannot_be_read_does_not_hold_up_the_boot(machine: Booted) -> None:
    machine.run(["sh", "-c", "echo x > /var/lib/tunctl/intent.db"])
    begun = time.monotonic()
    machine.systemctl("start", "tunctl")
    assert time.monotonic() - begun < SOON_S
    assert machine.systemctl("is-active", "tunctl") == "active"
    assert "intent.db" in machine.log("tunctl", "-p", "err"), "it says so, and tries again"


def test_wrong_usage_is_not_tried_again(machine: Booted) -> None:
    machine.drop_in("tunctl.service", "ExecStart=\nExecStart=/usr/local/bin/tunctl daemon --bogus")
    machine.systemctl("start", "tunctl", check=False)
    wait_until(lambda: machine.systemctl("is-failed", "tunctl", check=False) == "failed", SOON_S)
    assert machine.systemctl("show", "-P", "NRestarts", "tunctl") == "0"


def test_the_timer(machine: Booted) -> None:
    """Without a daemon: brings everything up, and puts right what is broken at the next tick."""
    declare(machine)
    machine.drop_in("tunctl-reconcile.timer", "OnBootSec=\nOnBootSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=100ms")
    machine.systemctl("enable", "--now", "tunctl-reconcile.timer")
    whole(machine, "tunctl-reconcile")
    before = owners(machine)
    machine.run(["ip", "addr", "del", "10.81.0.2/24", "dev", "tun-prog"])
    whole(machine, "tunctl-reconcile")
    assert owners(machine) == before, "engines outlive the pass that started them"


def sections(unit: str) -> dict[str, list[str]]:
    """The lines of a unit without comments, by section."""
    found: dict[str, list[str]] = {}
    for line in (PACKAGING / "systemd" / unit).read_text().splitlines():
        if line.startswith("["):
            lines = found.setdefault(line, [])
        elif line and not line.startswith("#"):
            lines.append(line)
    return found


def test_both_services_have_the_same_sandbox() -> None:
    one, other = (sections(unit)["[Service]"] for unit in UNITS[:2])
    at, there = (lines.index(next(line for line in lines if line.startswith("Capability"))) for lines in (one, other))
    assert one[at:] == other[there:]


@pytest.mark.parametrize("name", ["tunctl.service", "tunctl-reconcile.timer"])
def test_the_readme_prints_the_unit_as_it_is(name: str) -> None:
    assert f"```ini\n{(PACKAGING / 'systemd' / name).read_text()}```" in README
