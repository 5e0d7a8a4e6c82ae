"""Where the name of an endpoint is looked up while a tunnel answers for all names: by the servers of the uplink, past it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns import managers, names
from tests.netns.engines import kill
from tests.netns.layouts import is_settled, way
from tests.netns.names import ANSWERS, answer, asked, serve
from tests.netns.scenario import desired, reasons
from tests.netns.world import Host, Uplink

FIRST, LATER = "203.0.113.1", "203.0.113.2"  # what the uplink's server says of the name, and then


def plain(host: Host) -> Host:
    """A file, and a server of the uplink that lies beyond the gateway: but for the mark it would be asked in the tunnel."""
    host.write_etc("resolv.conf", "nameserver 203.0.113.53\noptions timeout:1 attempts:1\n")
    return host


MACHINES: dict[str, Callable[[Host], Host]] = {
    "file": plain,
    "openresolv": managers.openresolv,
    "debian": managers.debian_resolvconf,
    "resolved": lambda host: managers.resolved(host)[0],
}


def server_of(what: str) -> str:
    return "203.0.113.53" if what == "file" else names.UPLINK_SERVER


@pytest.fixture
def machine(uplink: Uplink, what: str) -> Host:
    """The far end of a tunnel with its own idea of all names, and a machine of this sort."""
    uplink.gw.ip("addr add 203.0.113.53/32 dev lo")
    serve(uplink.gw, server_of(what), FIRST)
    names.far_end(uplink)
    return MACHINES[what](uplink.cl)


def full(remote: str) -> str:
    """All goes into it, and it answers for all names."""
    text = names.tunnel(keys='mtu = 1400\n[[tunnels.demo.routes]]\nto = "0.0.0.0/0"')
    return text.replace("[tunnels.demo.dns]", f'remote = ["{remote}", "192.168.50.1"]\n[tunnels.demo.dns]')


def pinned(host: Host) -> list[str]:
    """Where the name leads, by the routes of the host's own."""
    lines = host.ip("route show table 20000 type unicast").splitlines()
    return [line.split()[0] for line in lines if line.startswith(("203.0.113.", "198.51.100."))]


def say_another(gw: Host, server: str) -> None:
    """The server of the uplink says LATER from now on."""
    (pid,) = [pid for pid in gw.pids() if f"--listen-address={server}" in Path(f"/proc/{pid}/cmdline").read_text()]
    kill(pid)
    (gw.dir / f"dnsmasq-{server}.log").unlink()
    serve(gw, server, LATER)


@pytest.mark.parametrize("what", MACHINES)
def test_the_endpoint_is_where_the_uplink_says(uplink: Uplink, machine: Host, what: str) -> None:
    """Inside, the name means another address; and when the tunnel is dead, nobody answers there."""
    cl = machine
    cl.tunctl("apply", cl.write("d.toml", desired(full("vpn.test"))))
    assert answer(cl, "vpn.test") == ANSWERS["demo"]
    assert pinned(cl) == [FIRST]
    assert is_settled(cl)
    assert way(cl, FIRST) == "cl0"
    say_another(uplink.gw, server_of(what))
    for pid in [pid for pid in uplink.gw.pids() if "far-demo" in Path(f"/proc/{pid}/cmdline").read_text()]:
        kill(pid)
    cl.tunctl("reconcile")
    assert pinned(cl) == [LATER]
    assert "vpn.test" in asked(uplink.gw, server_of(what))
    cl.tunctl("down", "demo")
    assert answer(cl, "vpn.test") == LATER


@pytest.mark.parametrize("what", ["file"])
def test_what_the_uplink_does_not_know_the_tunnel_may(uplink: Uplink, machine: Host, what: str) -> None:
    """A tunnel in a tunnel: its endpoint has a name only there. And /etc/hosts comes before everybody."""
    cl = machine
    say_nothing(uplink.gw, server_of(what))
    cl.write_etc("hosts", f"127.0.0.1 localhost\n{FIRST} written.test\n")
    inner = (
        '[tunnels.inner]\ndriver = "exec"\ninterface = "tun-i"\n[tunnels.inner.exec]\n'
        f'command = ["{sys.executable}", "{names.PUMP}", "{{interface}}", "127.0.0.1:7777", "127.0.0.1:7778"]\n'
        'remote = ["inner.test", "written.test"]\n'
    )
    cl.tunctl("apply", cl.write("d.toml", desired(full("192.168.50.1"), inner)), expect=None)
    cl.tunctl("reconcile", expect=None)
    assert sorted(pinned(cl)) == sorted([ANSWERS["demo"], FIRST])
    assert "UNREACHABLE" not in reasons(cl, "demo", expect=None)


def say_nothing(gw: Host, server: str) -> None:
    """The server of the uplink refuses everything but one domain."""
    (pid,) = [pid for pid in gw.pids() if f"--listen-address={server}" in Path(f"/proc/{pid}/cmdline").read_text()]
    kill(pid)
    (gw.dir / f"dnsmasq-{server}.log").unlink()
    serve(gw, server, FIRST, "only.this")
