"""What two sources must not both declare. Pure: `plan` asks without writing."""

from __future__ import annotations

from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Desired, Tunnel
from reconciler.store.stored import Stored
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def conflicts(stored: Stored, desired: Desired, take_over: frozenset[TunnelName] = frozenset()) -> list[str]:
    """What another source has declared differently, one sentence each, both sources named; [] when there is nothing.

    `take_over`: tunnels that may be moved here. What its own source withdrew already is nobody's.
    """
    if all(source.name == desired.source for source in stored.sources):
        return []  # mostly so: there is no other
    declared = {tunnel.name for tunnel in desired.tunnels}
    moved = take_over & declared
    others = [
        intent
        for intent in stored.intents
        if intent.source != desired.source and not intent.withdrawn and intent.name not in moved
    ]
    tunnels = [*_names(others, declared, desired), *_interfaces(others, desired), *_ports(others, desired)]
    return [*tunnels, *_host(stored, desired)]


def _names(others: list[Intent], declared: set[TunnelName], desired: Desired) -> Iterator[str]:
    for intent in others:
        if intent.name in declared:
            yield f"tunnel {intent.name}: source {desired.source} declares it, but it belongs to source {intent.source}"


def _interfaces(others: list[Intent], desired: Desired) -> Iterator[str]:
    taken = {intent.tunnel.interface: intent for intent in others if intent.tunnel.interface is not None}
    for tunnel in desired.tunnels:
        other = taken.get(tunnel.interface) if tunnel.interface is not None else None
        if other is not None and other.name != tunnel.name:
            yield _both(f"interface {tunnel.interface}", tunnel, desired, other)


def _ports(others: list[Intent], desired: Desired) -> Iterator[str]:
    """Those that a tunnel takes or fails: one that may look further is no conflict."""
    if not any(tunnel.wireguard or tunnel.listen for tunnel in desired.tunnels):
        return
    from reconciler.model.port import UDP, Socket, fixed_ports

    taken: dict[tuple[int, int], list[tuple[Socket, Intent]]] = {}
    for intent in others:
        for one in fixed_ports(intent.tunnel):
            taken.setdefault((one.protocol, one.port), []).append((one, intent))
    for tunnel in desired.tunnels:
        for one in fixed_ports(tunnel):
            there = taken.get((one.protocol, one.port), ())
            other = next((i for socket, i in there if socket.keeps_out(one.address) and i.name != tunnel.name), None)
            if other is not None:
                yield _both(f"listen port {one.port}/{'udp' if one.protocol == UDP else 'tcp'}", tunnel, desired, other)
                break


def _both(what: str, tunnel: Tunnel, desired: Desired, other: Intent) -> str:
    return f"{what}: wanted by {tunnel.name} of source {desired.source} and by {other.name} of source {other.source}"


def _host(stored: Stored, desired: Desired) -> Iterator[str]:
    for source in stored.sources:
        if source.name == desired.source or source.forgotten:
            continue
        for key, here, there in zip(desired.host._fields, desired.host, source.host, strict=True):
            if here is not None and there is not None and here != there:
                yield f"[host] {key.removesuffix('_s')}: {here!r} in source {desired.source}, {there!r} in source {source.name}"
