"""What may be another store's is not swept. Pure.

Rules, routes without a device of a tunnel, and the packet filter carry our protocol or a tunnel's name, but no store's. As
long as links of another store are here (its state directory was lost, or somebody else is at work), what this store
has no use for may be what their traffic goes by: a full tunnel without its rules is one in clear. It goes with
`down --orphans`, or with the first pass after they are gone. Their rules in a table that this store wants otherwise
stand in what is wanted (`Forwarding.strangers`).
"""

from __future__ import annotations

from reconciler.kinds.forward import Accept
from reconciler.kinds.nat import Table
from reconciler.kinds.route import MAIN, Route
from reconciler.kinds.routes import Routes
from reconciler.kinds.rule import Rule
from reconciler.model.found import Found
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Plan, Step
from reconciler.model.resource import Verb
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


def spared(plan: Plan, found: Found, declared: Container[TunnelName]) -> Plan:
    """The plan without removals of what may be another store's, of which there are links. `declared`: the tunnels of ours."""
    theirs = {r.table for r in found.resources if isinstance(r, Route | Routes) and r.tunnel is None} - {MAIN}
    return plan._replace(steps=tuple(step for step in plan.steps if not _may_be_theirs(step, theirs, found, declared)))


def _may_be_theirs(step: Step, their_tables: set[int], found: Found, declared: Container[TunnelName]) -> bool:
    """Nobody's; or what leads to their routes or blocks behind them: slots, and so tables, count from 1 in each store."""
    leads = step.resource
    if step.verb is not Verb.DELETE:
        return False
    if isinstance(leads, Table | Accept):
        names = leads.tunnels if isinstance(leads, Table) else (step.tunnel,)
        return bool(found.of_others(names, declared))
    if step.tunnel == HOST:
        return leads.kind in ("route", "rule")
    if isinstance(leads, Route | Routes) and leads.dev is not None:
        return False
    return isinstance(leads, Rule | Route | Routes) and leads.table in their_tables
