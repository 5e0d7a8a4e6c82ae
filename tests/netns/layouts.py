"""Tunnels for tests of the host's network: TUN devices without anybody behind them, and which way packets would take."""

from __future__ import annotations

import subprocess

from tests.netns.world import Host

HEAD = 'version = 1\nsource = "layout"\n'
BYPASS = 'on_failure = "bypass"'  # else nothing goes into a TUN to which no process is attached
OUTSIDE = "8.8.8.8"


def tun(name: str, prefixes: str, *, lines: str = BYPASS, entry: str = "", more: str = "") -> str:
    """The words of one tunnel: `lines` of its own, `entry` of its routes, `more` tables after that."""
    return f"""
[tunnels.{name}]
driver = "tun"
interface = "tun-{name}"
{lines}
[[tunnels.{name}.routes]]
to = [{", ".join(f'"{prefix}"' for prefix in prefixes.split())}]
{entry}
{more}
"""


def apply(host: Host, text: str, expect: int | None = 0, top: str = "") -> subprocess.CompletedProcess[str]:
    return host.tunctl("apply", host.write("d.toml", HEAD + top + text), expect=expect)


def is_settled(host: Host) -> bool:
    """A second apply of the same file does nothing."""
    return "no changes" in host.tunctl("apply", "d.toml").stdout


def way(host: Host, address: str, *words: str) -> str:
    """The device by which a packet to the address would leave, else what the kernel says about it."""
    done = host.run(["ip", *(["-6"] if ":" in address else []), "route", "get", address, *words], check=False)
    found = done.stdout.split()
    is_way = "dev" in found and found[0] not in ("unreachable", "blackhole", "prohibit")
    return found[found.index("dev") + 1] if is_way else done.stderr.strip() or done.stdout.strip()


def is_unreachable(host: Host, address: str, *words: str) -> bool:
    said = way(host, address, *words)
    return "No route to host" in said or "unreachable" in said
