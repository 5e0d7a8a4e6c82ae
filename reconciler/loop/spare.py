"""What may be another store's is not swept. Pure.

Rules, routes without a device of a tunnel, and the packet filter carry our protocol or our name, but no store's. As
long as links of another store are here (its state directory was lost, or somebody else is at work), what this store
has no use for may be what their traffic goes by: a full tunnel without its rules is one in clear. It goes with
`down --orphans`, or with the first pass after they are gone.
"""

from __future__ import annotations

from reconciler.kinds.route import MAIN, Route
from reconciler.kinds.routes import Routes
from reconciler.kinds.rule import Rule
from reconciler.model.found import Found
from reconciler.model.names import HOST
from reconciler.model.plan import Plan, Step
from reconciler.model.resource import Verb

_UNSIGNED = ("route", "rule", "nat", "forward")


def spared(plan: Plan, found: Found) -> Plan:
    """The plan without removals of what may be another store's, of which there are links."""
    theirs = {r.table for r in found.resources if isinstance(r, Route | Routes) and r.tunnel is None} - {MAIN}
    return plan._replace(steps=tuple(step for step in plan.steps if not _may_be_theirs(step, theirs)))


def _may_be_theirs(step: Step, their_tables: set[int]) -> bool:
    """Nobody's; or what leads to their routes or blocks behind them: slots, and so tables, count from 1 in each store."""
    if step.verb is not Verb.DELETE:
        return False
    if step.tunnel == HOST:
        return step.resource.kind in _UNSIGNED
    leads = step.resource
    if isinstance(leads, Route | Routes) and leads.dev is not None:
        return False
    return isinstance(leads, Rule | Route | Routes) and leads.table in their_tables
