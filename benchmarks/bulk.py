"""Many routes from a file, beside `ip -batch` adding the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from benchmarks.stand import Sample, Stand, stand

Round = dict[str, Sample]

DEV = "tun-bench"
PREFIXES = "prefixes.txt"
_BIG = """version = 1

[tunnels.big]
driver = "tun"
interface = "tun-bench"
addresses = ["198.18.0.1/32"]
[tunnels.big.tun]
"""
_FROM_FILE = f"""
[[tunnels.big.routes]]
to_file = "{PREFIXES}"
"""


def prefixes(count: int) -> list[str]:
    return [f"{32 + (n >> 18)}.{n >> 10 & 255}.{n >> 2 & 255}.{(n & 3) << 6}/26" for n in range(count)]


def big(at: Stand, routes: int) -> str:
    """A file of one tunnel with so many routes, whose prefixes stand beside it."""
    at.write(PREFIXES, "".join(f"{prefix}\n" for prefix in prefixes(routes)))
    return _BIG + (_FROM_FILE if routes else "")


def rounds(routes: int, times: int) -> Iterator[Round]:
    """The apply without them, with them, the second one, one with another prefix in the file, one after the link was lost."""
    for number in range(times):
        if number % 2:  # neither has always the warmer machine
            yield {**_by_tunctl(routes), **by_ip(routes)}
        else:
            yield {**by_ip(routes), **_by_tunctl(routes)}


def _by_tunctl(routes: int) -> Round:
    with stand() as at:
        at.write("desired.toml", big(at, 0))
        made = {"without": at.tunctl("apply", "desired.toml")}
    with stand() as at:
        at.write("desired.toml", big(at, routes))
        made["apply"] = at.tunctl("apply", "desired.toml")
        must_be_there(routes)
        made["second"] = at.tunctl("apply", "desired.toml")
        (at.dir / PREFIXES).write_text("".join(f"{one}\n" for one in [*prefixes(routes)[1:], "203.0.113.0/26"]))
        made["changed"] = at.tunctl("apply", "desired.toml")
        must_be_there(routes)
        subprocess.run(["ip", "link", "del", DEV], check=True)
        made["lost"] = at.tunctl("reconcile")
        must_be_there(routes)
        return made


def by_ip(routes: int) -> Round:
    with stand() as at:
        batch = at.write("batch", "".join(f"route add {prefix} dev {DEV} proto 115\n" for prefix in prefixes(routes)))
        subprocess.run(["ip", "tuntap", "add", DEV, "mode", "tun"], check=True)
        try:
            subprocess.run(["ip", "link", "set", DEV, "up"], check=True)
            added = at.time(["ip", "-batch", batch])
            must_be_there(routes)
            return {"ip": added}
        finally:
            subprocess.run(["ip", "link", "del", DEV], check=True)


def must_be_there(count: int) -> None:
    done = subprocess.run(["ip", "route", "show", "dev", DEV, "proto", "115"], check=True, capture_output=True)
    there = done.stdout.count(b"\n")
    if there != count:
        raise RuntimeError(f"{there} routes are there, not {count}")
