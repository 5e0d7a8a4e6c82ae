"""What others may do to tunnels, one thing at a time, and how its repair is recognised by a netlink listener of its own."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable, Iterator, Set
from typing import Any, NamedTuple

from reconciler.host import events, nl_link, nl_route, nl_rule
from reconciler.host.events import Event, Events
from reconciler.host.nft import open_nft
from reconciler.host.nl_address import RTM_NEWADDR
from reconciler.host.nl_codec import as_text, attributes
from reconciler.host.rtnl import Rtnl
from reconciler.model.prefix import AF_INET, AF_INET6

MTU = 1400  # of all tunnels that are broken here
PROTOCOL = 115
_ACK = 0x4
_DELADDR, _GETADDR = 21, 22
_IFADDR = struct.Struct("=BBBBI")
_NEWTABLE = 10 << 8
_NFTA_TABLE_NAME, _IFA_ADDRESS, _IFA_LOCAL, _FRA_PROTOCOL = 1, 1, 2, 21

Sign = tuple[Any, ...]


class Breakage(NamedTuple):
    """`do` breaks it; it is repaired when all signs were heard."""

    what: str
    do: Callable[[], None]
    signs: Set[Sign]


class Listener:
    """Hears what the kernel tells everybody, and knows what it means."""

    def __init__(self) -> None:
        groups = (*events.LINKS, *events.ADDRESSES, *events.ROUTES, *events.RULES)
        self._sources = (Events(events.ROUTE, groups), Events(events.NETFILTER, events.RULE_SETS))
        self._names: dict[int, str] = {}

    def signs(self, until_s: float) -> Iterator[Sign]:
        """What is made from now on, as it is made."""
        while (left_s := until_s - time.monotonic()) > 0:
            for source in select.select(self._sources, (), (), left_s)[0]:
                for event in source.read():
                    if event is None:
                        raise RuntimeError("the listener was flooded")
                    sign = _sign(event)
                    if sign is not None:
                        yield sign

    def forget(self) -> None:
        """What was heard until now does not count."""
        for source in self._sources:
            for _ in source.read():
                pass

    def seconds(self, one: Breakage, bound_s: float = 30) -> float:
        """Does it, and waits until it is repaired: from before the kernel is told until the last sign."""
        self.forget()
        waiting = set(one.signs)
        begun_s = time.monotonic()
        one.do()
        for sign in self.signs(begun_s + bound_s):
            waiting.discard(sign)
            if not waiting:
                return time.monotonic() - begun_s
        raise RuntimeError(f"{one.what}: not repaired within {bound_s:g} s: {waiting}")

    def all_seconds(self, many: list[Breakage], bound_s: float = 30) -> list[float]:
        """Does all of them at once: how long until each is repaired."""
        self.forget()
        waiting = [set(one.signs) for one in many]
        begun_s = time.monotonic()
        for one in many:
            one.do()
        took: dict[int, float] = {}
        for sign in self.signs(begun_s + bound_s):
            for number, left in enumerate(waiting):
                if sign in left:
                    left.discard(sign)
                    if not left:
                        took[number] = time.monotonic() - begun_s
            if len(took) == len(many):
                return list(took.values())
        raise RuntimeError(f"{len(many) - len(took)} of {len(many)} not repaired within {bound_s:g} s")


def _sign(event: Event) -> Sign | None:
    if event.protocol == events.NETFILTER:
        if event.kind != _NEWTABLE:
            return None
        return "table", as_text(attributes(event.body, 4).get(_NFTA_TABLE_NAME))
    if event.kind == nl_route.RTM_NEWROUTE:
        row = nl_route.decode(event.body)
        return ("route", row[0], row[1]) if row else None
    if event.kind == RTM_NEWADDR:
        found = attributes(event.body, _IFADDR.size)
        return "address", found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if event.kind == nl_rule.RTM_NEWRULE:
        rule = nl_rule.decode(event.body)
        return ("rule", rule.family, rule.priority) if rule else None
    if event.kind == nl_link.RTM_NEWLINK:
        link = nl_link.decode(event.body)
        return "link", link.name, link.up, link.mtu
    return None


class Breaker:
    """Makes a breakage of everything that there is of these links, from what the kernel lists."""

    def __init__(self) -> None:
        self._rtnl, self._nft = Rtnl(), open_nft()

    def of_link(self, name: str) -> list[Breakage]:
        """Its addresses, its routes, its MTU, it itself."""
        link = next(one for one in self._rtnl.links() if one.name == name)
        addresses = self._addresses(link.ifindex)
        routes = self._routes(link.ifindex)
        up: Sign = ("link", name, True, MTU)
        on_it = {sign for sign, _ in (*addresses, *routes)}
        fall = {sign for sign, _ in routes} | {sign for sign, _ in addresses if len(sign[1]) == 16}  # IPv6 ones go too
        return [
            *(Breakage("route deleted", self._deed(nl_route.RTM_DELROUTE, body), {sign}) for sign, body in routes),
            *(Breakage("address removed", self._deed(_DELADDR, body), {sign}) for sign, body in addresses),
            Breakage("MTU changed", self._on(name, mtu=MTU - 100), {up}),
            Breakage("link set down", self._on(name, up=False), {up} | fall),
            Breakage("link deleted", lambda: self._delete(name), {up} | on_it),
        ]

    def of_rules(self) -> list[Breakage]:
        """All rules of ours, in both families."""
        made = []
        for family, what in ((AF_INET, "rule deleted"), (AF_INET6, "IPv6 rule deleted")):
            for body in self._bodies(nl_rule.RTM_GETRULE, nl_rule.question(family)):
                rule = nl_rule.decode(body)
                if rule and rule.protocol == PROTOCOL:
                    sign = ("rule", family, rule.priority)
                    made.append(Breakage(what, self._deed(nl_rule.RTM_DELRULE, body), {sign}))
        return made

    def of_filter(self) -> Breakage:
        return Breakage("nft table flushed", lambda: self._nft.apply("flush ruleset"), {("table", "tunctl")})

    def _addresses(self, ifindex: int) -> list[tuple[Sign, bytes]]:
        made = []
        for body in self._bodies(_GETADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            _family, _length, _flags, scope, index = _IFADDR.unpack_from(body)
            found = attributes(body, _IFADDR.size)
            if index == ifindex and scope == 0:
                made.append((("address", found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))), body))
        return made

    def _routes(self, ifindex: int) -> list[tuple[Sign, bytes]]:
        made = []
        for family in (AF_INET, AF_INET6):
            for body in self._bodies(nl_route.RTM_GETROUTE, nl_route.question(family, protocol=PROTOCOL)):
                row = nl_route.decode(body)
                if row and row[5] == ifindex and row[8] == PROTOCOL:
                    made.append((("route", row[0], row[1]), body))
        return made

    def _bodies(self, kind: int, question: bytes) -> list[bytes]:
        return self._rtnl.dump(kind, question, lambda body: body)

    def _deed(self, kind: int, body: bytes) -> Callable[[], None]:
        return lambda: void(self._rtnl.request(kind, _ACK, body))

    def _on(self, name: str, *, mtu: int | None = None, up: bool | None = None) -> Callable[[], None]:
        return lambda: void(self._rtnl.request(nl_link.RTM_NEWLINK, _ACK, nl_link.wanted(name=name, mtu=mtu, up=up)))

    def _delete(self, name: str) -> None:
        self._rtnl.request(nl_link.RTM_DELLINK, _ACK, nl_link.wanted(name=name))


def void(_: object) -> None:
    """For its effect only."""
