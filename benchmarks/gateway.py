"""All that one tunnel can do to a host, and nothing to do: a full tunnel with NAT for a LAN and name servers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.looks import bare
from benchmarks.stand import Sample, Stand, stand

Round = dict[str, Sample]

_PASSES = 20  # a round: processor time is counted in ticks of 10 ms
_HOST = """
link add up0 type veth peer name up1
link add lan0 type veth peer name lan1
link set up0 up
link set up1 up
link set lan0 up
link set lan1 up
addr add 192.168.50.2/24 dev up0
addr add 2001:db8:50::2/64 dev up0 nodad
addr add 10.70.0.1/24 dev lan0
addr add fd70::1/64 dev lan0 nodad
route add default via 192.168.50.1 dev up0
route add ::/0 via 2001:db8:50::1 dev up0
"""
_DESIRED = """
version = 1
[tunnels.full]
driver = "wireguard"
interface = "wg-full"
addresses = ["10.8.0.2/32", "fd08::2/128"]
[tunnels.full.wireguard]
private_key_file = "full.key"
[[tunnels.full.wireguard.peers]]
public_key = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
endpoint = "203.0.113.10:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
[tunnels.full.dns]
servers = ["10.8.0.1"]
backend = "file"
[[tunnels.full.nat]]
source = ["10.70.0.0/24", "fd70::/64"]
out = "uplink"
[[tunnels.full.nat]]
source = ["10.70.0.0/24"]
out = "tunnel"
"""


def idle_rounds(times: int) -> Iterator[Round]:
    """Processor time of a pass of the daemon, of the whole command `reconcile`, and of a bare interpreter."""
    with stand() as at, _host(at):
        at.write("full.key", b64encode(os.urandom(32)).decode()).chmod(0o600)
        at.write("desired.toml", _DESIRED)
        at.tunctl("apply", "desired.toml")
        for _ in range(times):
            at.tunctl("reconcile")
            made = {"bare": bare(at), "reconcile": at.tunctl("reconcile")}
            with at.daemon() as running:
                before = running.cpu_s()
                for _ in range(_PASSES):
                    os.kill(running.pid, signal.SIGHUP)  # look now
                    time.sleep(0.2)
                spent = (running.cpu_s() - before) / _PASSES
                made["pass"] = Sample(spent, spent, running.rss_mb(), 0)
            yield made
        at.tunctl("down", "--all")


@contextmanager
def _host(at: Stand) -> Iterator[None]:
    """An uplink, a LAN, and a resolv.conf that is nobody else's."""
    at.write("host.ip", _HOST)
    at.time(["ip", "-batch", "host.ip"])
    names = at.write("resolv.conf", "nameserver 192.168.50.1\n")
    subprocess.run(["mount", "--bind", names, "/etc/resolv.conf"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)
        for dev in ("up0", "lan0"):
            at.time(["ip", "link", "del", dev])
