"""`status` and `plan` beside a bare interpreter."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping

from benchmarks.stand import Sample, Stand, stand

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
