"""Ports that tunnels serve on: what is bound, and by whose engine. Proven by the inode that a process of the tunnel has
open, or by what a WireGuard device of the kernel says of itself: its sockets belong to no process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from reconciler.drivers.exec_ import told_ports
from reconciler.errors import NotObserved, TunctlError
from reconciler.host import sockets as host_sockets
from reconciler.host.bounded import Call
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.listen import Bound
from reconciler.kinds.owner import Owner
from reconciler.kinds.wireguard import Device
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.model.port import ANY4, ANY6, PROTOCOLS, UDP, Remembered, Socket, fits
from reconciler.model.resource import Resource
from reconciler.observe.question import Question
from reconciler.typed import NamedTuple

_WHOSE = "needs root to see whose the sockets are"
_Open = Mapping[TunnelName, frozenset[int] | None]  # inodes of the tunnel's processes; None: they may not be looked into


class Seen(NamedTuple):
    """What a look at ports saw."""

    bound: tuple[Bound, ...] = ()
    sockets: tuple[Socket, ...] = ()  # all that have to do with the entries, whoever has them
    unobserved: tuple[Unobserved, ...] = ()


def look(machine: Machine, question: Question, found: Sequence[Resource], blind: Iterable[Unobserved]) -> Seen:
    """Of the tunnels that have a `listen`. `found`: links, owners and devices; `blind`: what could not be seen of them."""
    concerned = [intent for intent in question.intents if intent.tunnel.listen]
    try:
        sockets = _sockets(machine, concerned)
        opened = Call(lambda: _opened(_members(found))).result(question.patience_s * 2)
    except TimeoutError:
        return _unseen(concerned, NotObserved("the descriptors of the tunnels' processes could not be read in time"))
    except TunctlError as error:
        return _unseen(concerned, error)
    proofs = _Proofs(sockets, opened, found, blind)
    owners = {one.tunnel: one for one in reversed(found) if isinstance(one, Owner) and one.tunnel}
    whose: dict[Socket, TunnelName] = {}
    unobserved: list[Unobserved] = []
    bound: list[Bound] = []
    for intent in concerned:
        mine = proofs.sockets_of(intent)
        whose |= dict.fromkeys(mine, intent.name)
        its = tuple(_bound(intent, mine, remembered(machine, intent, owners.get(intent.name))))
        bound += its
        unobserved += proofs.lacking(intent, its)
    return Seen(tuple(bound), tuple(one._replace(tunnel=whose.get(one)) for one in sockets), tuple(unobserved))


def remembered(machine: Machine, intent: Intent, owner: Owner | None) -> dict[str, Remembered]:
    """Transport → what it had: by a handle, else by the record that everybody may read, else by what its program was told."""
    handle = machine.handles.get(intent.name)
    if handle and handle.id == intent.mark.id and handle.bound:
        return {key: Remembered(handle.requested.get(key, ""), text) for key, text in handle.bound.items()}
    entry = machine.record.tunnels.get(intent.name)
    if entry:
        return {key: Remembered(entry.requested.get(key, ""), text) for key, text in entry.endpoints.items()}
    command = intent.tunnel.exec_.command if intent.tunnel.exec_ else ()
    return {key: Remembered("", f":{port}") for key, port in told_ports(command, owner.argv if owner else ()).items()}


def _unseen(concerned: Iterable[Intent], error: TunctlError) -> Seen:
    return Seen(unobserved=tuple(Unobserved(i.name, "listen", error.message, error.exit_code == 77) for i in concerned))


def _sockets(machine: Machine, concerned: Iterable[Intent]) -> tuple[Socket, ...]:
    """One look a protocol, for all tunnels together."""
    asked: dict[int, list[range]] = {}
    for intent in concerned:
        for entry in intent.tunnel.listen:
            asked.setdefault(PROTOCOLS[entry.transport], []).append(range(entry.port, entry.port + entry.scan))
    return tuple(one for protocol, ports in asked.items() for one in machine.diag.sockets(protocol, ports))


def _members(found: Iterable[Resource]) -> dict[TunnelName, list[int]]:
    members: dict[TunnelName, list[int]] = {}
    for one in found:
        if isinstance(one, Owner) and one.tunnel:
            members.setdefault(one.tunnel, []).extend(one.members)
    return members


def _opened(members: Mapping[TunnelName, list[int]]) -> _Open:
    """In a thread: a process that is stuck in the kernel may not answer for its descriptors."""
    opened: dict[TunnelName, frozenset[int] | None] = {}
    for name, pids in members.items():
        try:
            opened[name] = frozenset[int]().union(*map(host_sockets.inodes, pids))
        except PermissionError:
            opened[name] = None
    return opened


def _bound(intent: Intent, mine: Sequence[Socket], hints: Mapping[str, Remembered]) -> Iterator[Bound]:
    """Each entry's own socket: the one that it had, else the first one that is among its candidates. No two share one."""
    taken: set[tuple[int, int]] = set()
    entries = sorted(intent.tunnel.listen, key=lambda entry: entry.transport not in hints)
    for entry in entries:
        protocol = PROTOCOLS[entry.transport]
        had = hints[entry.transport].port if entry.transport in hints else None
        its = [s for s in mine if s.protocol == protocol and fits(entry, s.port) and (protocol, s.port) not in taken]
        its.sort(key=lambda s: (s.port != had, not s.serves(entry.address), s.port))
        if its:
            taken.add((protocol, its[0].port))
            yield Bound(intent.name, entry.transport, its[0].address, its[0].port, v6only=its[0].v6only)


class _Proofs:
    """What shows whose a socket is. By tunnel, inode and port: there may be a thousand of each."""

    def __init__(
        self, sockets: Iterable[Socket], opened: _Open, found: Iterable[Resource], blind: Iterable[Unobserved]
    ) -> None:
        self._by_inode: dict[int, list[Socket]] = {}
        self._by_port: dict[tuple[int, int], list[Socket]] = {}
        for one in sockets:
            self._by_inode.setdefault(one.inode, []).append(one)
            self._by_port.setdefault((one.protocol, one.port), []).append(one)
        self._opened = opened
        self._kernels = _ports_in_kernel(found)
        self._blind = {u.tunnel: u for u in blind if u.kind in ("owner", "wireguard")}

    def sockets_of(self, intent: Intent) -> list[Socket]:
        """Those that are proven to be the tunnel's."""
        mine = [one for inode in sorted(self._opened.get(intent.name) or ()) for one in self._by_inode.get(inode, ())]
        port = self._kernels.get(intent.name)
        return mine if port is None else [one for one in self._by_port.get((UDP, port), ()) if one.address in (ANY4, ANY6)]

    def lacking(self, intent: Intent, bound: Sequence[Bound]) -> Iterator[Unobserved]:
        """What is bound at one of its ports may be its own, and we cannot see whether it is. What nobody has is seen."""
        hidden = self._opened.get(intent.name, frozenset()) is None
        why = self._blind.get(intent.name) or self._blind.get(None)
        if len(bound) == len(intent.tunnel.listen) or not (hidden or why):
            return
        places = ((PROTOCOLS[e.transport], port) for e in intent.tunnel.listen for port in range(e.port, e.port + e.scan))
        if any(place in self._by_port for place in places):
            privilege = hidden or (why is not None and why.privilege)
            yield Unobserved(intent.name, "listen", _WHOSE if privilege or why is None else why.reason, privilege)


def _ports_in_kernel(found: Iterable[Resource]) -> dict[TunnelName, int]:
    """Of WireGuard devices in the kernel that are up: they have their sockets only then."""
    found = tuple(found)
    up = {one.tunnel for one in found if isinstance(one, Link) and one.type == "wireguard" and one.up}
    return {one.tunnel: one.listen_port or 0 for one in found if isinstance(one, Device) and one.tunnel and one.tunnel in up}
