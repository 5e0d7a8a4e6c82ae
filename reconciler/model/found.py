"""What a look at the machine saw, and what it could not see."""

from __future__ import annotations

from _operator import attrgetter
from itertools import filterfalse, groupby

from reconciler.model.facts import Drop
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.nameservice import NameService
from reconciler.model.prefix import Prefix, texts
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from reconciler.model.port import Socket

R = TypeVar("R")
_is_link_local = attrgetter("is_link_local")


class Counters(NamedTuple):
    """IFLA_STATS64 of a link."""

    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    tx_packets: int = 0


class LinkState(NamedTuple):
    """Everything the kernel says of one interface, ours or not; first that in which it is like no other."""

    name: IfName
    ifindex: int
    alias: str
    mark: Mark | None
    counters: Counters | None  # None: nobody asked
    type: str  # tun · tap · wireguard · IFLA_INFO_KIND of others · "" for hardware
    mtu: int
    up: bool  # IFF_UP
    carrier: bool  # IFLA_CARRIER
    group: int
    point_to_point: bool = False
    loopback: bool = False
    uid: int | None = None  # of a TUN
    gid: int | None = None
    multi_queue: bool = False
    persist: bool = False
    ignores_linkdown: bool = False  # of a tunnel: routes by it do not count without carrier (ignore_routes_with_linkdown)


class Unobserved(NamedTuple):
    """A look that failed: of this kind, for this tunnel (None: for all), because of this."""

    tunnel: TunnelName | None
    kind: str
    reason: str
    privilege: bool = False  # only because we may not: no fault of the machine


class Found(NamedTuple):
    """One look. A kind that stands in `unobserved` is unknown, never "none"."""

    resources: tuple[Resource, ...]
    links: Mapping[IfName, LinkState]
    addresses: Mapping[IfName, tuple[Prefix, ...]]  # all addresses of each interface, host bits kept
    unobserved: tuple[Unobserved, ...] = ()
    warnings: tuple[str, ...] = ()
    publishes: bool = False  # there is a chain that could send connections on to other addresses (DNAT)
    drops: tuple[Drop, ...] = ()  # chains of others that drop what is forwarded
    sockets: tuple[Socket, ...] = ()  # bound ports, as far as `listen` entries are about them
    name_service: NameService | None = None  # None: not looked at, no tunnel has `dns`

    def of(self, cls: type[R]) -> list[R]:
        """Those of one class."""
        return [*_by_class(self.resources).get(cls, ())]

    def addresses_of(self, dev: IfName) -> tuple[str, ...]:
        """As text, without the link-local ones that the kernel gives to every link: they say nothing about a tunnel."""
        return tuple(texts(filterfalse(_is_link_local, self.addresses.get(dev, ()))))

    @property
    def orphans(self) -> tuple[LinkState, ...]:
        """Links with the mark of another store."""
        ours = {r.dev for r in self.resources if r.kind == "link" and r.tunnel is not None}
        return tuple(state for state in self.links.values() if state.mark and state.name not in ours)

    def of_others(self, names: Iterable[TunnelName], declared: Container[TunnelName]) -> frozenset[TunnelName]:
        """Of these names, of which rules of the packet filter are, those that may be of another store, whose links are here:
        rules name no store. `declared`: the tunnels of ours."""
        theirs = {state.mark.tunnel for state in self.orphans if state.mark}
        if not theirs:
            return frozenset()
        up = {r.tunnel for r in self.resources if r.kind == "link"}
        return frozenset(name for name in names if name not in up and (name in theirs or name not in declared))

    def is_unobserved(self, kind: str, tunnel: TunnelName | None) -> bool:
        return bool(self.unobserved) and any(u.kind == kind and u.tunnel in (None, tunnel) for u in self.unobserved)


_last: tuple[tuple[Resource, ...], dict[type, list[Any]]] = (), {}


def _by_class(resources: tuple[Resource, ...]) -> dict[type, list[Any]]:
    """They were looked at one kind after the other, so they stand together. One look is asked twenty times: the last answer is
    kept, and is right for these very resources, in which nothing can change."""
    global _last  # noqa: PLW0603 - of a pure function
    known, answer = _last
    if known is not resources:
        answer = {}
        for cls, run in groupby(resources, type):
            answer.setdefault(cls, []).extend(run)
        _last = resources, answer
    return answer
