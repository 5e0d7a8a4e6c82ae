"""A full WireGuard tunnel with NAT for a LAN behind the host, and name servers: all that one tunnel can do to a host."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.netns import site as sites
from tests.netns.names import serve
from tests.netns.site import LAN4, LAN6, Site, nat
from tests.netns.world import Host

FULL = """
version = 1
source = "full"
[tunnels.full]
driver = "wireguard"
interface = "wg-full"
addresses = ["10.8.0.2/32"]
[tunnels.full.wireguard]
private_key_file = "wg.key"
[[tunnels.full.wireguard.peers]]
public_key = "{public}"
endpoint = "203.0.113.10:51820"
allowed_ips = ["0.0.0.0/0", "::/0"]
keepalive = "1s"
[tunnels.full.dns]
servers = ["10.8.0.1"]
"""
NAMED = "198.51.100.1"  # what the tunnel's name server says of every name


@pytest.fixture
def whole(hosts: Callable[[str], Host]) -> Site:
    return build(hosts)


def build(new: Callable[[str], Host]) -> Site:
    """With d.toml, not applied yet; its server is the gateway, 10.8.0.1 inside, with a name server."""
    site = sites.build(new)
    cl, gw = site.cl, site.gw
    keys = {host: host.run(["wg", "genkey"]).stdout.strip() for host in (cl, gw)}
    public = {host: host.run(["wg", "pubkey"], stdin=key).stdout.strip() for host, key in keys.items()}
    files = {host: host.write("wg.key", key + "\n", 0o600) for host, key in keys.items()}
    owner = gw.start_wireguard("wgs")
    words = f"set wgs private-key {files[gw]} listen-port 51820 peer {public[cl]} allowed-ips 10.8.0.2/32"
    gw.run_beside(owner.pid, ["wg", *words.split()])
    gw.ip("addr add 10.8.0.1/24 dev wgs")
    gw.ip("link set wgs up")
    serve(gw, "10.8.0.1", NAMED)
    entries = (nat(LAN4), nat(LAN6), nat(LAN4, out="tunnel"))
    cl.write("d.toml", FULL.format(public=public[gw]) + "".join(entries).replace("NAME", "full"))
    cl.write_etc("resolv.conf", "# written by a person\nnameserver 192.168.50.1\n")
    return site
