"""What is kept after a pass: handles for the next one, and in the store how each tunnel got on. Nothing is written
that was so already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from reconciler.errors import StepFailed, TunctlError
from reconciler.host import ownerlog
from reconciler.host.handles import Handle
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.kinds.owner import fingerprint as fingerprint_of
from reconciler.kinds.resolver import Resolver
from reconciler.loop.queue import Rest
from reconciler.loop.survey import Survey
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import TunnelName
from reconciler.store.write import Store


def owners(machine: Machine, now: Survey) -> None:
    """Handles of owners that are found but not remembered: as they run, they are taken to be as they are wanted."""
    for found in now.found.resources:
        if isinstance(found, Owner) and found.tunnel and found.fingerprint is None and found.pid:
            wanted = now.owners_wanted.get(found.tunnel)
            if wanted is not None and not wanted.differs_from(found):
                _put(machine, now, found.tunnel, peers_are_set=False)


def handles(machine: Machine, passed: Passed) -> None:
    """After a pass the handles say what the kernel says; those of tunnels that are gone go too."""
    now = passed.now
    for name in passed.scope:
        if name in now.found_by_tunnel and name in now.intents:
            _put(machine, now, name, peers_are_set=name not in passed.errors)
            _bound_log(machine, name)
        elif name and name not in now.found_by_tunnel and name not in passed.errors:
            _drop(machine, name)  # after an error not: what was not seen may be there, and its log says what went wrong


def _put(machine: Machine, now: Survey, name: TunnelName, *, peers_are_set: bool) -> None:
    intent = now.intents[name]
    link, owner, wanted = now.link_of(name), now.owner_of(name), now.owners_wanted.get(name)
    known = machine.handles.get(name)
    fingerprint = owner.fingerprint if owner else None
    if owner is not None and fingerprint is None and wanted is not None:
        fingerprint = fingerprint_of(wanted)
    handle = Handle(
        name, intent.mark.id, now.facts.boot_id, link.name if link else None, link.ifindex if link else None,
        owner.pid if owner else None, owner.start_ticks if owner else None, fingerprint,
        _endpoints(intent) if peers_are_set else known.endpoints if known else {},
        known.bound if known else {},
        _is_resolved(now, name, known),
    )  # fmt: skip
    try:
        machine.handles.put(handle)
    except OSError as error:
        raise StepFailed(f"{machine.run_dir}: handles of {name} could not be written: {error.strerror}") from error


def _is_resolved(now: Survey, name: TunnelName, known: Handle | None) -> bool:
    """Settings of a link in systemd-resolved carry no mark: that they are ours is only written here."""
    if known is not None and now.found.is_unobserved("resolver", name):
        return known.resolved
    return any(isinstance(r, Resolver) and r.backend == "resolved" for r in now.found_of(name))


def _endpoints(intent: Intent) -> dict[str, str]:
    """The endpoint texts that stand in the engine after a pass without errors."""
    peers = intent.tunnel.wireguard.peers if intent.tunnel.wireguard else ()
    return {peer.public_key: str(peer.endpoint) for peer in peers if peer.endpoint}


def _bound_log(machine: Machine, name: TunnelName) -> None:
    """A program that talks much must not fill the disk."""
    if machine.handles.get(name):
        with suppress(OSError):
            ownerlog.bound_log(machine.handles.directory(name) / ownerlog.FILE)


def _drop(machine: Machine, name: TunnelName) -> None:
    with suppress(OSError):  # a scratch file that stays costs nothing: the kernel no longer ties it to anything
        machine.handles.drop(name)


class Passed(NamedTuple):
    """What a pass left, as far as it must be remembered."""

    now: Survey
    scope: frozenset[TunnelName]
    acted: frozenset[TunnelName]  # for which steps were done
    anew: frozenset[TunnelName]  # whose interface was made
    errors: Mapping[TunnelName, TunctlError]
    requested: bool  # by a user, not by a timer
    cause: str


def progress(store: Store, passed: Passed) -> None:
    """How each tunnel got on. Rows of withdrawn tunnels go when nothing of them is left."""
    there = passed.now.found_by_tunnel
    vanished: list[TunnelName] = []
    moves: dict[TunnelName, tuple[Progress, str]] = {}
    for intent in passed.now.stored.intents:
        if intent.name not in passed.scope:
            continue
        if intent.withdrawn and intent.name not in there and intent.name not in passed.errors:
            vanished.append(intent.name)
            continue
        moved = _moved(intent, passed, there=intent.name in there)
        if moved is not None and moved[0] != intent.progress:
            moves[intent.name] = (moved[0], moved[1] or passed.cause)
    if moves:
        store.progress_all(moves)
    if vanished:
        store.delete(vanished, cause=passed.cause)


def rests(store: Store, before: Survey, names: Collection[TunnelName], resting: Mapping[TunnelName, Rest]) -> None:
    """Of these the program has ended too often: they wait for their next attempt, and that is stored for all to see."""
    if not names:
        return
    from reconciler import lifecycle

    now_us = before.facts.now_us
    moves: dict[TunnelName, tuple[Progress, str]] = {}
    for name in names:
        intent, rest = before.intents[name], resting[name]
        until_us = now_us + round(rest.for_s * 1e6)
        new, moved = lifecycle.rested(intent.progress, rest.attempt, until_us, intent.tunnel.restart, now_us)
        if moved:
            moves[name] = (new, " → ".join(f"{move.event} {move.state}" for move in moved))
    if moves:
        store.progress_all(moves)


def _moved(intent: Intent, passed: Passed, *, there: bool) -> tuple[Progress, str] | None:
    """The new progress and the events that led to it; None when all is as it was (the usual case, kept cheap)."""
    facts = passed.now.facts
    up = intent.is_wanted_up(facts.boot_id)
    error = passed.errors.get(intent.name)
    acted = intent.name in passed.acted
    state = intent.progress.state
    addresses = _addresses(passed.now, intent) if up else ()
    settled = state == "up" and not acted and error is None and addresses == intent.progress.last_addresses
    if settled if up else (state == "removed" or (state == "pending" and not there)):
        return None
    from reconciler import lifecycle  # 60 ms, and most passes change nothing

    told, anew = error.message if error else "", intent.name in passed.anew
    seen = lifecycle.Seen(up, there, error is None, acted, told, passed.requested, addresses, anew)
    new, moves = lifecycle.after(intent.progress, seen, intent.tunnel.restart, facts.now_us)
    return new, " → ".join(f"{move.event} {move.state}" for move in moves)


def _addresses(now: Survey, intent: Intent) -> tuple[str, ...]:
    """Without the link-local ones that the kernel gives to every link."""
    link = now.link_of(intent.name)
    found = now.found.addresses.get(link.name, ()) if link else ()
    return tuple(str(prefix) for prefix in found if not prefix.is_link_local)
