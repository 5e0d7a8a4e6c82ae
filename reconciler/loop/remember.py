"""What is kept after a pass: handles for the next one, and in the store how each tunnel got on. Nothing is written
that was so already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from reconciler.errors import StepFailed, TunctlError
from reconciler.host.handles import Handle
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.loop.survey import Survey
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import TunnelName
from reconciler.model.plan import Outcome
from reconciler.store.write import Store

if TYPE_CHECKING:
    from reconciler.loop.reconcile import Request


def owners(machine: Machine, now: Survey) -> None:
    """Handles of owners that are found but not remembered: as they run, they are taken to be as they are wanted."""
    for found in now.found.resources:
        if isinstance(found, Owner) and found.tunnel and found.fingerprint is None and found.pid:
            wanted = next((w for w in now.wanted.resources if isinstance(w, Owner) and w.tunnel == found.tunnel), None)
            if wanted is not None and not wanted.differs_from(found):
                _put(machine, now, found.tunnel)


def handles(machine: Machine, now: Survey, scope: Iterable[TunnelName]) -> None:
    """After a pass the handles say what the kernel says; those of tunnels that are gone go too."""
    intents = {intent.name for intent in now.stored.intents}
    there = {r.tunnel for r in now.found.resources if r.tunnel}
    for name in scope:
        if name in there and name in intents:
            _put(machine, now, name)
        elif name and name not in there:
            _drop(machine, name)


def _put(machine: Machine, now: Survey, name: TunnelName) -> None:
    intent = next(i for i in now.stored.intents if i.name == name)
    link = next((r for r in now.found.resources if isinstance(r, Link) and r.tunnel == name), None)
    owner = next((r for r in now.found.resources if isinstance(r, Owner) and r.tunnel == name), None)
    wanted = next((r for r in now.wanted.resources if isinstance(r, Owner) and r.tunnel == name), None)
    known = machine.handles.get(name)
    fingerprint = owner.fingerprint if owner else None
    if owner is not None and fingerprint is None and wanted is not None:
        fingerprint = owner_fingerprint(wanted)
    handle = Handle(
        name, intent.mark.id, now.facts.boot_id, link.name if link else None, link.ifindex if link else None,
        owner.pid if owner else None, owner.start_ticks if owner else None, fingerprint,
        _endpoints(intent, known), known.bound if known else {},
    )  # fmt: skip
    try:
        machine.handles.put(handle)
    except OSError as error:
        raise StepFailed(f"{machine.run_dir}: handles of {name} could not be written: {error.strerror}") from error


def owner_fingerprint(wanted: Owner) -> str:
    from reconciler.kinds.owner import fingerprint

    return fingerprint(wanted)


def _endpoints(intent: Intent, known: Handle | None) -> dict[str, str]:
    """The endpoint texts that now stand in the engine: whatever was configured when the pass ended."""
    peers = intent.tunnel.wireguard.peers if intent.tunnel.wireguard else ()
    return {peer.public_key: str(peer.endpoint) for peer in peers if peer.endpoint}


def _drop(machine: Machine, name: TunnelName) -> None:
    try:
        machine.handles.drop(name)
    except OSError:
        return  # a scratch file that stays costs nothing: the kernel no longer ties it to anything


def progress(
    store: Store,
    now: Survey,
    scope: frozenset[TunnelName],
    outcomes: Iterable[Outcome],
    errors: Mapping[TunnelName, TunctlError],
    request: Request,
) -> None:
    """How each tunnel got on. Rows of withdrawn tunnels go when nothing of them is left."""
    acted = {outcome.step.tunnel for outcome in outcomes if not outcome.skipped}
    there = {r.tunnel for r in now.found.resources if r.tunnel}
    vanished = []
    for intent in now.stored.intents:
        if intent.name not in scope:
            continue
        if intent.withdrawn and intent.name not in there and intent.name not in errors:
            vanished.append(intent.name)
            continue
        error = errors.get(intent.name)
        moved = _moved(intent, now, intent.name in there, intent.name in acted, error, request.requested)
        if moved is not None and moved[0] != intent.progress:
            store.progress(intent.name, moved[0], moved[1] or request.cause)
    if vanished:
        store.delete(tuple(vanished))


def _moved(
    intent: Intent,
    now: Survey,
    there: bool,
    acted: bool,
    error: TunctlError | None,
    requested: bool,  # noqa: FBT001
) -> tuple[Progress, str] | None:
    """The new progress and the events that led to it; None when all is as it was (the usual case, kept cheap)."""
    up = intent.is_wanted_up(now.facts.boot_id)
    state = intent.progress.state
    addresses = _addresses(now, intent) if up else ()
    settled = state == "up" and not acted and error is None and addresses == intent.progress.last_addresses
    if settled if up else (state == "removed" or (state == "pending" and not there)):
        return None
    from reconciler import lifecycle  # 60 ms, and most passes change nothing

    seen = lifecycle.Seen(up, there, error is None, acted, error.message if error else "", requested, addresses)
    new, moves = lifecycle.after(intent.progress, seen, intent.tunnel.restart, now.facts.now_us)
    return new, " → ".join(f"{move.event} {move.state}" for move in moves)


def _addresses(now: Survey, intent: Intent) -> tuple[str, ...]:
    link = next((r for r in now.found.resources if isinstance(r, Link) and r.tunnel == intent.name), None)
    return tuple(str(prefix) for prefix in now.found.addresses.get(link.name, ())) if link else ()
