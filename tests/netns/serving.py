"""What the tests of served ports share: tunnels that listen, strangers that have their ports, and what is said of it."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import sys
from collections.abc import Iterator
from typing import Any

from tests.netns.scenario import PROGRAMS, desired, exec_, handles_file, verdict, wireguard
from tests.netns.world import Host, wait_until

SERVER = [sys.executable, str(PROGRAMS / "server.py"), "{interface}"]
TOLD = "udp={listen.udp.address}:{listen.udp.port}"


def listen(name: str = "demo", transport: str = "udp", *, port: int = 8443, scan: int = 20, address: str = "0.0.0.0") -> str:
    return f'[[tunnels.{name}.listen]]\ntransport = "{transport}"\naddress = "{address}"\nport = {port}\nscan = {scan}\n'


def served(*entries: str, words: tuple[str, ...] = (TOLD,), host: str = "", options: str = "", keys: str = "") -> str:
    """A desired file with one tunnel, whose program listens as it is told."""
    return desired(
        exec_("demo", *words, command=SERVER, options=options, keys=keys, tables="".join(entries or (listen(),))), host=host
    )


def hub(*entries: str, options: str = "") -> str:
    """A desired file with a WireGuard tunnel by wireguard-go; its key file is `k`."""
    return desired(wireguard("hub", "k", options=options, peers="".join(entries or (listen("hub"),))))


@contextlib.contextmanager
def holding(host: Host, *ports: int, transport: str = "udp", address: str = "0.0.0.0") -> Iterator[None]:
    """This process has these ports of the host: a stranger, who says so to nobody."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        for port in ports:
            with host.inside():
                opened = stack.enter_context(socket.socket(family, kind))
            _bind(host, opened, (address, port))
            if transport == "tcp":
                opened.listen()
        yield


def _bind(host: Host, opened: socket.socket, place: tuple[str, int]) -> None:
    """A program that was killed may have its port for a moment longer."""

    def bind() -> bool:
        try:
            opened.bind(place)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    wait_until(bind, 30, f"{place} of {host.name} is free")


@contextlib.contextmanager
def occupied(host: Host, port: int) -> Iterator[int]:
    """A socat has it; → its pid."""
    with holding(host, port):
        pass
    process = host.start(["socat", "-u", f"UDP4-RECV:{port}", "OPEN:/dev/null"])
    wait_until(lambda: f":{port} " in host.run(["ss", "-Hlun"]).stdout, 30, f"socat has {port}")
    try:
        yield process.pid
    finally:
        host.kill(process)


def rows(host: Host, name: str = "demo") -> dict[str, dict[str, Any]]:
    """The `listen` of status by transport. On a busy machine a look may come too late: then it says so, and is repeated."""
    for _ in range(20):
        told = verdict(host, name)
        if told["verdict"] != "unknown" and not told["unobserved"]:
            break
    return {row["transport"]: row for row in told["listen"]}


def ports(host: Host, name: str = "demo") -> dict[str, int | None]:
    """Transport → the port that status calls bound and the tunnel's."""
    told = rows(host, name)
    return {key: int(row["bound"].rpartition(":")[2]) if row["ours"] else None for key, row in told.items()}


def record(host: Host) -> dict[str, Any]:
    """endpoints.json; {} when it is not there."""
    path = host.run_dir / "endpoints.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def handle(host: Host, name: str = "demo") -> dict[str, Any]:
    return dict(json.loads(handles_file(host, name).read_text()))
