"""Names of endpoints and the daemon: who does not answer holds up nobody, and what has changed is heard of."""

from __future__ import annotations

import time

import pytest

from tests.netns.names import serve
from tests.netns.world import Host, wait_until

pytestmark = pytest.mark.bound(240)
SOON_S = 30
LOOK_UP_S = 3.0  # what a look-up may take: whoever waits for one is not quicker
RARELY = '[host]\nreconcile_interval = "5m"\n'
DEMO = (
    '[tunnels.demo]\ndriver = "tun"\ninterface = "tun-demo"\naddresses = ["10.9.0.2/32"]\nroutes = [{ to = "10.9.128.0/20" }]\n'
)
OFFICE = """
[tunnels.office]
driver = "wireguard"
interface = "wg-office"
addresses = ["10.8.0.2/32"]
[tunnels.office.wireguard]
private_key_file = "wg.key"
backend = "userspace"
[[tunnels.office.wireguard.peers]]
public_key = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
endpoint = "vpn.example.net:51820"
allowed_ips = ["10.8.0.1/32"]
"""
ROUTE = "10.9.128.0/20 dev tun-demo"


@pytest.fixture
def file(host: Host) -> str:
    host.write("wg.key", host.tunctl("key", "generate", "--type", "x25519").stdout, 0o600)
    return str(host.write("d.toml", f"version = 1\nsource = 'names'\n{RARELY}{DEMO}{OFFICE}"))


def keep(host: Host) -> None:
    """A daemon that asks the name servers of this host."""
    host.start(host.tunctl_argv("daemon"), log="daemon.log")
    wait_until(lambda: host.json("status", expect=None)["daemon"]["running"], SOON_S, lambda: said(host))


def said(host: Host) -> str:
    return (host.dir / "daemon.log").read_text()


def endpoint(host: Host) -> str | None:
    (peer,) = host.json("status", "office", expect=None)["tunnels"][0]["peers"]
    return peer["endpoint"]


def repaired_s(host: Host) -> float:
    begun = time.monotonic()
    host.ip(f"route del {ROUTE}")
    wait_until(lambda: "proto 115" in host.ip("route show 10.9.128.0/20"), SOON_S, lambda: said(host))
    return time.monotonic() - begun


def test_one_that_does_not_answer_holds_up_nobody(host: Host, file: str) -> None:
    """Neither repairs of others nor what a user wants; it fails with "could not be resolved", and comes when it is known."""
    host.write_etc("resolv.conf", "nameserver 127.0.0.53\noptions timeout:30 attempts:5\n")
    silent = host.start(["socat", "-u", "UDP4-RECV:53,bind=127.0.0.53", "OPEN:/dev/null"])
    keep(host)
    host.tunctl("apply", file)
    assert endpoint(host) is None
    assert min(repaired_s(host) for _ in range(4)) < LOOK_UP_S / 2
    for _ in range(4):
        host.ip("link set tun-demo mtu 1300")  # passes, and look-ups beside them
        host.tunctl("down", "demo")  # no 75: nobody who waits for a name has the lock
        assert "tun-demo" not in host.ip("link")
        host.tunctl("up", "demo")
    host.kill(silent)
    serve(host, "127.0.0.53", "192.0.2.9")
    repaired_s(host)
    wait_until(lambda: endpoint(host) == "192.0.2.9:51820", SOON_S, lambda: said(host))


def test_down_without_a_daemon_does_not_wait_either(host: Host, file: str) -> None:
    host.write_etc("resolv.conf", "nameserver 127.0.0.53\noptions timeout:30 attempts:5\n")
    host.start(["socat", "-u", "UDP4-RECV:53,bind=127.0.0.53", "OPEN:/dev/null"])
    host.tunctl("apply", file)
    took = []
    for _ in range(3):
        begun = time.monotonic()
        host.tunctl("down", "demo")
        took.append(time.monotonic() - begun)
        host.tunctl("up", "demo")
    assert min(took) < LOOK_UP_S / 2


def test_another_answer_is_heard_with_the_next_look(host: Host, file: str) -> None:
    host.write_etc("hosts", "127.0.0.1 localhost\n192.0.2.1 vpn.example.net\n")
    keep(host)
    host.tunctl("apply", file)
    wait_until(lambda: endpoint(host) == "192.0.2.1:51820", SOON_S, lambda: said(host))
    host.write_etc("hosts", "127.0.0.1 localhost\n192.0.2.2 vpn.example.net\n")
    repaired_s(host)
    wait_until(lambda: endpoint(host) == "192.0.2.2:51820", SOON_S, lambda: said(host))
