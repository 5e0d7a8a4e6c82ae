"""What a command would do, as data: `plan`, and `apply --dry-run`. Imports nothing that writes: scripts ask often."""

from __future__ import annotations

import os

from reconciler.errors import NotConverged, TunctlError
from reconciler.host.machine import Machine
from reconciler.loop.guard import refuse_withdrawal
from reconciler.loop.survey import Survey, survey
from reconciler.loop.unchanged import unchanged
from reconciler.model.facts import Unknown
from reconciler.model.ledger import Remembered
from reconciler.model.names import HOST, TunnelName
from reconciler.model.order import ApplyOptions
from reconciler.model.plan import Plan
from reconciler.model.tunnel import Desired
from reconciler.store.desire import desire
from reconciler.store.read import read
from reconciler.store.stored import Stored, Terms
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Planned(NamedTuple):
    """A plan, and what is not in it."""

    plan: Plan
    held: tuple[TunnelName, ...]
    errors: tuple[tuple[TunnelName, TunctlError], ...]  # what this machine cannot have, or could not be looked at


def plan(state_dir: str | Path, run_dir: str | Path, location: str | None, options: ApplyOptions) -> Planned:
    """What `apply` of this file, or `reconcile`, would do. Changes nothing, needs no lock."""
    stored = read(state_dir)
    warnings: tuple[str, ...] = ()
    scope: frozenset[TunnelName] | None = None
    adopt: frozenset[TunnelName] = frozenset()
    if location is not None:
        desired = desired_of(location, stored)
        if not options.allow_withdraw:
            refuse_withdrawal(stored, desired)
        declared = frozenset(tunnel.name for tunnel in desired.tunnels)
        stored, _ = desire(stored, desired, terms(Machine(run_dir), declared, options))
        scope = frozenset(i.name for i in stored.intents if i.source == desired.source) | {HOST}
        adopt = declared if options.adopt else frozenset()
        warnings = desired.warnings
    with Machine(run_dir) as machine:
        machine.ledger = Remembered(stored.ledger)
        seen = survey(machine, stored, resolve=True, privileged=os.geteuid() == 0, adopt=adopt)
    left = seen.plan if scope is None else seen.plan.only(scope)
    names = {i.name for i in stored.intents} if scope is None else scope
    return Planned(
        left._replace(warnings=(*warnings, *left.warnings, *_not_compared(seen))),
        tuple(i.name for i in stored.intents if i.name in names and i.held and i.tunnel.enabled and not i.withdrawn),
        tuple(
            (name, error)
            for name, error in (*seen.wanted.impossible, *seen.wanted.refused, *_blind(seen, left))
            if name in names
        ),
    )


def desired_of(location: str, stored: Stored) -> Desired:
    """What the file says; read only when it, or anything it names, is not what it was."""
    desired = unchanged(location, stored)
    if desired is None:
        from reconciler.loop.relisted import relisted

        desired = relisted(location, stored)
    if desired is None:
        from reconciler.config.load import load  # with a parser of TOML, and `re`: 10 ms

        desired = load(location)
    return desired


def terms(machine: Machine, declared: frozenset[TunnelName], options: ApplyOptions) -> Terms:
    """How the file is saved, or would be."""
    return Terms(declared if options.take_over else frozenset(), options.keep_holds, machine.handles.boot_id)


def _not_compared(seen: Survey) -> Iterator[str]:
    """What only root could have compared, or what no file could tell."""
    for blind in seen.found.unobserved:
        if blind.privilege and blind.tunnel != HOST:
            yield f"{blind.tunnel or 'all tunnels'}: {blind.kind} not compared: {blind.reason}"
    for path, key in (*seen.facts.public_keys.items(), *seen.facts.preshared.items()):
        if isinstance(key, Unknown):
            yield f"{path}: not compared: {key.reason}"
    for (name, _), known in seen.facts.whereabouts.items():
        if known.unread:
            yield f"{name}: {known.trouble}: not compared"


def _blind(seen: Survey, left: Plan) -> Iterator[tuple[TunnelName, TunctlError]]:
    """A look that failed for another reason than privilege is no plan without changes."""
    for blind in seen.found.unobserved:
        if not blind.privilege:
            names = [i.name for i in seen.stored.intents] if blind.tunnel is None else [blind.tunnel]
            for name in names:
                yield name, NotConverged(f"{blind.kind} could not be read: {blind.reason}")
