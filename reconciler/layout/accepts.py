"""Accepts that must stand in chains of others: for every passage in every chain that would drop it."""

from __future__ import annotations

from reconciler.kinds.forward import Accept
from reconciler.layout.passage import Passage
from reconciler.model.facts import Drop, Facts
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def accepts(passages: Iterable[Passage], facts: Facts) -> Iterator[Accept]:
    """Both directions of each."""
    for passage, drop in _stopped(passages, facts):
        if drop.writable:
            for answers in (False, True):
                place = (drop.keeper, drop.family, drop.table, drop.chain)
                yield Accept(passage.tunnel, *place, passage.source, passage.out, answers)


def blocked(passages: Iterable[Passage], facts: Facts) -> Iterator[tuple[TunnelName, str]]:
    """Where nothing can be done about it, because the program that keeps the chain is not there."""
    for passage, drop in _stopped(passages, facts):
        if not drop.writable:
            yield passage.tunnel, f"forwarding blocked by {drop.what}, and {drop.keeper} is not installed"


def _stopped(passages: Iterable[Passage], facts: Facts) -> Iterator[tuple[Passage, Drop]]:
    for passage in passages:
        for drop in facts.forwarding.drops if passage.forward else ():
            if drop.family in (passage.words, "inet"):
                yield passage, drop
