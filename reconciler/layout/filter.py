"""The content of the table ``inet tunctl``: from what is let through, and from the way back of full tunnels."""

from __future__ import annotations

from reconciler.kinds.nat import Chain, NatRule, Table
from reconciler.layout.passage import Passage, is_speakable
from reconciler.model.marks import Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_ALL = 0xFFFFFFFF
WAY_BACK, PUBLISHED, BEGUN, SOURCE_NAT, FORWARDED = "way_back", "published", "begun", "source_nat", "forwarded"
OF_WAY_BACK = (WAY_BACK, PUBLISHED)
# linux/netfilter_ipv4.h: NF_IP_PRI_MANGLE, _NAT_SRC, _FILTER. Connections are known from -200 on, routing comes after.
_CHAINS = (
    (WAY_BACK, "filter", "prerouting", -150),
    (PUBLISHED, "filter", "prerouting", -95),  # NF_IP_PRI_NAT_DST + 5: it is known by then what is sent on
    (BEGUN, "filter", "output", 0),
    (SOURCE_NAT, "nat", "postrouting", 100),
    (FORWARDED, "filter", "forward", 0),
)


class WayBack(NamedTuple):
    """Answers to connections that came in by an uplink leave by it, also those to containers (DNAT)."""

    tunnel: TunnelName  # a full one, for whose sake it is
    uplinks: tuple[IfName, ...]
    strict: tuple[IfName, ...] = ()  # of these: with a strict reverse path filter and src_valid_mark
    marks: Mapping[IfName, int] = {}  # of those that have a table of their own; the others have the mark of the tunnels


def table(
    passages: Iterable[Passage],
    numbers: Numbers,
    way_back: WayBack | None = None,
    more: Iterable[tuple[str, NatRule]] = (),
    first: Iterable[tuple[str, NatRule]] = (),
) -> Table | None:
    """The table, or nothing when nobody needs it. `more`: rules from elsewhere, with chains; `first` stand before ours."""
    rules: dict[str, dict[NatRule, None]] = {name: {} for name, *_ in _CHAINS}
    for chain, rule in first:
        rules.setdefault(chain, {})[rule] = None
    passages = tuple(passages)
    for chain, rule in _way_back(way_back, numbers) if way_back else ():
        rules[chain][rule] = None
    for passage in passages:
        if passage.masquerade:
            rules[SOURCE_NAT][
                _rule(passage, f"{passage.words} saddr {_prefix(passage)} oifname {_name(passage.out)} masquerade")
            ] = None
    for passage in passages:
        for rule in _clamps(passage) if passage.forward else ():
            rules[FORWARDED][rule] = None
    for passage in passages:
        for rule in _accepts(passage) if passage.forward else ():
            rules[FORWARDED][rule] = None
    for chain, rule in more:
        rules.setdefault(chain, {})[rule] = None
    chains = tuple(Chain(*words, tuple(rules[words[0]])) for words in _CHAINS if rules[words[0]])
    return Table(chains) if chains else None


def _clamps(passage: Passage) -> Iterator[NatRule]:
    """Nobody beyond a tunnel learns its MTU where ICMP is filtered: connections are told when they begin. Before the
    accepts, which end the chain. `rt mtu` looks the way back up without a source, a mark or an interface: where rules lead
    into the tunnel by these, it finds another way, so what comes out of a tunnel is told the tunnel's own MTU as well."""
    for side in ("iifname", "oifname"):
        yield _rule(passage, f"{side} {_name(passage.dev)} tcp flags syn tcp option maxseg size set rt mtu")
    if passage.mtu:
        family, size = ("ipv4", passage.mtu - 40) if passage.words == "ip" else ("ipv6", passage.mtu - 60)
        yield _rule(
            passage, f"iifname {_name(passage.dev)} meta nfproto {family} tcp flags syn tcp option maxseg size set {size:#x}"
        )


def _accepts(passage: Passage) -> Iterator[NatRule]:
    source, out = _prefix(passage), _name(passage.out)
    yield _rule(passage, f"{passage.words} saddr {source} oifname {out} accept")
    yield _rule(passage, f"{passage.words} daddr {source} iifname {out} ct state established,related accept")


def _way_back(way_back: WayBack, numbers: Numbers) -> Iterator[tuple[str, NatRule]]:
    """A bit pattern on the connection, put back on the packets that answer: they then look up `main`, as our own do.

    A strict filter asks by which way the answer would go, as if it were no answer, before there is one: the same mark on
    what is sent on to others (not on what is only routed: that may be meant for the tunnel) tells it.
    """
    for value in dict.fromkeys(way_back.marks.get(dev, numbers.fwmark) for dev in sorted(way_back.uplinks)):
        uplinks, strict = (
            _names(dev for dev in devs if way_back.marks.get(dev, numbers.fwmark) == value)
            for devs in (way_back.uplinks, way_back.strict)
        )
        yield from ((chain, NatRule(text, way_back.tunnel)) for chain, text in _marking(uplinks, strict, value, numbers))


def _marking(uplinks: str, strict: str, value: int, numbers: Numbers) -> Iterator[tuple[str, str]]:
    whole = numbers.fwmask == _ALL
    answers = "ct mark" if whole else f"ct mark & {numbers.fwmask:#x}"
    ct, marked = (
        f"{mark} set {value:#x}" if whole else f"{mark} set {mark} & {_ALL & ~numbers.fwmask:#x} | {value:#x}"
        for mark in ("ct mark", "meta mark")
    )
    if uplinks:
        yield WAY_BACK, f"iifname {uplinks} ct direction original ct state new {ct}"
        yield WAY_BACK, f"iifname != {uplinks} ct direction reply {answers} == {value:#x} {marked}"
    if strict:
        yield PUBLISHED, f"iifname {strict} ct direction original ct status dnat {marked}"


def _names(devs: Iterable[IfName]) -> str:
    names = [_name(dev) for dev in sorted(devs) if is_speakable(dev)]
    return names[0] if len(names) == 1 else "{ " + ", ".join(names) + " }" if names else ""


def _rule(passage: Passage, text: str) -> NatRule:
    return NatRule(text, passage.tunnel)


def _prefix(passage: Passage) -> str:
    return passage.source.address if passage.source.is_host else str(passage.source)


def _name(dev: IfName) -> str:
    return f'"{dev}"'
