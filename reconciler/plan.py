"""Wanted, found → plan. Pure and generic: of the kinds it knows their order.

Equal values need nothing, and that is found out at the speed of sets (see sides): only what differs is looked at one by one.
"""

from __future__ import annotations

from itertools import compress

from reconciler.kinds import KINDS
from reconciler.model.names import TunnelName
from reconciler.model.plan import Plan
from reconciler.model.resource import Resource, Verb
from reconciler.sides import Sides
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from reconciler.sides import Blind, ByKind


def plan(
    wanted: Collection[Resource],
    found: Collection[Resource],
    *,
    blind: Blind | None = None,
    untouched: Collection[TunnelName] = (),
    armed: Collection[TunnelName] = (),
    guards: Callable[[Resource], bool] = lambda _resource: False,
    kept: Collection[str] = (),
) -> Plan:
    """The steps that make found into wanted, in the order in which they are to be done.

    `blind` tells what could not be looked at (None: everything could): nothing is planned there, least of all a removal.
    `untouched` tunnels (what they want is not known) get no steps at all. `armed` ones block their prefixes even where a
    conflict stops everything else of them; `guards` is what that takes beside the routes that block: it is made whatever else
    fails, and first of all where their link is gone. `kept`: kinds of which HOST keeps what it has; guards come in addition.
    """
    sides = Sides(_by_kind(wanted), _by_kind(found), blind)
    odd = [kind for kind in KINDS if not sides.are_same(kind, sides.wanted[kind], sides.found[kind])]
    if not odd:
        return Plan()
    from reconciler.compared import Compared  # most passes find nothing to do
    from reconciler.ordered import ordered

    compared = Compared(sides)
    for kind in odd:
        compared.of_kind(kind)
    if kept:
        compared.keep(kept, guards)
    skipped = compared.stopped().union(untouched)
    steps = compared.steps
    if armed:
        steps = [
            s._replace(regardless=True) if s.tunnel in armed and s.verb is Verb.CREATE and guards(s.resource) else s
            for s in steps
        ]
    if skipped:
        steps = [s for s in steps if s.tunnel not in skipped or s.regardless or (s.tunnel in armed and s.resource.order < 0)]
    later = skipped | (compared.dark - sides.anew["owner"])  # these are begun, and not ready yet
    if later:
        steps = [s for s in steps if s.needs not in later]
    at_once = guards if any(name not in compared.up for name in armed) else None
    return Plan(ordered(steps, compared.staying, at_once, compared.first), tuple(compared.conflicts))


def _by_kind(resources: Collection[Resource]) -> ByKind:
    """Asked once of each class: all values of it are of the same kind."""
    out: ByKind = {kind: [] for kind in KINDS}
    of_class = {cls: one.kind for cls, one in dict(zip(map(type, resources), resources, strict=True)).items()}
    kinds = [*map(of_class.__getitem__, map(type, resources))]
    for kind in {*of_class.values()}:
        out[kind] += compress(resources, map(kind.__eq__, kinds))
    return out
