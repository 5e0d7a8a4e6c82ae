"""Removal by marks alone: when the store is lost, and of what another store has left."""

from __future__ import annotations

import os

from reconciler.errors import NotConverged, StoreError
from reconciler.host.handles import RECORD
from reconciler.host.lock import hold
from reconciler.host.machine import Machine
from reconciler.host.privilege import require_net_admin
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.lean import suppress
from reconciler.loop.act import act
from reconciler.loop.commands import Done, Session
from reconciler.loop.reconcile import Pass, Watcher
from reconciler.loop.survey import Others, Survey, survey
from reconciler.model.names import HOST, TunnelName, is_tunnel_name
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
    """Removes all that is marked; with `orphans_of` only what is of another store than that, and what is nobody's."""
    _, steps = _doomed(machine, stored, orphans_of)
    watch.planned(steps)
    outcomes = act(machine, steps.steps, session.fault, watch.done)
    after, left = _doomed(machine, stored, orphans_of)
    errors = [(outcome.step.tunnel, outcome.error) for outcome in outcomes if outcome.error]
    if not errors:
        errors = [(step.tunnel, NotConverged(f"still to do after a second look: {step}")) for step in left.steps]
    _drop_handles(machine, after, orphans_of)
    return Pass(steps, tuple(outcomes), after, left, tuple(errors), tuple(machine.notes))


def _doomed(machine: Machine, stored: Stored, orphans_of: str | None) -> tuple[Survey, Plan]:
    """What is there, and the plan that removes it. Routes without a device and rules carry no store's mark: those that
    belong to no tunnel of `stored`, or were spared because of the orphans, are nobody's and go with them."""
    nobody = Stored(exists=False, sources=stored.sources)
    seen = survey(machine, nobody, resolve=False, privileged=True, others=Others.OURS)
    found = seen.found.resources
    if orphans_of is None:
        return seen, plan_steps((), found, blind=seen.found.is_unobserved)
    alien = {name for name, state in seen.found.links.items() if state.mark and state.mark.store_id != orphans_of}
    doomed = [
        r
        for r in found
        if (isinstance(r, Link) and r.name in alien) or (isinstance(r, Owner) and r.mark.store_id != orphans_of)
    ]
    marked = plan_steps((), doomed, blind=seen.found.is_unobserved)
    spared, swept = (
        survey(machine, stored, resolve=False, privileged=True, others=others).plan.steps
        for others in (Others.SPARED, Others.SWEPT)
    )
    unsigned = [step for step in swept if step.tunnel == HOST or step not in spared]
    return seen, marked._replace(steps=(*unsigned, *marked.steps))


def _drop_handles(machine: Machine, after: Survey, orphans_of: str | None) -> None:
    """The run directories of tunnels that are gone."""
    there = {r.tunnel for r in after.found.resources}
    if orphans_of is None and not there - {None, HOST}:
        with suppress(OSError):
            os.unlink(os.path.join(machine.run_dir, RECORD))
    with suppress(FileNotFoundError):
        names = [TunnelName(name) for name in os.listdir(os.path.join(machine.run_dir, "tunnels")) if is_tunnel_name(name)]
        for name in names:
            handle = machine.handles.get(name)
            is_orphan = orphans_of is None or (handle is not None and handle.id[:4] != orphans_of)
            if name not in there and is_orphan:
                with suppress(OSError):  # what stays there costs nothing
                    machine.handles.drop(name)
