"""What is declared on the virtual machine, and what is asked of it. `root/usr/local/sbin/uplink` is what it is connected to."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any, NamedTuple

from tests.vm.machine import Machine, wait_until

BEYOND = "203.0.113.20"  # a host of the internet
FILE = "/etc/tunctl/desired.toml"
SOON_S = 600  # half a minute, on processors that have nothing else to do

# Nothing is repaired only because time goes by. `full` has an engine that starts when /srv/go is there. It takes everything and
# all names, and blocks when it is dead.
DESIRED = """
version = 1
[host]
reconcile_interval = "1h"
[tunnels.office]
driver = "wireguard"
interface = "wg-office"
addresses = ["10.8.0.2/24"]
[tunnels.office.wireguard]
private_key_file = "/srv/keys/office.key"
backend = "kernel"
[[tunnels.office.wireguard.peers]]
public_key = "HUB"
endpoint = "203.0.113.10:51820"
allowed_ips = ["10.8.0.0/24"]
keepalive = "25s"
[tunnels.full]
driver = "wireguard"
interface = "wg-full"
addresses = ["10.9.0.2/24"]
[tunnels.full.wireguard]
private_key_file = "/srv/keys/full.key"
backend = "userspace"
userspace_command = ["/srv/engine", "{interface}"]
[[tunnels.full.wireguard.peers]]
public_key = "HUB"
endpoint = "vpn.test:51821"
allowed_ips = ["0.0.0.0/0"]
keepalive = "25s"
[tunnels.full.dns]
servers = ["10.9.0.1"]
[tunnels.prog]
driver = "exec"
interface = "tun-prog"
addresses = ["10.81.0.2/24"]
exec = { command = ["/usr/bin/python3", "/srv/tunctl/tests/programs/holder.py", "{interface}"], user = "nobody" }
[[tunnels.prog.nat]]
source = "10.77.0.0/24"
out = "uplink"
[tunnels.held]
driver = "tun"
addresses = ["10.83.0.2/24"]
[tunnels.manual]
driver = "tun"
autostart = false
addresses = ["10.84.0.2/24"]
"""
ENGINE = '#!/bin/sh\nwhile [ ! -e /srv/go ]; do sleep 0.2; done\nexec wireguard-go -f "$1"\n'


class Tunctl(NamedTuple):
    """The commands of one machine."""

    machine: Machine

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.machine.run(["tunctl", *words], check=check, timeout=SOON_S + 60)

    def tunnels(self) -> list[dict[str, Any]]:
        """As `status` sees them. It answers within a second whatever it has not seen by then, which is little time here: one
        that says so is asked again."""
        told: dict[str, Any] = {}

        def are_seen() -> bool:
            told.clear()
            told.update(json.loads(self("status", "--json", check=False).stdout))
            return "tunnels" in told and all(tunnel["verdict"] != "unknown" for tunnel in told["tunnels"])

        wait_until(are_seen, SOON_S, lambda: f"status sees everything in time: {told}")
        found: list[dict[str, Any]] = told["tunnels"]
        return found

    def verdicts(self) -> dict[str, str]:
        return {tunnel["name"]: tunnel["verdict"] for tunnel in self.tunnels()}

    def owners(self) -> dict[str, int]:
        """The pids of engines that run."""
        return {t["name"]: t["owner"]["pid"] for t in self.tunnels() if t["owner"] and t["owner"]["running"]}

    def steps(self, unit: str) -> list[str]:
        """What it says that it has done, since the boot."""
        said = self.machine.sh(f"journalctl -b --no-pager -o cat -u {unit}")
        return re.findall(r"(?m)^(?:\w+: )?[-+~!] .*", said)

    def is_whole(self) -> bool:
        """Nothing is left to be done, and nothing could not be seen."""
        done = self("plan", check=False)
        return done.returncode == 0 and done.stdout.startswith("no changes\n")

    def whole(self, unit: str) -> None:
        """Until everything is as wanted; `unit` is whose work that is."""
        try:
            wait_until(self.is_whole, SOON_S, "the plan is empty")
        except AssertionError as error:
            said = self.machine.sh(f"tunctl plan; tunctl status; journalctl -b --no-pager -u {unit} | tail -n 60", check=False)
            raise AssertionError(f"{error}\n{said}") from None


def declare(machine: Machine, text: str = DESIRED) -> None:
    """Writes the desired file, and the engine it names."""
    machine.sh("mkdir -p /etc/tunctl")
    machine.write("/srv/engine", ENGINE, "755")
    machine.write(FILE, text.replace("HUB", machine.sh("cat /srv/keys/gw.pub")))
    machine.sh("sync")


class Flow:
    """Packets to an address and back, twice a second, until it ends."""

    def __init__(self, machine: Machine, address: str) -> None:
        self._machine, self._argv = machine, ["ping", "-n", "-i", "0.5", address]
        self._pid = machine.start(self._argv)

    def end(self) -> list[int]:
        """→ the numbers of those that were lost, of all until the last one that came back."""
        self._machine.run(["kill", "-INT", str(self._pid)])
        said = self._machine.wait(self._pid, self._argv).stdout
        came = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", said)}
        assert len(came) > 5, said
        return sorted(set(range(1, max(came))) - came)


def who(machine: Machine) -> str:
    """Whose name server answers: 192.0.2.1 is the uplink's, 192.0.2.9 is the one in the tunnel."""
    return machine.sh("getent ahostsv4 who.test | awk 'NR == 1 { print $1 }'", check=False)


def answers(machine: Machine, address: str) -> bool:
    return machine.run(["ping", "-c1", "-w5", address], check=False).returncode == 0


def reaches(machine: Machine, address: str) -> None:
    """Somebody answers there, sooner or later: an emulated machine may stand still for a while."""
    wait_until(lambda: answers(machine, address), SOON_S, f"{address} answers")


def in_clear(machine: Machine) -> int:
    """How many packets for BEYOND have come over the wire of the uplink since the machine was switched on."""
    told = json.loads(machine.sh("ip netns exec gw nft -j list counter inet wire clear"))
    return int(told["nftables"][1]["counter"]["packets"])
