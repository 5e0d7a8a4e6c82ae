"""What is kept after a pass: handles for the next one, and in the store how each tunnel got on. Nothing is written
that was so already."""

from __future__ import annotations

import os

from reconciler import lifecycle
from reconciler.errors import StepFailed, TunctlError
from reconciler.host import ownerlog
from reconciler.host.handles import CLOCK, Handle
from reconciler.host.machine import Machine
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.lean import suppress
from reconciler.loop import hints
from reconciler.loop.settled import addresses, is_recorded, is_steady
from reconciler.loop.survey import Survey
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import HOST, TunnelName
from reconciler.store.stored import Ending, Line
from reconciler.store.write import Store
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from reconciler.loop.queue import Rest


def owners(machine: Machine, now: Survey) -> None:
    """Handles of owners that are found but not remembered: as they run, they are taken to be as they are wanted."""
    new = []
    for found in now.found.of(Owner):
        if found.tunnel and found.fingerprint is None and found.pid:
            wanted = now.owners_wanted.get(found.tunnel)
            if wanted is not None and not wanted.differs_from(found):
                new.append(hints.handle(machine, now, found.tunnel, peers_are_set=False))
    _put(machine, new)


def handles(machine: Machine, passed: Passed) -> None:
    """After a pass the handles say what the kernel says, and by which clock; those of tunnels that are gone go too."""
    now = passed.now
    there = passed.scope & now.there & now.intents.keys()
    _put(machine, [hints.handle(machine, now, name, peers_are_set=name not in passed.errors) for name in there])
    for name in there:
        if now.owner_of(name) is not None:
            _bound_log(machine, name)
    for name in passed.scope - now.there - passed.errors.keys() - {HOST}:
        _drop(machine, name)  # after an error not: what was not seen may be there, and its log says what went wrong
    _clock(machine, now)


def record(machine: Machine, now: Survey) -> list[TunctlError]:
    """What is bound, for everybody to read; what could not be written."""
    if is_recorded(machine, now):
        return []
    from reconciler.loop import served

    return list(served.keep(machine, now))


def _clock(machine: Machine, now: Survey) -> None:
    """How it is set, as long as somebody tells of handshakes by it."""
    if now.found.of(Peer):
        from reconciler.host import timeline

        timeline.keep(machine.run_dir, now.facts.boot_id)
    elif not any(blind.kind == "peer" for blind in now.found.unobserved):  # an engine that does not answer will tell again
        with suppress(OSError):
            os.unlink(os.path.join(machine.run_dir, CLOCK))


def _put(machine: Machine, new: Iterable[Handle]) -> None:
    for name, error in machine.handles.put_all(new).items():
        raise StepFailed(f"{machine.run_dir}: handles of {name} could not be written: {error.strerror}") from error


def vouched(store: Store, now: Survey) -> None:
    """What manifests vouch for is kept: a newer one may be damaged or gone tomorrow, or after a reboot."""
    vouching = now.stored.intents if now.facts.whereabouts else [intent for intent in now.stored.intents if intent.vouched]
    found = {intent.name: best for intent in vouching if (best := hints.vouched(now, intent)) != intent.vouched}
    if found:
        store.vouch(found)


def _bound_log(machine: Machine, name: TunnelName) -> None:
    """A program that talks much must not fill the disk."""
    with suppress(OSError):
        ownerlog.bound_log(os.path.join(machine.handles.directory(name), ownerlog.FILE))


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
    later: bool = False  # who repaired what is only a line of the history, which nobody should have to wait for


Moves = dict[TunnelName, tuple[Progress, str]]


def ending(generation: int | None, errors: Iterable[tuple[TunnelName, TunctlError]]) -> Ending | None:
    """How the application of this generation went, if it was one."""
    if generation is None:
        return None
    told = {name: error.message for name, error in errors}
    outcome = "not converged" if told else "converged"
    return Ending(generation, outcome, {name: words for name, words in told.items() if name})


def progress(store: Store, passed: Passed, ended: Ending | None) -> tuple[Moves, tuple[Line, ...]]:
    """How each tunnel got on. Rows of withdrawn tunnels go when nothing of them is left. → what was stored anew, and lines
    still to be written."""
    lines: list[Line] = []
    there = passed.now.there
    vanished: list[TunnelName] = []
    moves: Moves = {}
    for name, intent in passed.now.intents.items():
        if name not in passed.scope:
            continue
        if intent.withdrawn and name not in there and name not in passed.errors:
            vanished.append(name)
            continue
        moved, told = _moved(intent, passed, there=name in there)
        if moved == intent.progress:
            continue
        if passed.later and moved._replace(since_us=intent.progress.since_us) == intent.progress:
            lines.append(Line(passed.now.facts.now_us, name, moved.state, told))
        else:
            moves[name] = (moved, told or passed.cause)
    store.conclude(moves, vanished, cause=passed.cause, ending=ended)
    return moves, tuple(lines)


def rests(store: Store, before: Survey, names: Collection[TunnelName], resting: Mapping[TunnelName, Rest]) -> Moves:
    """Of these the program has ended too often: they wait for their next attempt, and that is stored for all to see."""
    if not names:
        return {}
    now_us = before.facts.now_us
    moves: Moves = {}
    for name in names:
        intent, rest = before.intents[name], resting[name]
        until_us = now_us + round(rest.for_s * 1e6)
        new, moved = lifecycle.rested(intent.progress, rest.attempt, until_us, intent.tunnel.restart, now_us)
        if moved:
            moves[name] = (new, lifecycle.told(moved))
    store.conclude(moves)
    return moves


def _moved(intent: Intent, passed: Passed, *, there: bool) -> tuple[Progress, str]:
    """The new progress and the events that led to it; that all is as it was is the usual case, kept cheap."""
    now, name = passed.now, intent.name
    up, error, acted = intent.is_wanted_up(now.facts.boot_id), passed.errors.get(name), name in passed.acted
    if (not up or (not acted and error is None)) and is_steady(now, intent, there=there):
        return intent.progress, ""
    why, now_has = error.message if error else "", addresses(now, intent) if up else ()
    seen = lifecycle.Seen(up, there, error is None, acted, why, passed.requested, now_has, name in passed.anew)
    new, moves = lifecycle.after(intent.progress, seen, intent.tunnel.restart, now.facts.now_us)
    return new, lifecycle.told(moves)
