"""Is there nothing to do at all, neither on the machine nor in the store? A timer asks every 30 seconds, and scripts apply
the same file again and again: they need nothing that writes. In doubt the answer is no."""

from __future__ import annotations

import os
from _operator import attrgetter

from reconciler.errors import TunctlError
from reconciler.host.handles import RECORD
from reconciler.host.lock import hold
from reconciler.host.machine import Machine
from reconciler.host.privilege import has_net_admin
from reconciler.loop.hints import handle, vouched
from reconciler.loop.survey import Survey, survey
from reconciler.loop.unchanged import unchanged
from reconciler.model.intent import Intent
from reconciler.model.ledger import Remembered
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Plan
from reconciler.store.desire import desire
from reconciler.store.place import FILE
from reconciler.store.read import read
from reconciler.store.stored import Stored, Terms
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.host.resolve import Names


class Settled(NamedTuple):
    """What is to be said of it all the same."""

    plan: Plan  # without steps
    held: tuple[TunnelName, ...] = ()
    notes: tuple[str, ...] = ()  # warnings of the file


def settled(state_dir: str, run_dir: str, location: str | None) -> Settled | None:
    """What `apply` of this file, or `reconcile`, would leave as it is. None: there is something to do, or it is not sure."""
    if not has_net_admin() or not os.path.lexists(os.path.join(state_dir, FILE)):
        return None
    try:
        with hold(run_dir, 0) as held:
            stored = read(state_dir)
            if held.warnings:
                return None
            if not _has_names(stored.intents):
                return _settled(stored, run_dir, location, {})
        from reconciler.loop.lookup import asked, look_up

        names = look_up(run_dir, stored, {})  # without the lock
        asked.update(names)
        with hold(run_dir, 0):
            return _settled(read(state_dir), run_dir, location, names)
    except TunctlError:  # whoever does it finds out the same, and waits, and says more
        return None


def _has_names(intents: Sequence[Intent]) -> bool:
    """Does any engine talk to something that must be looked up?"""
    if not (any(map(attrgetter("tunnel.wireguard"), intents)) or any(map(attrgetter("tunnel.exec_"), intents))):
        return False
    from reconciler.loop.lookup import names_of

    return any(True for _ in names_of(intent.tunnel for intent in intents))


def _settled(stored: Stored, run_dir: str, location: str | None, names: Names) -> Settled | None:
    if location is None and any(intent.tunnel.health for intent in stored.intents):
        return None  # whether they work is found out first
    scope = frozenset(intent.name for intent in stored.intents) | {HOST}
    notes: tuple[str, ...] = ()
    if location is not None:
        desired = unchanged(location, stored)
        if desired is None:
            return None
        if desire(stored, desired, Terms(boot_id=Machine(run_dir).handles.boot_id))[0] != stored:
            return None
        scope = frozenset(i.name for i in stored.intents if i.source == desired.source) | {HOST}
        notes = desired.warnings
    with Machine(run_dir) as machine:
        machine.ledger, machine.names = Remembered(stored.ledger), names
        now = survey(machine, stored, resolve=True, privileged=os.geteuid() == 0)
        if not _is_so(machine, now, scope, everything=location is None):
            return None
    held = tuple(i.name for i in stored.intents if i.held) if location is None else ()
    return Settled(now.plan.only(scope), held, notes)


def _is_so(machine: Machine, now: Survey, scope: frozenset[TunnelName], *, everything: bool) -> bool:
    plan = now.plan if everything else now.plan.only(scope)
    if plan.steps or plan.conflicts or now.found.unobserved or now.found.warnings:
        return False
    if any(name in scope for name, _ in (*now.wanted.impossible, *now.wanted.refused)):
        return False
    kept = all(_is_kept(machine, now, i) for i in now.stored.intents if i.name in scope) and is_recorded(machine, now)
    return kept and not machine.handles.warnings()


def _is_kept(machine: Machine, now: Survey, intent: Intent) -> bool:
    """All that a pass remembers of a tunnel is remembered."""
    name = intent.name
    there = name in now.there
    if intent.withdrawn or not is_steady(now, intent, there=there) or intent.vouched != vouched(now, intent):
        return False
    if not there:
        return not os.path.lexists(machine.handles.directory(name))
    if machine.handles.get(name) != handle(machine, now, name, peers_are_set=True):
        return False
    if now.owner_of(name) is None:
        return True
    from reconciler.host import ownerlog

    return ownerlog.size(f"{machine.handles.directory(name)}/{ownerlog.FILE}") <= ownerlog.LIMIT


def is_recorded(machine: Machine, now: Survey) -> bool:
    """The record of what is bound says what it is to say. Most hosts serve nothing, and have none."""
    serves = any(map(attrgetter("tunnel.listen"), now.stored.intents))
    if not serves and not os.path.lexists(os.path.join(machine.run_dir, RECORD)):
        return True
    from reconciler.loop import served

    return served.is_kept(machine, now)


def is_steady(now: Survey, intent: Intent, *, there: bool) -> bool:
    """Nothing of how it got on is another than before, provided that nothing was done and nothing went wrong."""
    state = intent.progress.state
    if intent.is_wanted_up(now.facts.boot_id):
        return state == "up" and addresses(now, intent) == intent.progress.last_addresses
    return state == "removed" or (state == "pending" and not there)


def addresses(now: Survey, intent: Intent) -> tuple[str, ...]:
    """Those that its link has."""
    link = now.link_of(intent.name)
    return now.found.addresses_of(link.name) if link else ()
