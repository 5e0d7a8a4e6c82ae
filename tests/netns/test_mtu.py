"""`mtu = "auto"` of a program's device: from the way to its endpoints, and what the program is told of it."""

from __future__ import annotations

import os
import signal

from tests.netns.layouts import is_settled
from tests.netns.scenario import desired, exec_, key_pair, verdict, wireguard
from tests.netns.world import Uplink, wait_until

OPTIONS = 'device = "tunctl"\nremote = ["203.0.113.10"]'


def test_the_device_follows_the_way_and_the_program_is_told(uplink: Uplink) -> None:
    cl = uplink.cl
    cl.tunctl("apply", cl.write("d.toml", desired(exec_("demo", "--mtu={mtu}", options=OPTIONS))))
    first = verdict(cl, expect=0)
    assert first["mtu"] == 1420
    assert "--mtu=1420" in first["owner"]["command"]
    cl.ip("link set cl0 mtu 1300")
    assert "mtu 1420 != 1220" in verdict(cl, expect=3)["reasons"]
    cl.tunctl("reconcile")
    now = verdict(cl, expect=0)
    assert now["mtu"] == 1220
    assert "--mtu=1220" in now["owner"]["command"]
    assert is_settled(cl)
    cl.ip("route del default")  # no way, no opinion: nothing is started again for that
    cl.tunctl("reconcile")
    assert verdict(cl)["mtu"] == 1220
    assert verdict(cl)["owner"]["pid"] == now["owner"]["pid"]


def test_a_device_of_the_programs_own_is_the_programs(uplink: Uplink) -> None:
    cl = uplink.cl
    options = 'remote = ["203.0.113.10"]'
    cl.tunctl("apply", cl.write("d.toml", desired(exec_("demo", "--mtu={mtu}", options=options))))
    assert verdict(cl, expect=0)["mtu"] == 1500
    assert "--mtu=1500" in verdict(cl)["owner"]["command"]
    pid = verdict(cl)["owner"]["pid"]
    cl.ip("link set cl0 mtu 1300")
    cl.ip("link set tun-demo mtu 1400")
    cl.tunctl("reconcile")
    assert (verdict(cl, expect=0)["mtu"], verdict(cl)["owner"]["pid"]) == (1400, pid)


def test_wireguards_own_idea_of_an_mtu_needs_no_second_look(uplink: Uplink) -> None:
    """wireguard-go makes it 1420 when it opens the device."""
    cl = uplink.cl
    key_pair(cl, "wg.key")
    file = cl.write("d.toml", desired(wireguard("demo", "wg.key", keys="mtu = 1300")))
    for words in (("apply", file), ("reconcile",)):
        said = cl.tunctl(*words).stdout
        assert "owner wireguard-go" in said
        assert "~ link" not in said
        now = verdict(cl, expect=0)
        assert now["mtu"] == 1300
        os.kill(now["owner"]["pid"], signal.SIGKILL)
        wait_until(lambda: not verdict(cl)["owner"]["running"])
