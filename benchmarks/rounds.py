"""One round of each measurement. A round measures tunctl and its reference one after the other, in the same minute on the
same machine: the ratio travels, the seconds do not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping

from benchmarks.stand import Sample, Stand, stand

DEV = "tun-bench"
Round = Mapping[str, Sample]

_HEAD = "version = 1\n"
TUN = """
[tunnels.t{number}]
driver = "tun"
interface = "tun-b{number}"
addresses = ["10.{high}.{low}.1/32"]
[tunnels.t{number}.tun]
[[tunnels.t{number}.routes]]
to = ["10.{high}.{low}.0/24", "fd00:{number}::/64"]
"""
WIREGUARD = """
[tunnels.w{number}]
driver = "wireguard"
interface = "wg-b{number}"
addresses = ["10.{high}.{low}.1/32"]
[tunnels.w{number}.wireguard]
private_key_file = "{number}.key"
backend = "userspace"
[[tunnels.w{number}.wireguard.peers]]
public_key = "6cM35egc2hX5y0Qi/YgyqaGGWF3YxsSjNRhGqlAiGQk="
endpoint = "127.0.0.1:9"
allowed_ips = ["10.{high}.{low}.0/24", "fd00:{number}::/64"]
"""
_BIG = """
[tunnels.big]
driver = "tun"
interface = "tun-bench"
addresses = ["10.255.0.1/32"]
[tunnels.big.tun]
"""
_FROM_FILE = """
[[tunnels.big.routes]]
to_file = "prefixes.txt"
"""


def bare(at: Stand) -> Sample:
    """The interpreter alone: the least that any Python program costs."""
    return at.time([sys.executable, "-c", "pass"])


def status_rounds(template: str, tunnels: int, rounds: int) -> Iterator[Round]:
    """`tunctl status` beside a bare interpreter; the tunnels stand for all rounds."""
    with stand() as at:
        for number in range(tunnels):
            at.write(f"{number}.key", b64encode(os.urandom(32)).decode()).chmod(0o600)
        blocks = [template.format(number=n, high=100 + n // 250, low=n % 250) for n in range(tunnels)]
        at.write("desired.toml", _HEAD + "".join(blocks))
        at.tunctl("apply", "desired.toml")
        degraded = 3 if template is TUN else 0  # nobody has opened these devices
        at.tunctl("status", expect=degraded)
        for _ in range(rounds):
            yield {"bare": bare(at), "status": at.tunctl("status", expect=degraded)}


def plan_rounds(tunnels: int, rounds: int) -> Iterator[Round]:
    """`tunctl plan` of the file that was applied, and of one in which an address differs, beside a bare interpreter."""
    with stand() as at:
        text = _HEAD + "".join(TUN.format(number=n, high=100, low=n) for n in range(tunnels))
        at.write("desired.toml", text)
        at.tunctl("apply", "desired.toml")
        for _ in range(rounds):
            interpreter, unchanged = bare(at), at.tunctl("plan", "desired.toml")
            at.write("desired.toml", text.replace("10.100.0.1/32", "10.100.99.1/32"))
            changed = at.tunctl("plan", "desired.toml", expect=2)
            at.write("desired.toml", text)
            yield {"bare": interpreter, "unchanged": unchanged, "changed": changed}


def route_rounds(routes: int, rounds: int) -> Iterator[Round]:
    """Routes from a file: the apply without them, with them, the second one; and `ip -batch` doing the same."""
    prefixes = [f"{10 + (n >> 18)}.{n >> 10 & 255}.{n >> 2 & 255}.{(n & 3) << 6}/26" for n in range(routes)]
    for number in range(rounds):
        if number % 2:  # neither has always the warmer machine
            yield {**_by_tunctl(prefixes), **_by_ip(prefixes)}
        else:
            yield {**_by_ip(prefixes), **_by_tunctl(prefixes)}


def _by_tunctl(prefixes: list[str]) -> Round:
    with stand() as at:
        at.write("prefixes.txt", "\n".join(prefixes) + "\n")
        at.write("desired.toml", _HEAD + _BIG)
        without = at.tunctl("apply", "desired.toml")
    with stand() as at:
        at.write("prefixes.txt", "\n".join(prefixes) + "\n")
        at.write("desired.toml", _HEAD + _BIG + _FROM_FILE)
        first = at.tunctl("apply", "desired.toml")
        _must_be_there(len(prefixes))
        second = at.tunctl("apply", "desired.toml")
        subprocess.run(["ip", "link", "del", DEV], check=True)
        again = at.tunctl("apply", "desired.toml")
        _must_be_there(len(prefixes))
    return {"without": without, "apply": first, "second": second, "again": again, **_by_daemon(prefixes)}


def _by_daemon(prefixes: list[str]) -> Round:
    """The same through a daemon; and once more, with another prefix for the last one."""
    with stand() as at, at.daemon() as daemon:
        at.write("desired.toml", _HEAD + _BIG)
        daemon.tunctl("apply", "desired.toml")
        daemon.tunctl("down", "--all")  # now there is a store, as there is where a daemon runs
        at.write("prefixes.txt", "\n".join(prefixes) + "\n")
        at.write("desired.toml", _HEAD + _BIG + _FROM_FILE)
        through = daemon.tunctl("apply", "desired.toml")
        _must_be_there(len(prefixes))
        at.write("prefixes.txt", "\n".join((*prefixes[:-1], "192.0.2.0/26")) + "\n")
        changed = daemon.tunctl("apply", "desired.toml")
        _must_be_there(len(prefixes))
        return {"through": through, "changed": changed}


def _by_ip(prefixes: list[str]) -> Round:
    with stand() as at:
        batch = at.write("batch", "".join(f"route add {prefix} dev {DEV} proto 115\n" for prefix in prefixes))
        subprocess.run(["ip", "tuntap", "add", DEV, "mode", "tun"], check=True)
        try:
            subprocess.run(["ip", "link", "set", DEV, "up"], check=True)
            added = at.time(["ip", "-batch", batch])
            _must_be_there(len(prefixes))
            return {"ip": added}
        finally:
            subprocess.run(["ip", "link", "del", DEV], check=True)


def _must_be_there(count: int) -> None:
    done = subprocess.run(["ip", "route", "show", "dev", DEV, "proto", "115"], check=True, capture_output=True)
    there = done.stdout.count(b"\n")
    if there != count:
        raise RuntimeError(f"{there} routes are there, not {count}")
