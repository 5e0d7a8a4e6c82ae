"""Many tunnels: coming up, looked at once more, going down, beside `ip` doing the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.stand import Sample, Stand, stand

Round = dict[str, Sample]

_BLOCK = """
[tunnels.t{number}]
driver = "tun"
interface = "tun-b{number}"
addresses = ["{address}/32"]
[tunnels.t{number}.tun]
[[tunnels.t{number}.routes]]
to = {to}
"""
_LISTS = (("link",), ("address",), ("-4", "route", "show", "table", "all"), ("-6", "route", "show", "table", "all"),
          ("-4", "rule"), ("-6", "rule"))  # fmt: skip


def _routes(number: int) -> list[str]:
    return [f"10.{number >> 6}.{(number & 63) << 2 | part}.0/24" for part in range(4)] + [
        f"172.{16 + (number >> 8)}.{number & 255}.0/24"
    ]


def _address(number: int) -> str:
    return f"192.168.{number >> 8}.{number & 255}"


def desired(count: int) -> str:
    """A file with so many tunnels: a TUN device, an address, five routes each."""
    blocks = (_BLOCK.format(number=n, address=_address(n), to=str(_routes(n)).replace("'", '"')) for n in range(count))
    return "version = 1\n" + "".join(blocks)


def _batch(count: int) -> str:
    lines = []
    for n in range(count):
        dev = f"tun-b{n}"
        lines += [f"tuntap add {dev} mode tun", f"address add {_address(n)}/32 dev {dev}", f"link set {dev} up"]
        lines += [f"route add {to} dev {dev}" for to in _routes(n)]
    return "\n".join(lines) + "\n"


def rounds(count: int, times: int) -> Iterator[Round]:
    """`one`: the apply of a single tunnel. The second apply beside full lists by `ip -j`."""
    for number in range(times):
        if number % 2:  # neither has always the warmer machine
            yield {**_by_tunctl(count), **_by_ip(count)}
        else:
            yield {**_by_ip(count), **_by_tunctl(count)}


def _by_tunctl(count: int) -> Round:
    with stand() as at:
        at.write("desired.toml", desired(1))
        one = at.tunctl("apply", "desired.toml")
    with stand() as at:
        at.write("desired.toml", desired(count))
        made = {"one": one, "apply": at.tunctl("apply", "desired.toml")}
        _must_be_there(count)
        made["second"] = at.tunctl("apply", "desired.toml")
        made["status"] = at.tunctl("status", expect=3)  # nobody has opened these devices
        made["lists"] = lists(at)
        made["down"] = at.tunctl("down", "--all")
        _must_be_there(0)
        return made


def lists(at: Stand) -> Sample:
    """All links, addresses, routes and rules as JSON: six commands, as one."""
    samples = [at.time(["ip", "-j", *words]) for words in _LISTS]
    return Sample(sum(s.seconds for s in samples), sum(s.cpu_s for s in samples), max(s.rss_mb for s in samples), 0)


def _by_ip(count: int) -> Round:
    with stand() as at:
        up = at.time(["ip", "-batch", at.write("up", _batch(count))])
        _must_be_there(count)
        gone: Path = at.write("down", "".join(f"link del tun-b{n}\n" for n in range(count)))
        down = at.time(["ip", "-batch", gone])
        _must_be_there(0)
        return {"ip": up, "ip down": down}


def _must_be_there(count: int) -> None:
    done = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True)
    there = done.stdout.count(b" tun-b")
    if there != count:
        raise RuntimeError(f"{there} links are there, not {count}")
