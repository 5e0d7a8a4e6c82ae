"""Killed before and after the step that takes or gives back the names, with each of those who keep resolv.conf; and a
power cut that leaves a resolv.conf of ours on the disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

import pytest

from tests.netns import managers, names, world
from tests.netns.engines import kill
from tests.netns.faults import fault, was_killed
from tests.netns.layers import rooted
from tests.netns.names import ANSWERS, NOBODY, ORIGINAL, PUMP, UPLINK, answer, resolv_conf
from tests.netns.scenario import desired
from tests.netns.test_reboot import Booted
from tests.netns.world import Host, Uplink

FOLLOW_UPS = {
    "apply": (("kill-before", "reconcile"), ("kill-after", "down")),
    "down": (("kill-before", "apply"), ("kill-after", "reconcile")),
}
FAR = "table ip far { chain i { type filter hook input priority 0; iifname gw0 ip daddr 10.50.0.1 drop; }; }"


def plain(host: Host) -> Host:
    """A file that may be renamed over."""
    root = rooted(host)
    root.write_root("/etc/resolv.conf", ORIGINAL)
    return root


MACHINES: dict[str, Callable[[Host], Host]] = {
    "mounted": lambda host: host,
    "plain": plain,
    "openresolv": managers.openresolv,
    "debian": managers.debian_resolvconf,
    "resolved": lambda host: managers.resolved(host)[0],
}


def looks(host: Host) -> str:
    """The file, and what the manager has, but for what it says of links that come and go (numbers)."""
    said = [resolv_conf(host), host.run(["readlink", "/etc/resolv.conf"], check=False).stdout]
    if (records := host.run(["sh", "-c", "ls -R /run/resolvconf 2>/dev/null"], check=False).stdout) and "tunctl" in records:
        said.append(records)
    told = host.run(["sh", "-c", "resolvectl dns; resolvectl domain; resolvectl default-route"], check=False).stdout
    return "\n".join((*said, *(line for line in told.splitlines() if "tun-" in line)))


@pytest.mark.bound(120)
@pytest.mark.parametrize("what", MACHINES)
@pytest.mark.parametrize("command", ["apply", "down"])
def test_killed_before_and_after(uplink: Uplink, what: str, command: str) -> None:
    """Whatever comes next: the names are taken, or given back, whole."""
    cl = MACHINES[what](names.lab(uplink).cl)
    file = str(cl.write("d.toml", desired(names.tunnel())))
    words = {"apply": ("apply", file), "down": ("down", "demo"), "reconcile": ("reconcile",)}
    before = looks(cl)
    for when, follow_up in FOLLOW_UPS[command]:
        steps = cl.tunctl(*words["apply"]).stdout.splitlines()
        if command == "apply":
            cl.tunctl("forget", "--all")
        step = 1 if command == "down" else next(n for n, text in enumerate(steps, 1) if text.startswith("+ resolver "))
        assert was_killed(cl.tunctl(*words[command], expect=None, env=fault(f"{when}:{step}")))
        cl.tunctl(*words[follow_up])
        told = f"{command} {when} {step}, {follow_up}"
        if follow_up == "down" or (command == "down" and follow_up == "reconcile"):
            assert (looks(cl), answer(cl)) == (before, UPLINK), told
        else:
            assert answer(cl) == ANSWERS["demo"], told
        assert cl.tunctl("reconcile").stdout == "no changes\n", told
        cl.tunctl("forget", "--all")
    assert (looks(cl), answer(cl)) == (before, UPLINK)


@pytest.mark.parametrize("works", [True, False], ids=["comes up", "does not come up"])
def test_the_power_is_cut(uplink: Uplink, hosts: Callable[[str], Host], works: bool) -> None:
    """The disk has our file and the ledger; the machine has no tunnel. The endpoint has a name, which the servers of before
    know. Whether the tunnel comes up again or not, names are answered."""
    cl = names.lab(uplink).cl
    engine = cl.write("engine", f'#!/bin/sh\nexec {sys.executable} {PUMP} "$@"\n', 0o755)
    text = names.tunnel().replace(f'"{sys.executable}", "{PUMP}"', f'"{engine}"')
    remote = text.replace("[tunnels.demo.dns]", 'remote = ["vpn.test"]\n[tunnels.demo.dns]')
    cl.tunctl("apply", cl.write("d.toml", desired(remote)))
    assert answer(cl) == ANSWERS["demo"]
    after = hosts("after")
    after.write_etc("resolv.conf", resolv_conf(cl))
    shutil.copytree(cl.state_dir, after.state_dir)
    for pid in cl.pids():
        kill(pid)
    cl.ip("link del cl0")
    uplink.gw.ip("addr del 203.0.113.10/32 dev lo")
    uplink.gw.run(["nft", FAR])
    world.uplink(after, uplink.gw)
    assert answer(after) == NOBODY
    if not works:
        engine.write_text("#!/bin/sh\nexit 1\n")
    booted = Booted(after, "11111111-2222-3333-4444-555555555555")
    booted.tunctl("reconcile", expect=None)
    assert answer(after) == (ANSWERS["demo"] if works else UPLINK)
    booted.tunctl("down", "demo")
    assert (resolv_conf(after), answer(after)) == (ORIGINAL, UPLINK)
