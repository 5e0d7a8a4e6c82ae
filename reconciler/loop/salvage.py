"""Removal by marks alone: when the store is lost, and of what another store has left."""

from __future__ import annotations

from reconciler.errors import NotConverged, StoreError
from reconciler.host.lock import hold
from reconciler.host.machine import Machine
from reconciler.host.privilege import require_net_admin
from reconciler.loop.act import act
from reconciler.loop.commands import Done, Session
from reconciler.loop.reconcile import Pass, Watcher
from reconciler.loop.survey import Survey, survey
from reconciler.model.names import HOST
from reconciler.model.plan import Plan
from reconciler.plan import plan as plan_steps
from reconciler.store.read import read
from reconciler.store.stored import Stored


def down_without_store(session: Session, cause: StoreError, watch: Watcher) -> Done:
    """The store is lost: everything that carries a mark of tunctl goes. What only the ledger knew cannot be given back."""
    require_net_admin("down")
    with hold(session.run_dir, session.lock_timeout_s) as held, Machine(session.run_dir) as machine:
        result = _remove_marked(session, machine, Stored(exists=False), watch, orphans_of=None)
        notes = (*held.warnings, "what the ledger had (sysctls, resolv.conf) cannot be given back")
        errors = (*result.errors, (HOST, cause))
        return Done(result._replace(errors=errors), (), notes)


def down_orphans(session: Session, watch: Watcher) -> Done:
    """Removes what carries another store's mark."""
    require_net_admin("down")
    with hold(session.run_dir, session.lock_timeout_s) as held, Machine(session.run_dir) as machine:
        stored = read(session.state_dir)
        return Done(_remove_marked(session, machine, stored, watch, orphans_of=stored.store_id or ""), (), held.warnings)


def _remove_marked(session: Session, machine: Machine, stored: Stored, watch: Watcher, *, orphans_of: str | None) -> Pass:
    """Removes all that is marked; with `orphans_of` only links and owners whose mark is of another store than that."""

    def doomed(seen: Survey) -> Plan:
        found = seen.found.resources
        if orphans_of is None:
            return plan_steps((), found, blind=seen.found.is_unobserved)
        alien = {name for name, state in seen.found.links.items() if state.mark and state.mark.store_id != orphans_of}
        kept = [
            r
            for r in found
            if (r.kind == "link" and r.dev in alien) or (r.kind == "owner" and r.mark.store_id != orphans_of)  # type: ignore[attr-defined]
        ]
        return plan_steps((), kept, blind=seen.found.is_unobserved)

    nobody = Stored(exists=False, sources=stored.sources)
    before = survey(machine, nobody, resolve=False, privileged=True, every_mark=True)
    steps = doomed(before)
    watch.planned(steps)
    outcomes = act(machine, steps.steps, session.fault, watch.done)
    after = survey(machine, nobody, resolve=False, privileged=True, every_mark=True)
    left = doomed(after)
    errors = [(outcome.step.tunnel, outcome.error) for outcome in outcomes if outcome.error]
    if not errors:
        errors = [(step.tunnel, NotConverged(f"still to do after a second look: {step}")) for step in left.steps]
    return Pass(steps, tuple(outcomes), after, left, tuple(errors), tuple(machine.notes))
