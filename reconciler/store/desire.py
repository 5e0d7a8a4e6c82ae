"""What the store will hold when a desired file is saved. Pure, so that `plan` sees what `apply` would store."""

from __future__ import annotations

import os
from _operator import attrgetter
from itertools import count, filterfalse

from reconciler.errors import Foreign, InvalidFile, Problem, StoreError
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Desired, Host, Tunnel
from reconciler.store.change import asked_again, withdrawn
from reconciler.store.conflicts import conflicts
from reconciler.store.stored import Saved, Source, Stored, Terms
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST = 0x8000  # rows: half of what four digits can tell apart
_MOVE = "Change one of the files, or move tunnels here with --take-over."
_CHANGE = "Change one of the files; --take-over only moves tunnels, each under its name."


def desire(stored: Stored, desired: Desired, terms: Terms) -> tuple[Stored, Saved]:
    """What is stored then, and what that changes. Equal intents, and no generation, when nothing changes.

    Errors: as of `ensure_possible`.
    """
    ensure_possible(stored, desired, terms.take_over)
    stored = stored._replace(store_id=stored.store_id or os.urandom(2).hex())
    before = {intent.name: intent for intent in stored.intents}
    saved = _compared(before, desired, terms)
    differs = bool(saved.created or saved.changed or saved.withdrawn) or _source_differs(stored, desired)
    saved = saved._replace(generation=terms.generation if differs else None)
    after = before | {name: withdrawn(before[name])._replace(generation=terms.generation) for name in saved.withdrawn}
    after |= {name: after[name]._replace(held=False) for name in saved.released}
    after |= {name: asked_again(after[name], terms.now_us) for name in (*saved.changed, *saved.unchanged)}
    changed = frozenset(saved.changed)
    after |= {t.name: _declared(after[t.name], t, desired.source, terms) for t in desired.tunnels if t.name in changed}
    if saved.created:
        new = [tunnel for tunnel in desired.tunnels if tunnel.name not in before]
        after |= {intent.name: intent for intent in _created(stored, new, desired.source, terms.generation)}
    sources = {source.name: source for source in stored.sources}
    if differs:
        sources[desired.source] = source_of(desired, terms)
    intents = tuple(sorted(after.values(), key=attrgetter("slot")))
    return Stored(True, stored.store_id, tuple(_used(sources.values(), intents)), intents, stored.ledger), saved


def _used(sources: Iterable[Source], intents: Iterable[Intent]) -> list[Source]:
    """By name, those that have tunnels, or a [host] that still counts."""
    having = {intent.source for intent in intents}
    used = [s for s in sources if s.name in having or not (s.forgotten or s.host == Host())]
    return sorted(used, key=attrgetter("name"))


def source_of(desired: Desired, terms: Terms) -> Source:
    """Where it comes from, as that is stored."""
    return Source(
        name=desired.source,
        path=desired.path,
        host=desired.host,
        generation=terms.generation,
        applied_us=terms.now_us,
        tunnels=len(desired.tunnels),
        inputs=desired.inputs,
        warnings=desired.warnings,
    )


def ensure_possible(stored: Stored, desired: Desired, take_over: frozenset[TunnelName]) -> None:
    """Foreign (73) when another source has declared something of it differently, InvalidFile when a name is not UTF-8,
    StoreError when there would be too many tunnels."""
    for text in (desired.source, desired.path):
        if not _is_utf8(text):
            raise InvalidFile(f"{text!r} is not UTF-8", hint="Give the file a `source` and a path that are UTF-8.")
    problems = conflicts(stored, desired, take_over)
    if problems:
        raise Foreign(
            f"{len(problems)} declarations of {desired.path} belong to another source" if problems[1:] else problems[0],
            hint=_CHANGE if conflicts(stored, desired, frozenset(t.name for t in desired.tunnels)) else _MOVE,
            details=tuple(Problem(desired.path, 0, "", problem) for problem in problems),
        )
    if len(stored.intents) + len(desired.tunnels) > _MOST and len(_names(stored, desired)) > _MOST:
        raise StoreError("the store has no room for more tunnels", hint="Forget some that are not used any more.")


def _names(stored: Stored, desired: Desired) -> set[TunnelName]:
    return {intent.name for intent in stored.intents} | {tunnel.name for tunnel in desired.tunnels}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _compared(before: dict[TunnelName, Intent], desired: Desired, terms: Terms) -> Saved:
    declared = {tunnel.name: tunnel for tunnel in desired.tunnels}
    there = [(before[name], declared[name]) for name in filter(before.__contains__, declared)]
    changed = [t.name for i, t in there if i.tunnel != t or i.source != desired.source or i.withdrawn]
    held = tuple([t.name for i, t in there if i.held and t.enabled])
    gone = [i.name for i in before.values() if i.name not in declared and i.source == desired.source and not i.withdrawn]
    return Saved(
        created=tuple(filterfalse(before.__contains__, declared)),
        changed=tuple(changed),
        unchanged=tuple(filter((before.keys() - changed).__contains__, declared)),
        withdrawn=tuple(gone),
        released=() if terms.keep_holds else held,
        still_held=held if terms.keep_holds else (),
    )


def _source_differs(stored: Stored, desired: Desired) -> bool:
    for source in stored.sources:
        if source.name == desired.source:
            there = (source.path, source.host, source.forgotten, source.inputs, source.warnings)
            return there != (desired.path, desired.host, False, desired.inputs, desired.warnings)
    return bool(desired.tunnels) or desired.host != Host()


def _declared(intent: Intent, tunnel: Tunnel, source: str, terms: Terms) -> Intent:
    return intent._replace(
        tunnel=tunnel,
        source=source,
        generation=terms.generation,
        withdrawn=False,
        started_boot=_started_boot(intent, tunnel, terms.boot_id),
    )


def _started_boot(intent: Intent, tunnel: Tunnel, boot_id: str) -> str | None:
    """`autostart` is about starting: a tunnel that is up and loses it stays up until a `down` or the next boot."""
    if tunnel.autostart or not tunnel.enabled or intent.withdrawn:
        return None
    if intent.generation and intent.is_wanted_up(boot_id):
        return boot_id
    return intent.started_boot


def _created(stored: Stored, tunnels: list[Tunnel], source: str, generation: int) -> list[Intent]:
    """With slots and ids that no row has, not even a withdrawn one."""
    slots = filterfalse({intent.slot for intent in stored.intents}.__contains__, count(1))
    ids = _new_ids({intent.mark.tunnel_id for intent in stored.intents}, len(tunnels))
    return [
        Intent(tunnel, Mark(tunnel.name, stored.store_id or "", made), slot, source, generation)
        for tunnel, slot, made in zip(tunnels, slots, ids, strict=False)
    ]


def _new_ids(taken: set[str], number: int) -> set[str]:
    made: set[str] = set()
    while len(made) < number:
        made.update(os.urandom(2 * (number - len(made))).hex(" ", 2).split())
        made -= taken
    return made
