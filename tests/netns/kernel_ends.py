"""Hosts with WireGuard in the kernel, each kept by its own tunctl: desired files, and what `wg` says of the result."""

from __future__ import annotations

import contextlib
import json
import subprocess
from base64 import b64encode
from collections.abc import Iterable, Iterator
from os import urandom
from typing import Any, NamedTuple

import pytest

from reconciler.host import x25519
from reconciler.host.kernel_wireguard import is_known_to_the_kernel
from tests.netns.warm import Warm
from tests.netns.world import Host, Pair, wait_until

UNKNOWN = 5  # exit code of status
needs_wireguard = pytest.mark.skipif(
    not is_known_to_the_kernel(), reason="this kernel has no WireGuard; `make test-vm` brings one that has"
)


class WgPeer(NamedTuple):
    """A peer, as `wg show DEV dump` tells it."""

    preshared: str  # or (none)
    endpoint: str
    allowed: tuple[str, ...]
    handshake_s: int  # since the epoch
    rx_bytes: int
    tx_bytes: int
    keepalive: str  # seconds, or off


class End:
    """One tunnel of a host: its interface is its name."""

    def __init__(self, host: Host, tunctl: Warm, name: str, number: int) -> None:
        self.host, self.tunctl, self.name, self.number = host, tunctl, name, number
        raw = urandom(32)
        self.key = b64encode(raw).decode()
        self.public = b64encode(x25519.public(raw)).decode()
        self.port = 51800 + number
        self.keys = host.write(f"{name}.key", f"{self.key}\n", 0o600)

    @property
    def address(self) -> str:
        return f"10.50.0.{self.number}"

    @property
    def address6(self) -> str:
        return f"fd50::{self.number}"

    def peer(
        self, other: End, *, endpoint: str = "", allowed: Iterable[str] = (), keepalive: str = "25s", more: str = ""
    ) -> str:
        """The lines of another end as a peer of this one."""
        prefixes = json.dumps([other.address, other.address6, *allowed])
        place = f'endpoint = "{endpoint}"\n' if endpoint else ""
        wait = f'keepalive = "{keepalive}"\n' if keepalive else ""
        head = f'[[tunnels.{self.name}.wireguard.peers]]\npublic_key = "{other.public}"\nname = "{other.name}"\n'
        return f"{head}allowed_ips = {prefixes}\n{place}{wait}{more}\n"

    def text(self, *peers: str, backend: str = "kernel", port: int = 0, more: str = "") -> str:
        """The tables of this tunnel."""
        return (
            f'[tunnels.{self.name}]\ndriver = "wireguard"\naddresses = ["{self.address}/24", "{self.address6}/64"]\n{more}\n'
            f'[tunnels.{self.name}.wireguard]\nprivate_key_file = "{self.keys}"\nlisten_port = {port or self.port}\n'
            f'backend = "{backend}"\n' + "\n".join(peers)
        )

    def apply(self, *peers: str, backend: str = "kernel", port: int = 0, more: str = "") -> list[str]:
        """Applies a file with this tunnel alone; → the steps done."""
        return apply(self.tunctl, self.text(*peers, backend=backend, port=port, more=more))

    def wg(self, words: str) -> str:
        return self.host.run(["wg", *words.split()]).stdout.strip()

    def peers(self) -> dict[str, WgPeer]:
        """What the kernel has, by public key."""
        rows = [line.split("\t") for line in self.wg(f"show {self.name} dump").splitlines()[1:]]
        return {r[0]: WgPeer(r[1], r[2], _prefixes(r[3]), int(r[4]), int(r[5]), int(r[6]), r[7]) for r in rows}

    def settings(self) -> tuple[str, dict[str, WgPeer]]:
        """Everything of the device but what passes over it."""
        device = self.wg(f"show {self.name} dump").splitlines()[0]
        return device, {key: one._replace(handshake_s=0, rx_bytes=0, tx_bytes=0) for key, one in self.peers().items()}

    def kind(self) -> str:
        """Of the link."""
        (link,) = self.host.ip_json(f"-d link show dev {self.name}")
        return str(link["linkinfo"]["info_kind"])

    def status(self, *, expect: int | None = None) -> dict[str, Any]:
        return status(self.tunctl, self.name, expect)

    def ping(self, address: str, seconds: int = 12) -> None:
        """Until one answer: the first handshake may need a second try, 5 s later."""
        self.host.run(["ping", "-c", "1", "-w", str(seconds), address])

    def settled(self) -> None:
        """Applied again, nothing is left to do."""
        done = self.tunctl.run("apply", self.host.dir / "d.toml")
        assert done.stdout == "no changes\n"


@contextlib.contextmanager
def three(pair: Pair) -> Iterator[tuple[End, End, End]]:
    """wg0 on a, and its two peers wg1 and wg2, both on b; nothing is up."""
    with Warm(pair.a) as on_a, Warm(pair.b) as on_b:
        yield End(pair.a, on_a, "wg0", 1), End(pair.b, on_b, "wg1", 2), End(pair.b, on_b, "wg2", 3)


def peers_of(a: End, b: End, c: End) -> tuple[str, str]:
    """Both peers of the first end, by their addresses on the wire."""
    return a.peer(b, endpoint=f"192.0.2.2:{b.port}"), a.peer(c, endpoint=f"192.0.2.2:{c.port}")


def apply(tunctl: Warm, *tables: str, expect: int = 0) -> list[str]:
    """Applies a file with these tunnels; → the steps done."""
    file = tunctl.host.write("d.toml", 'version = 1\nsource = "test"\n' + "\n".join(tables))
    return [step["text"] for step in tunctl.json("apply", file, expect=expect)["steps"]]


def status(tunctl: Warm, name: str, expect: int | None) -> dict[str, Any]:
    """What it says of a tunnel. It answers within a second whatever it has not seen by then, which in an emulated machine is
    little time: one that says so is asked again."""
    said: list[str] = []

    def is_seen() -> bool:
        done = tunctl.run("status", name, "--json", expect=None, timeout=120)
        said[:] = [done.stdout, str(done.returncode)]
        return done.returncode != UNKNOWN

    wait_until(is_seen, what=lambda: f"status sees everything in time: {said}")
    assert expect is None or int(said[1]) == expect, said
    (tunnel,) = json.loads(said[0])["tunnels"]
    return dict(tunnel)


def _prefixes(text: str) -> tuple[str, ...]:
    return () if text == "(none)" else tuple(sorted(text.split(",")))


def listens(host: Host, port: int) -> bool:
    """Whether a UDP socket of this host has that port."""
    return f":{port} " in host.run(["ss", "-Hlun"]).stdout


def wireguard_link(host: Host, name: str, *, group: int = 0) -> None:
    """One that tunctl did not make."""
    host.ip(f"link add {name} {f'group {group} ' if group else ''}type wireguard")


def ran(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr
