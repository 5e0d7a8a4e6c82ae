"""Ports that tunnels serve on, as `status` and `endpoints show` tell them."""

from __future__ import annotations

from reconciler.model.names import TunnelName
from reconciler.model.port import Port
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def listen_lines(ports: Iterable[Port]) -> Iterator[str]:
    """Of one tunnel, in a block of `status`."""
    yield from (f"     Listen: {listen_words(port)}" for port in ports)


def served_text(tunnels: Iterable[tuple[TunnelName, tuple[Port, ...]]]) -> Iterator[str]:
    """Of all tunnels, a line an entry."""
    there = False
    for name, ports in tunnels:
        for port in ports:
            there = True
            yield f"{name} {listen_words(port)}"
    if not there:
        yield "no tunnel has a listen"


def listen_words(port: Port) -> str:
    """``udp 0.0.0.0 requested 8443, bound 8446``; the address of what is bound where that is another one."""
    transport = port.entry.transport
    if port.bound is None:
        return f"{transport} {port.requested} not bound"
    if port.bound == port.requested:
        return f"{transport} {port.bound}{_whose(port)}"
    address, _colon, asked = port.requested.rpartition(":")
    where, _colon, number = port.bound.rpartition(":")
    return f"{transport} {address} requested {asked}, bound {number if where == address else port.bound}{_whose(port)}"


def _whose(port: Port) -> str:
    return {True: "", False: f", held by {port.holder}", None: " (whose it is could not be seen)"}[port.ours]
