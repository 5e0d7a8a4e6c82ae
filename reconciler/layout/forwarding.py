"""The switches that forwarding needs: one for each interface that packets come in by; the global one where these do not do.

Measured (6.18): a packet is forwarded if its incoming interface says so. IPv4 has asked that since always; IPv6 only since
6.17 (`force_forwarding`), before it asks the global switch alone. Answers come in by the outgoing side, so it needs one too.
"""

from __future__ import annotations

from reconciler.kinds.sysctl import Sysctl, interface_key
from reconciler.layout.lan import connected
from reconciler.layout.lay import Lay
from reconciler.layout.passage import Passage
from reconciler.model.facts import Facts
from reconciler.model.names import HOST, IfName
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_FAMILIES = {AF_INET: "net.ipv4", AF_INET6: "net.ipv6"}
_GLOBAL = {AF_INET: "net.ipv4.ip_forward", AF_INET6: "net.ipv6.conf.all.forwarding"}


def switches(lay: Lay, passages: Iterable[Passage], facts: Facts) -> Iterator[Sysctl]:
    """Those of one tunnel, in the order in which they are turned on."""
    ways = [passage for passage in passages if passage.forward]
    for family in (AF_INET, AF_INET6) if facts.ipv6 else (AF_INET,):
        mine = [passage for passage in ways if passage.source.family == family]
        sides = [(incoming(passage, lay, facts), passage.out) for passage in mine]
        if not mine:
            continue
        if all(devs for devs, _ in sides) and (family == AF_INET or facts.forwarding.per_interface6):
            for dev in dict.fromkeys(dev for devs, out in sides for dev in (*devs, out)):
                yield _of(lay, family, dev, "forwarding" if family == AF_INET else "force_forwarding")
        else:
            yield from _globally(lay, family, facts)


def believed(strict: Iterable[IfName]) -> Iterator[Sysctl]:
    """A strict reverse path filter takes no notice of marks unless it is told to: for single interfaces, that is enough."""
    for dev in sorted(strict):
        yield Sysctl(HOST, interface_key("net.ipv4", dev, "src_valid_mark"), "1", dev)


def _globally(lay: Lay, family: int, facts: Facts) -> Iterator[Sysctl]:
    """A router does not listen to router advertisements, unless it is told to before it becomes one."""
    if family == AF_INET6:
        for dev in sorted(facts.forwarding.accepts_ra):
            yield _of(lay, family, dev, "accept_ra", value="2")
    for dev in (*sorted(facts.forwarding.present), IfName("default")):
        yield _of(lay, family, dev, "forwarding", always=True)
    yield Sysctl(lay.intent.name, _GLOBAL[family], "1")


def _of(lay: Lay, family: int, dev: IfName, switch: str, *, value: str = "1", always: bool = False) -> Sysctl:
    return Sysctl(lay.intent.name, interface_key(_FAMILIES[family], dev, switch), value, dev, always)


def incoming(passage: Passage, lay: Lay, facts: Facts) -> tuple[IfName, ...]:
    """The interfaces by which a source comes in: where its networks are, or the tunnel that leads to it. None: not known."""
    found = {one.dev for one in connected(facts) if one.dev != passage.out and _meet(one.prefix, passage.source)}
    if passage.dev != passage.out and _is_behind(passage.source, lay):
        found.add(passage.dev)
    return tuple(sorted(found))


def _is_behind(source: Prefix, lay: Lay) -> bool:
    tunnel = lay.intent.tunnel
    near = any(_meet(address.network, source) for address in tunnel.addresses)
    return near or lay.table_less.meets(source)


def _meet(one: Prefix, other: Prefix) -> bool:
    return one.covers(other) or other.covers(one)
