"""Which port each `listen` entry is to have: the one that it has, the one that it had, the one it asks for, or the next
that is free. Pure.

Nothing moves by itself: what is bound stays, whatever else has become free. Among entries that have nothing yet, those
that can take one port only come first, then all that can have the port they ask for, then those that must look further.
"""

from __future__ import annotations

from reconciler.model.names import TunnelName
from reconciler.model.port import ANY4, ANY6, LAST, UDP, Key, Socket
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_Place = tuple[int, tuple[bytes, ...]]  # protocol, addresses


class Ask(NamedTuple):
    """One entry that wants a port."""

    key: Key
    protocol: int
    addresses: tuple[bytes, ...]  # what its engine binds
    first: int
    scan: int
    has: int | None = None  # its engine has bound this one
    had: int | None = None  # it had this one before
    refused: frozenset[int] = frozenset()  # the kernel, or somebody who was faster, has just kept it from these

    def may_have(self, port: int) -> bool:
        return self.first <= port < self.first + self.scan


def choose(asks: Iterable[Ask], sockets: Iterable[Socket], fixed: Mapping[int, TunnelName] = {}) -> dict[Key, int | None]:
    """A port for each entry, no two the same where they would be in each other's way; None: all it may have are taken.

    `fixed`: UDP ports that WireGuard tunnels are to have without any choice.
    """
    asks = tuple(asks)
    ground = _Ground(sockets, fixed)
    chosen: dict[Key, int | None] = {}
    for settle in (_kept, _kept_before, _asked_for, _next_free):
        left = [ask for ask in asks if ask.key not in chosen]
        for ask in sorted(left, key=_is_free_to_choose):
            port = settle(ground, ask)
            if port is not None or settle is _next_free:
                chosen[ask.key] = port
            if port is not None:
                ground.claim(ask, port)
    return chosen


def _is_free_to_choose(ask: Ask) -> bool:
    return ask.scan > 1


def _kept(_ground: _Ground, ask: Ask) -> int | None:
    return ask.has if ask.has is not None and ask.may_have(ask.has) else None


def _kept_before(ground: _Ground, ask: Ask) -> int | None:
    return ask.had if ask.had is not None and ask.may_have(ask.had) and ground.is_free(ask, ask.had) else None


def _asked_for(ground: _Ground, ask: Ask) -> int | None:
    return ask.first if ground.is_free(ask, ask.first) else None


def _next_free(ground: _Ground, ask: Ask) -> int | None:
    return ground.first_free(ask)


class _Ground:
    """What is taken, by the machine and by this choice."""

    def __init__(self, sockets: Iterable[Socket], fixed: Mapping[int, TunnelName]) -> None:
        self._sockets: dict[tuple[int, int], list[Socket]] = {}
        self._own: dict[tuple[TunnelName, int], list[int]] = {}  # tunnel, protocol → ports of its engine
        self._claims: dict[tuple[int, int], list[Socket]] = {}
        self._beyond: dict[_Place, dict[int, int]] = {}  # a port that is taken → one further on, at most the next that is free
        for one in sockets:
            self._sockets.setdefault((one.protocol, one.port), []).append(one)
            if one.tunnel is not None:
                self._own.setdefault((one.tunnel, one.protocol), []).append(one.port)
        for port, tunnel in fixed.items():
            self._claims[UDP, port] = [Socket(UDP, address, port, tunnel=tunnel) for address in (ANY4, ANY6)]

    def claim(self, ask: Ask, port: int) -> None:
        claims = self._claims.setdefault((ask.protocol, port), [])
        claims += [Socket(ask.protocol, address, port, tunnel=ask.key[0]) for address in ask.addresses]

    def is_free(self, ask: Ask, port: int) -> bool:
        """Sockets of the tunnel's own engine are not in its way: they go when it moves."""
        if port in ask.refused or self._is_claimed(ask, port):
            return False
        others = (one for one in self._sockets.get((ask.protocol, port), ()) if one.tunnel != ask.key[0])
        return not _keep_out(others, ask.addresses)

    def first_free(self, ask: Ask) -> int | None:
        """Each port that is taken is passed over once in all, however many look for one behind it."""
        own = [port for port in self._own.get((ask.key[0], ask.protocol), ()) if ask.may_have(port) and self.is_free(ask, port)]
        port = self._untaken((ask.protocol, ask.addresses), ask.first)
        while port in ask.refused:
            port = self._untaken((ask.protocol, ask.addresses), port + 1)
        best = min((*own, port))
        return best if ask.may_have(best) else None

    def _untaken(self, where: _Place, port: int) -> int:
        """The first port from there on that nobody has; beyond LAST when there is none."""
        beyond = self._beyond.setdefault(where, {})
        passed = []
        while port <= LAST and (port in beyond or self._is_taken(where, port)):
            passed.append(port)
            port = beyond.get(port, port + 1)
        for one in passed:
            beyond[one] = port
        return port

    def _is_taken(self, where: _Place, port: int) -> bool:
        protocol, addresses = where
        key = protocol, port
        return _keep_out((*self._sockets.get(key, ()), *self._claims.get(key, ())), addresses)

    def _is_claimed(self, ask: Ask, port: int) -> bool:
        return _keep_out(self._claims.get((ask.protocol, port), ()), ask.addresses)


def _keep_out(sockets: Iterable[Socket], addresses: Sequence[bytes]) -> bool:
    return any(one.keeps_out(address) for one in sockets for address in addresses)
