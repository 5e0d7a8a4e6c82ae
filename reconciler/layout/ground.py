"""What the routes and rules of the host itself follow from."""

from __future__ import annotations

from _operator import attrgetter

from reconciler.kinds.rule import MAIN
from reconciler.layout import ways
from reconciler.layout.lay import Lay
from reconciler.layout.ways import Way
from reconciler.lean import cached_property
from reconciler.model.facts import Connected, Facts, Unknown, Uplink
from reconciler.model.names import IfName, TunnelName
from reconciler.model.policy import Policy
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set


class Ground:
    """What the shared objects follow from. What is asked of all tunnels again and again is found out once."""

    def __init__(
        self,
        lays: Sequence[Lay],
        kept: Sequence[Connected],
        endpoints: Mapping[TunnelName, tuple[bytes, ...]],
        facts: Facts,
        policy: Policy,
        publishing: Set[IfName] = frozenset(),
    ) -> None:
        """`endpoints`: of the engine of each tunnel, as far as they are known. `publishing`: uplinks by which others are
        asked, behind the host."""
        self.lays = lays
        self.kept = kept
        self.endpoints = endpoints
        self.facts = facts
        self.policy = policy
        self.publishing = publishing

    @cached_property
    def special(self) -> list[Lay]:
        """Those of which more is to be said than which prefixes they have in `main`."""
        return [lay for lay in self.lays if not lay.is_plain]

    @cached_property
    def full(self) -> list[Lay]:
        """Those that take a family whole."""
        return [lay for lay in self.special if lay.full]

    @cached_property
    def in_main(self) -> list[Lay]:
        """Those whose prefixes stand in `main`."""
        return [lay for lay in self.lays if lay.table == MAIN]

    @cached_property
    def open(self) -> list[Lay]:
        """Those into whose own tables every packet looks."""
        return [lay for lay in self.special if lay.table != MAIN and lay.is_open]

    @cached_property
    def with_direct(self) -> list[Lay]:
        """Those with prefixes that must never go into a tunnel."""
        return [lay for lay in self.special if lay.direct]

    @cached_property
    def main_families(self) -> frozenset[int]:
        """Families of which a tunnel has prefixes in `main`."""
        halves = ((AF_INET, "table_less.v4"), (AF_INET6, "table_less.v6"))
        return frozenset([family for family, half in halves if any(map(attrgetter(half), self.in_main))])

    @cached_property
    def can_mark(self) -> bool:
        """There is an engine that marks its packets."""
        return any(map(attrgetter("intent.tunnel.wireguard"), self.lays))

    @cached_property
    def ways(self) -> tuple[Way, ...]:
        """Uplinks that have a table of their own."""
        return ways.ways(self.facts, self.policy.numbers)

    @cached_property
    def uplinks(self) -> dict[int, Uplink]:
        """The best one of each family."""
        if isinstance(self.facts.uplinks, Unknown):
            return {}
        chosen: dict[int, Uplink] = {}
        for uplink in self.facts.uplinks:
            chosen.setdefault(uplink.family, uplink)
        return chosen

    @property
    def families(self) -> tuple[int, ...]:
        return (AF_INET, AF_INET6) if self.facts.ipv6 else (AF_INET,)

    @property
    def answers_ipv6(self) -> bool:
        """There is an uplink by whose addresses IPv6 may be answered."""
        uplinks = () if isinstance(self.facts.uplinks, Unknown) else self.facts.uplinks
        return any(uplink.family == AF_INET6 and uplink.addresses for uplink in uplinks)

    @cached_property
    def judged_for(self) -> TunnelName | None:
        """The tunnel for whose sake a filter judges who takes the way back of IPv6."""
        if not (self.answers_ipv6 and any(lay.owns_table for lay in self.special)):
            return None
        from reconciler.layout import begun  # not where nothing of it is needed

        return begun.judged_for(self.lays, self.facts)

    @property
    def is_full(self) -> bool:
        return bool(self.full)
