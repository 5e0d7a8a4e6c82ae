"""Other tools doing the same work: ifstate and wg-quick. They are given a network namespace in which nothing else is, and see
no names of others: ifstate removes every interface and every namespace that its file does not name.
"""

from __future__ import annotations

import os
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Sequence

from benchmarks.stand import PROJECT, Sample, stand

Round = dict[str, Sample]

IFSTATE = PROJECT / "build" / "ifstate" / "bin" / "ifstatecli"  # `make bench` installs it
_PEER = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
_ALLOWED = [f"10.{n}.0.0/16" for n in range(1, 6)]
_TUN = """version = 1
[tunnels.one]
driver = "tun"
interface = "tun-one"
addresses = ["192.168.9.1/32"]
[tunnels.one.tun]
[[tunnels.one.routes]]
to = {to}
"""
_WIREGUARD = """version = 1
[tunnels.wgq]
driver = "wireguard"
addresses = ["192.168.9.1/32"]
[tunnels.wgq.wireguard]
private_key_file = "wg.key"
backend = "userspace"
[[tunnels.wgq.wireguard.peers]]
public_key = "{peer}"
endpoint = "127.0.0.1:9"
allowed_ips = {allowed}
"""
_WG_QUICK = """[Interface]
PrivateKey = {key}
Address = 192.168.9.1/32
[Peer]
PublicKey = {peer}
Endpoint = 127.0.0.1:9
AllowedIPs = {allowed}
"""


def _toml(words: Sequence[str]) -> str:
    return str(list(words)).replace("'", '"')


def _yaml(routes: Sequence[str]) -> str:
    listed = "".join(f"  - to: {to}\n    dev: tun-one\n" for to in routes)
    return (
        "interfaces:\n  tun-one:\n    addresses:\n    - 192.168.9.1/32\n"
        "    link:\n      kind: tun\n      tun_type: tun\n      tun_persist: true\n      state: up\n"
        f"routing:\n  routes:\n{listed}"
    )


def tun_rounds(routes: int, times: int) -> Iterator[Round]:
    """One TUN device with an address and routes, brought up by a whole command, on a host that has had tunnels before."""
    _ensure_alone()
    to = [f"10.{n >> 8}.{n & 255}.0/24" for n in range(routes)]
    for _ in range(times):
        with stand() as at:
            at.write("desired.toml", _TUN.format(to='["10.255.255.0/24"]'))
            at.tunctl("apply", "desired.toml")
            at.tunctl("forget", "--all")
            at.write("desired.toml", _TUN.format(to=_toml(to)))
            made = {"apply": at.tunctl("apply", "desired.toml")}
            _must_have(routes, "proto", "115")
        with stand() as at:
            at.write("ifstate.yml", _yaml(to))
            made["ifstate"] = at.time([IFSTATE, "-c", "ifstate.yml", "apply"])
            _must_have(routes)
            subprocess.run(["ip", "link", "del", "tun-one"], check=True)
        yield made


def wireguard_rounds(times: int) -> Iterator[Round]:
    """One WireGuard tunnel by wireguard-go: `apply` through a daemon that runs, on a host that has had tunnels before, and
    `wg-quick up`."""
    key = b64encode(os.urandom(32)).decode()
    for _ in range(times):
        with stand() as at:
            at.write("wg.key", key).chmod(0o600)
            at.write("desired.toml", _WIREGUARD.format(peer=_PEER, allowed=_toml(_ALLOWED)))
            at.tunctl("apply", "desired.toml")
            at.tunctl("forget", "--all")
            with at.daemon() as running:
                made = {"apply": running.tunctl("apply", "desired.toml")}
                _must_have(len(_ALLOWED), "proto", "115", dev="wgq")
                at.tunctl("forget", "--all")
        with stand() as at:
            conf = at.write("wgq.conf", _WG_QUICK.format(key=key, peer=_PEER, allowed=", ".join(_ALLOWED)))
            conf.chmod(0o600)
            made["wg-quick"] = at.time(["wg-quick", "up", conf])
            _must_have(len(_ALLOWED), dev="wgq")
            at.time(["wg-quick", "down", conf])
        yield made


def _must_have(routes: int, *words: str, dev: str = "tun-one") -> None:
    done = subprocess.run(["ip", "-4", "route", "show", "table", "all", "dev", dev, *words], check=True, capture_output=True)
    there = sum(not line.startswith((b"local", b"broadcast")) for line in done.stdout.splitlines())
    if there != routes:
        raise RuntimeError(f"{there} routes are there, not {routes}")


def _ensure_alone() -> None:
    """RuntimeError when anything of others could be seen from here, and so be removed."""
    names = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True).stdout
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True).stdout.splitlines()
    if names or len(links) != 1:
        raise RuntimeError("other interfaces or namespaces can be seen from here")
