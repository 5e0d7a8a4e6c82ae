"""A LAN behind the host under test, which is behind a gateway; both families, and a server beyond that says who asks."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.netns import world
from tests.netns.scenario import desired, tun
from tests.netns.world import Host

SERVER4, SERVER6 = "203.0.113.10", "2001:db8:99::10"
HOST4, HOST6 = "192.168.50.2", "2001:db8:50::2"
LAN4, LAN6 = "10.70.0.0/24", "fd70::/64"


class Site(NamedTuple):
    """lan 10.70.0.2, fd70::2 — lan0 cl cl0 192.168.50.2, 2001:db8:50::2 — gw, with 203.0.113.10 and 2001:db8:99::10."""

    lan: Host
    cl: Host
    gw: Host

    def seen_as(self, server: str = SERVER4, *, client: Host | None = None, port: int = 80) -> str:
        """The address that the server sees when somebody of the LAN connects over TCP; "" when nothing comes back."""
        to = f"TCP{'6' if ':' in server else ''}:{bracketed(server)}:{port},connect-timeout=1"
        done = (client or self.lan).run(["socat", "-T1", "-", to], check=False, stdin="")
        said = done.stdout.strip().strip("[]")
        return str(ipaddress.ip_address(said)) if said else ""

    def pings(self, server: str = SERVER4) -> bool:
        return self.lan.run(["ping", "-c", "1", "-W", "1", server], check=False).returncode == 0

    def file(self, *tunnels: str) -> Path:
        return self.cl.write("d.toml", desired(*tunnels))

    def rules(self) -> list[str]:
        """Our rules, as nft lists them."""
        listed = self.cl.run(["nft", "-s", "list", "table", "inet", "tunctl"], check=False).stdout
        return [line.strip() for line in listed.splitlines() if "comment" in line]


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def nat(source: str = LAN4, *, out: str = "uplink", more: str = "") -> str:
    return f'[[tunnels.NAME.nat]]\nsource = "{source}"\nout = "{out}"\n{more}\n'


def nat_tunnel(name: str = "demo", *entries: str, address: str = "10.9.0.2/32") -> str:
    """A tun with `nat` entries."""
    tables = "".join(entries or (nat(),)).replace("NAME", name)
    return tun(name, routes=(), addresses=(address,), tables=tables)


def answer(host: Host, family: str = "4") -> None:
    """Port 80 tells whoever connects his own address."""
    only = ",ipv6only=1" if family == "6" else ""
    host.start(["socat", f"TCP{family}-LISTEN:80,fork,reuseaddr{only}", "SYSTEM:echo $SOCAT_PEERADDR"])


def build(new: Callable[[str], Host]) -> Site:
    site = Site(new("lan"), new("cl"), new("gw"))
    lan, cl, gw = site
    world.uplink(cl, gw)
    cl.ip("-6 addr add 2001:db8:50::2/64 dev cl0 nodad")
    gw.ip("-6 addr add 2001:db8:50::1/64 dev gw0 nodad")
    gw.ip(f"-6 addr add {SERVER6}/128 dev lo")
    cl.ip("-6 route add default via 2001:db8:50::1 dev cl0")
    behind(site, lan)
    for family in ("4", "6"):
        answer(gw, family)
    for server in (SERVER4, SERVER6):
        world.wait_until(lambda server=server: site.seen_as(server, client=cl), 30, f"{server} answers")  # type: ignore[misc]
    return site


def behind(site: Site, lan: Host, dev: str = "lan0", four: str = "10.70.0", six: str = "fd70:") -> None:
    """A host that has cl as its router."""
    site.cl.ip(f"link add {dev} type veth peer name e0 netns {lan.name}")
    for host, end, number in ((site.cl, dev, 1), (lan, "e0", 2)):
        host.ip(f"addr add {four}.{number}/24 dev {end}")
        host.ip(f"-6 addr add {six}:{number}/64 dev {end} nodad")
        host.ip(f"link set {end} up")
    lan.ip(f"route add default via {four}.1")
    lan.ip(f"-6 route add default via {six}:1")
    for host, end in ((site.cl, dev), (lan, "e0")):
        world.wait_until(lambda host=host, end=end: "scope link" in host.ip(f"-6 addr show dev {end} -tentative"), 30, end)  # type: ignore[misc]
