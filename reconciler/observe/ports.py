"""What each `listen` entry means on this machine now: what is bound, whose that is, and which port it is to have."""

from __future__ import annotations

from reconciler.errors import TunctlError
from reconciler.host import sockets as host_sockets
from reconciler.host.bounded import Call
from reconciler.host.machine import Machine
from reconciler.kinds.listen import Bound
from reconciler.kinds.owner import Owner
from reconciler.layout.ports import Ask, choose
from reconciler.model.facts import Unknown
from reconciler.model.found import Found
from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.model.port import PROTOCOLS, UDP, Key, Port, Remembered, Socket, addresses, fits, place
from reconciler.model.tunnel import Listen
from reconciler.observe.listen import remembered
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_HOLDERS_S = 1.0  # a walk through /proc; what it does not find in time is somebody who cannot be seen
_HIDDEN = "a process that cannot be seen from here"


def ports(machine: Machine, due: Iterable[Intent], found: Found) -> Mapping[TunnelName, tuple[Port, ...] | Unknown]:
    """Of the tunnels that are to be up."""
    due = tuple(due)
    blind = {u.tunnel: u for u in found.unobserved if u.kind == "listen"}
    room = _Room(found)
    entries = [
        _Entry(intent, entry, room.bound.get((intent.name, entry.transport)), hints.get(entry.transport), intent.name in blind)
        for intent in due
        for hints in (remembered(machine, intent, room.owners.get(intent.name)),)
        for entry in intent.tunnel.listen
    ]
    chosen = choose((_ask(one, room, machine) for one in entries), found.sockets, _fixed(due))
    strangers = {one.key: _stranger(one, room, chosen[one.key]) for one in entries}
    holders = _holders(found, [s for s in strangers.values() if s is not None])
    told: dict[TunnelName, list[Port]] = {}
    for one in entries:
        told.setdefault(one.key[0], []).append(_port(one, room, chosen[one.key], strangers[one.key], holders))
    unknown = {name: Unknown(u.reason) for name, u in blind.items() if name in told and not u.privilege}
    return {**{name: tuple(all_of) for name, all_of in told.items()}, **unknown}


class _Entry(NamedTuple):
    """One entry, and what is known of it."""

    intent: Intent
    entry: Listen
    own: Bound | None  # what its engine has bound
    hint: Remembered | None
    blind: bool  # we may not see whose the sockets are

    @property
    def key(self) -> Key:
        return self.intent.name, self.entry.transport

    @property
    def had(self) -> int | None:
        """The port that it had, if it asks for the same as then."""
        same = self.hint is not None and self.hint.requested in ("", place(self.entry.address, self.entry.port))
        return self.hint.port if same and self.hint else None


class _Room:
    """What is found, by what it is asked for."""

    def __init__(self, found: Found) -> None:
        self.bound = {(b.tunnel, b.transport): b for b in found.of(Bound) if b.tunnel}
        self.owners = {o.tunnel: o for o in reversed(found.of(Owner)) if o.tunnel}
        self._sockets: dict[tuple[int, int], list[Socket]] = {}
        for one in found.sockets:
            self._sockets.setdefault((one.protocol, one.port), []).append(one)

    def at(self, one: _Entry, port: int | None) -> Socket | None:
        """Who is in the way of this entry at this port: others than the tunnel itself, if any."""
        if port is None:
            return None
        where = addresses(one.intent.tunnel, one.entry)
        there = self._sockets.get((PROTOCOLS[one.entry.transport], port), ())
        return next((s for s in there if s.tunnel != one.key[0] and any(map(s.keeps_out, where))), None)


def _ask(one: _Entry, room: _Room, machine: Machine) -> Ask:
    name, transport = one.key
    anew = name in machine.rebind or (one.hint is not None and one.had is None)
    has = one.own.port if one.own else one.had if one.blind and room.at(one, one.had) else None
    refused = frozenset(port for tunnel, of, port in machine.refused if (tunnel, of) == one.key)
    return Ask(
        one.key, PROTOCOLS[transport], addresses(one.intent.tunnel, one.entry), one.entry.port, one.entry.scan,
        None if anew else has, None if anew else one.had, refused,
    )  # fmt: skip


def _fixed(due: Iterable[Intent]) -> dict[int, TunnelName]:
    """The ports of WireGuard tunnels that have no choice."""
    return {i.tunnel.wireguard.listen_port: i.name for i in due if i.tunnel.wireguard and i.tunnel.wireguard.listen_port}


def _stranger(one: _Entry, room: _Room, port: int | None) -> Socket | None:
    """Who has the port that was the entry's; who has the first that it asks for, when there is none to be had."""
    if one.own or (one.blind and port is not None):
        return None
    at_ours = room.at(one, one.had) if one.had is not None and fits(one.entry, one.had) else None
    return at_ours or (room.at(one, one.entry.port) if port is None else None)


def _port(one: _Entry, room: _Room, port: int | None, stranger: Socket | None, holders: Mapping[Socket, str]) -> Port:
    told = _is_told(one)
    if one.own:
        return Port(one.entry, port, one.own.text, ours=True, told=told)
    if one.blind and port is not None and (there := room.at(one, port)):
        return Port(one.entry, port, there.place, told=told)
    if stranger is None:
        return Port(one.entry, port, holder=_HIDDEN if port is None else "", told=told)
    lost = stranger.port == one.had
    return Port(one.entry, port, stranger.place if lost else None, False if lost else None, holders[stranger], told)


def _is_told(one: _Entry) -> bool:
    settings = one.intent.tunnel.exec_
    return settings is None or any(f"{{listen.{one.entry.transport}.port}}" in word for word in settings.command)


def _holders(found: Found, asked: Sequence[Socket]) -> dict[Socket, str]:
    """In words: another tunnel, a process, an interface of the kernel's WireGuard."""
    said = {one: f"tunnel {one.tunnel}" for one in asked if one.tunnel}
    left = [one for one in asked if one not in said]
    if not left:
        return said
    inodes = frozenset(one.inode for one in left if one.inode)
    try:
        by = Call(lambda: host_sockets.holders(inodes)).result(_HOLDERS_S)
    except (TimeoutError, OSError):
        by = host_sockets.Holders({}, hidden=True)
    for one in left:
        if one.inode in by.by_inode:
            said[one] = host_sockets.described(by.by_inode[one.inode])
        else:
            said[one] = next(_in_kernel(found, one), _HIDDEN if by.hidden else "the kernel")
    return said


def _in_kernel(found: Found, one: Socket) -> Iterator[str]:
    """The WireGuard interface whose port it is: its sockets belong to no process."""
    names = [state.name for state in found.links.values() if state.type == "wireguard"]
    if one.protocol != UDP or not names:
        return
    from reconciler.host.kernel_wireguard import KernelWireGuard
    from reconciler.host.netlink import KernelError

    kernel = KernelWireGuard()
    try:
        for name in names:
            if kernel.get(name).listen_port == one.port:
                yield f"interface {name}"
    except (KernelError, TunctlError):
        return
    finally:
        kernel.close()
