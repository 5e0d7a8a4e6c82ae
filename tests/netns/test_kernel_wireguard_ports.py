"""Served ports of WireGuard in the kernel: no process has its sockets, and they are known all the same. `make test-vm`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from os import urandom
from typing import Any

import pytest

from tests.netns.kernel_ends import needs_wireguard, status
from tests.netns.serving import holding, hub, listen, record
from tests.netns.warm import Warm
from tests.netns.world import Host

pytestmark = [needs_wireguard, pytest.mark.bound(600)]  # in a virtual machine

SLOW_S = 120


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as tunctl:
        yield tunctl


def applied(host: Host, tunctl: Warm, *entries: str, expect: int = 0) -> str:
    if not (host.dir / "k").exists():
        host.write("k", b64encode(urandom(32)).decode(), 0o600)
    text = hub(*entries).replace('backend = "userspace"', 'backend = "kernel"')
    done = tunctl.run("apply", host.write("d.toml", text), expect=expect, timeout=SLOW_S)
    return done.stdout + done.stderr


def seen(tunctl: Warm, expect: int = 0) -> dict[str, Any]:
    """What status says of the tunnel; its row of `listen` as `udp`."""
    tunnel = status(tunctl, "hub", expect)
    (tunnel["udp"],) = tunnel["listen"]
    return tunnel


def test_the_next_free_port_and_back(host: Host, tunctl: Warm) -> None:
    with holding(host, 8443):
        applied(host, tunctl)
    told = seen(tunctl)
    assert told["owner"] is None
    assert told["udp"] == {"transport": "udp", "requested": "0.0.0.0:8443", "bound": "0.0.0.0:8444", "ours": True}
    assert record(host)["tunnels"]["hub"]["endpoints"] == {"udp": "0.0.0.0:8444"}
    assert applied(host, tunctl) == "no changes\n"
    assert "listen_port 8444 → 8443" in tunctl.run("endpoints", "rebind", "hub", timeout=SLOW_S).stdout
    assert seen(tunctl)["udp"]["bound"] == "0.0.0.0:8443"
    tunctl.run("down", "hub", timeout=SLOW_S)
    with holding(host, 8443):  # it is free again
        assert not record(host).get("tunnels")


def test_all_are_taken(host: Host, tunctl: Warm) -> None:
    """By another interface of the kernel's, which is named."""
    host.ip("link add wg-theirs type wireguard")
    host.run(["wg", "set", "wg-theirs", "listen-port", "8443"])
    host.ip("link set wg-theirs up")
    before = host.snapshot()
    assert "udp 0.0.0.0:8443 is held by interface wg-theirs" in applied(host, tunctl, listen("hub", scan=1), expect=73)
    assert host.snapshot() == before


def test_down_is_not_bound(host: Host, tunctl: Warm) -> None:
    """A device that somebody sets down has no socket: that is seen, and put right."""
    applied(host, tunctl)
    host.ip("link set tun-hub down")
    told = seen(tunctl, expect=3)
    assert told["udp"]["bound"] is None
    assert "is not bound" in "\n".join(told["reasons"])
    tunctl.run("reconcile", timeout=SLOW_S)
    assert seen(tunctl)["udp"]["bound"] == "0.0.0.0:8443"
