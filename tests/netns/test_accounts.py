"""A name service that hangs (LDAP behind a network that is down) holds nothing up."""

from __future__ import annotations

import os

import pytest

from tests.netns.world import NETNS_ETC, Host

TUN = """
version = 1
[tunnels.demo]
driver = "tun"
interface = "tun-demo"
"""


@pytest.fixture
def deaf(host: Host) -> Host:
    """/etc/passwd is a FIFO that nobody writes: looking a user up waits for ever, as a dead directory server would."""
    os.mkfifo(NETNS_ETC / host.name / "passwd")
    return host


def test_who_asked_is_told_by_number(deaf: Host) -> None:
    deaf.write("d.toml", TUN)
    deaf.tunctl("check", "d.toml")
    deaf.tunctl("apply", "d.toml", env={"SUDO_UID": "4711"})
    assert "by 4711" in deaf.tunctl("history").stdout
    assert deaf.tunctl("down", "demo", env={"SUDO_UID": "4711"}).stdout.startswith("- link tun-demo")


def test_a_user_that_cannot_be_looked_up_is_said_and_nothing_waits(host: Host) -> None:
    host.write("d.toml", TUN + 'tun = { owner = "nobody", group = "daemon" }\n')
    host.tunctl("apply", "d.toml")
    os.mkfifo(NETNS_ETC / host.name / "passwd")
    (tunnel,) = host.json("status", expect=None)["tunnels"]
    assert "does not answer" in " ".join(tunnel["reasons"])
    before = host.ip_json("link show dev tun-demo")
    host.tunctl("reconcile", expect=None)
    assert host.ip_json("link show dev tun-demo") == before
    host.tunctl("down", "demo", expect=None)
    assert "tun-demo" not in {link["ifname"] for link in host.ip_json("link")}


def test_check_does_not_wait_for_it(deaf: Host) -> None:
    deaf.write("d.toml", TUN + 'tun = { owner = "alice" }\n')
    assert "does not answer" in deaf.tunctl("check", "d.toml").stderr
