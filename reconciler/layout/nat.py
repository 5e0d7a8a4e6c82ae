"""What follows from `nat` entries and from full tunnels: the packet filter, accepts in others' chains, kernel switches.

Loaded only where a tunnel has such an entry, is full, or where there are rules of before.
"""

from __future__ import annotations

from reconciler.kinds.nat import NatRule
from reconciler.layout import accepts, begun, filter, forwarding, passage  # noqa: A004 - nft's own word
from reconciler.layout.ground import Ground
from reconciler.layout.lay import Lay
from reconciler.layout.passage import Passage
from reconciler.model.facts import Facts, Forwarding, Unknown
from reconciler.model.names import IfName, TunnelName
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def of_tunnel(lay: Lay, passages: Sequence[Passage], facts: Facts) -> Iterator[Resource]:
    """What one tunnel needs so that its packets pass, apart from the table."""
    yield from dict.fromkeys(accepts.accepts(passages, facts))
    yield from forwarding.switches(lay, passages, facts)


def reasons(ways: Iterable[tuple[Lay, Sequence[Passage]]], facts: Facts) -> Iterator[tuple[TunnelName, str]]:
    """Why not all of what the entries say can be."""
    ways = tuple(ways)
    for lay, _ in ways:
        yield from ((lay.intent.name, reason) for reason in passage.missing(lay, facts))
    yield from dict.fromkeys(said for _, passages in ways for said in accepts.blocked(passages, facts))


def filtered(
    passages: Sequence[Passage], full: Sequence[TunnelName], ground: Ground, *, unknown: Sequence[TunnelName], keeps: bool
) -> Iterator[Resource]:
    """The packet filter of all tunnels. Those of which is not known what they want keep what they have in it. `keeps`: so
    does the host with its rules."""
    facts = ground.facts
    kept = [(chain, NatRule(text, name)) for chain, text, name in facts.forwarding.rules if name in unknown]
    kept += _begun(ground, keeps=keeps)
    before, behind = _of_others(facts.forwarding)
    kept += behind
    way_back = None
    if full and not isinstance(facts.uplinks, Unknown):
        strict = facts.forwarding.strict & ground.publishing if facts.forwarding.publishes else frozenset[IfName]()
        marks = {way.uplink.dev: way.mark[0] for way in ground.ways if way.mark}
        way_back = filter.WayBack(full[0], tuple(ground.publishing), tuple(strict), marks)
        yield from forwarding.believed(strict)
    elif full:
        kept += [(c, NatRule(text, name)) for c, text, name in facts.forwarding.rules if c in filter.OF_WAY_BACK]
    found = filter.table(passages, ground.policy.numbers, way_back, kept, before)
    if found is not None:
        yield found


def _of_others(forwarding: Forwarding) -> tuple[list[tuple[str, NatRule]], list[tuple[str, NatRule]]]:
    """What may be another store's, before ours and behind: who was first stays first, else the stores would never agree."""
    before: list[tuple[str, NatRule]] = []
    behind: list[tuple[str, NatRule]] = []
    seen: set[str] = set()  # chains in which one of ours stands
    for chain, text, name in forwarding.rules:
        if name in forwarding.strangers:
            (behind if chain in seen else before).append((chain, NatRule(text, name)))
        else:
            seen.add(chain)
    return before, behind


def _begun(ground: Ground, *, keeps: bool) -> list[tuple[str, NatRule]]:
    """What judges who takes the way back of IPv6."""
    name = ground.judged_for
    if name:
        ours = [lay.dev for lay in ground.lays if passage.is_speakable(lay.dev)]
        return [(filter.BEGUN, NatRule(text, name)) for text in begun.words(ours, ground.policy.numbers)]
    rules = ground.facts.forwarding.rules if keeps and not ground.answers_ipv6 else ()
    return [(chain, NatRule(text, name)) for chain, text, name in rules if chain == filter.BEGUN]
