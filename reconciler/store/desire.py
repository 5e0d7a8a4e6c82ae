"""What the store will hold when a desired file is saved. Pure, so that `plan` sees what `apply` would store."""

from __future__ import annotations

import os

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

_MOVE = "Change one of the files, or move tunnels here with --take-over."
_CHANGE = "Change one of the files; --take-over only moves tunnels, each under its name."


def desire(stored: Stored, desired: Desired, terms: Terms) -> tuple[Stored, Saved]:
    """What is stored then, and what that changes. Equal intents, and no generation, when nothing changes.

    Foreign (73) when another source has declared something of it differently, InvalidFile when a name is not UTF-8.
    """
    _refuse(stored, desired, terms.take_over)
    before = {intent.name: intent for intent in stored.intents}
    saved = _compared(before, desired, terms)
    differs = bool(saved.created or saved.changed or saved.withdrawn) or _source_differs(stored, desired)
    saved = saved._replace(generation=terms.generation if differs else None)
    store_id = stored.store_id or os.urandom(2).hex()
    after = before | {name: withdrawn(before[name])._replace(generation=terms.generation) for name in saved.withdrawn}
    if saved.created:
        places = _Places(stored.intents, store_id)
        after |= {tunnel.name: places.new(tunnel, desired.source) for tunnel in desired.tunnels if tunnel.name not in before}
    released, unchanged = frozenset(saved.released), frozenset(saved.unchanged)
    for tunnel in desired.tunnels:
        intent = after[tunnel.name]
        if tunnel.name in released:
            intent = intent._replace(held=False)
        intent = asked_again(intent, terms.now_us)
        if tunnel.name not in unchanged:
            intent = _declared(intent, tunnel, desired.source, terms)
        after[tunnel.name] = intent
    sources = {source.name: source for source in stored.sources}
    if differs:
        source = _source(desired, terms)
        sources[desired.source] = source
    by_slot = tuple(sorted(after.values(), key=lambda intent: intent.slot))
    return Stored(True, store_id, tuple(sources[name] for name in sorted(sources)), by_slot, stored.ledger), saved


def _source(desired: Desired, terms: Terms) -> Source:
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


def _refuse(stored: Stored, desired: Desired, take_over: frozenset[TunnelName]) -> None:
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


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _compared(before: dict[TunnelName, Intent], desired: Desired, terms: Terms) -> Saved:
    created, changed, unchanged, held = [], [], [], []
    for tunnel in desired.tunnels:
        intent = before.get(tunnel.name)
        if intent is None:
            created.append(tunnel.name)
            continue
        if intent.tunnel == tunnel and intent.source == desired.source and not intent.withdrawn:
            unchanged.append(tunnel.name)
        else:
            changed.append(tunnel.name)
        if intent.held and tunnel.enabled:
            held.append(tunnel.name)
    declared = {tunnel.name for tunnel in desired.tunnels}
    ours = [i for i in before.values() if i.source == desired.source and not i.withdrawn]
    return Saved(
        created=tuple(created),
        changed=tuple(changed),
        unchanged=tuple(unchanged),
        withdrawn=tuple(intent.name for intent in ours if intent.name not in declared),
        released=() if terms.keep_holds else tuple(held),
        still_held=tuple(held) if terms.keep_holds else (),
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


class _Places:
    """Gives out slots and ids that no row has, not even a withdrawn one."""

    def __init__(self, intents: Iterable[Intent], store_id: str) -> None:
        self._store_id = store_id
        intents = tuple(intents)
        self._slots = {intent.slot for intent in intents}
        self._ids = {intent.mark.tunnel_id for intent in intents}
        self._lowest = 1

    def new(self, tunnel: Tunnel, source: str) -> Intent:
        while self._lowest in self._slots:
            self._lowest += 1
        self._slots.add(self._lowest)
        mark = Mark(tunnel.name, self._store_id, self._new_id())
        return Intent(tunnel, mark, self._lowest, source, generation=0)  # generation: of no save yet

    def _new_id(self) -> str:
        if len(self._ids) > 0x7FFF:  # half of what four digits can tell apart
            raise StoreError("the store has no room for more tunnels", hint="Forget some that are not used any more.")
        while (made := os.urandom(2).hex()) in self._ids:
            pass
        self._ids.add(made)
        return made
