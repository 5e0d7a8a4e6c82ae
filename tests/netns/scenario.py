"""What the scenario tests share: desired files, and small looks from outside. Nothing here knows how tunctl is built."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.netns.world import Host

PROGRAMS = Path(__file__).parents[1] / "programs"
HOLDER = [sys.executable, str(PROGRAMS / "holder.py"), "{interface}"]

STATUS_KEYS = {
    "name", "driver", "verdict", "reasons", "unobserved", "state", "held", "interface", "ifindex", "addresses",
    "last_addresses", "mtu", "since", "duration_seconds", "generation", "source", "owner", "counters", "peers", "listen",
    "routes", "excluded", "dns", "nat", "attempt", "next_retry_at", "pending",
}  # fmt: skip
STEP_KEYS = {"tunnel", "verb", "kind", "text", "wanted", "found"}


def desired(*tunnels: str, source: str | None = "test", host: str = "") -> str:
    """A desired file."""
    named = f'source = "{source}"\n' if source else ""
    return f"version = 1\n{named}{host}\n" + "\n".join(tunnels)


def tun(
    name: str = "demo",
    *,
    interface: str | None = None,
    addresses: Iterable[str] = ("10.9.0.2/32",),
    routes: Iterable[str] = ("10.20.0.0/16",),
    keys: str = "",
    tables: str = "",
) -> str:
    """A persistent device: the quickest tunnel there is. `interface` is tun-NAME unless said otherwise."""
    return _tunnel(name, "tun", interface, addresses, routes, keys, tables)


def exec_(
    name: str = "demo",
    *words: str,
    command: Iterable[str] = HOLDER,
    interface: str | None = None,
    addresses: Iterable[str] = ("10.9.0.2/32",),
    routes: Iterable[str] = ("10.20.0.0/16",),
    keys: str = "",
    options: str = "",
    tables: str = "",
) -> str:
    """A tunnel with tests/programs/holder.py as its engine; `words` are the holder's habits, `options` lines of [exec]."""
    argv = json.dumps([*command, *words])
    section = f"[tunnels.{name}.exec]\ncommand = {argv}\n{options}\n"
    return _tunnel(name, "exec", interface, addresses, routes, keys, section + tables)


def wireguard(name: str, key_file: str, *, keys: str = "", options: str = "", peers: str = "") -> str:
    """A WireGuard tunnel by wireguard-go."""
    section = f'[tunnels.{name}.wireguard]\nprivate_key_file = "{key_file}"\nbackend = "userspace"\n{options}\n{peers}'
    return _tunnel(name, "wireguard", None, (), (), keys, section)


def _tunnel(
    name: str, driver: str, interface: str | None, addresses: Iterable[str], routes: Iterable[str], keys: str, tables: str
) -> str:
    device = interface or f"tun-{name}"
    to = json.dumps(list(routes))
    head = f'[tunnels.{name}]\ndriver = "{driver}"\ninterface = "{device}"\naddresses = {json.dumps(list(addresses))}\n{keys}\n'
    return head + tables + (f"[[tunnels.{name}.routes]]\nto = {to}\n" if routes else "")


def key_pair(host: Host, name: str) -> str:
    """A private key file of tunctl's own making in the host's directory → the public key."""
    host.tunctl("key", "generate", "--type", "x25519", "--out", name)
    return host.tunctl("key", "public", "--in", name).stdout.strip()


def handles_file(host: Host, name: str = "demo") -> Path:
    return host.run_dir / "tunnels" / name / "handles.json"


def rewrite_handles(host: Host, name: str = "demo", **values: object) -> None:
    """Changes what a hint says, as a stale file would."""
    path = handles_file(host, name)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def verdict(host: Host, name: str = "demo", *, expect: int | None = None) -> dict[str, Any]:
    """What status says of one tunnel."""
    (tunnel,) = host.json("status", name, expect=expect)["tunnels"]
    return dict(tunnel)


def reasons(host: Host, name: str = "demo", *, expect: int | None = None) -> str:
    return "\n".join(verdict(host, name, expect=expect)["reasons"])


def dump(host: Host) -> str:
    """The store as text."""
    connection = sqlite3.connect(f"file:{host.state_dir}/intent.db?mode=ro", uri=True)
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


def files(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below, with inode, size and time of change: equal, nothing was written."""
    seen = {}
    for path in sorted([directory, *directory.rglob("*")]) if directory.exists() else ():
        state = path.lstat()
        seen[str(path)] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return seen


def links(host: Host) -> list[str]:
    """The names of all interfaces but lo."""
    return [link["ifname"] for link in host.ip_json("link") if link["ifname"] != "lo"]


def proto_routes(host: Host) -> list[str]:
    """All routes with our protocol, both families."""
    found = [*host.ip_json("-4 route show table all proto 115"), *host.ip_json("-6 route show table all proto 115")]
    return [route["dst"] for route in found]


def settled(host: Host) -> list[str]:
    """A snapshot while tunnels are up, without what the kernel does to them in its own time."""
    lines = host.snapshot().splitlines()
    return sorted(line for line in lines if "fe80" not in line and "ff00::/8" not in line)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def send(pid: int, number: int = signal.SIGKILL) -> None:
    """Signals one process that the test's own tunnel started, by pidfd."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)
