"""What `apply` stores: one source and its tunnels, compared with what is there, and only the difference written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from reconciler.errors import Foreign, InvalidFile, Problem, StoreError
from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Desired, Host, Tunnel
from reconciler.store import tables as t
from reconciler.store.chronicle import Note, write_notes
from reconciler.store.conflicts import conflicts
from reconciler.store.document import encode_host, encode_tunnel, prefix_lists
from reconciler.store.stored import Actor, Saved, Stored


class Request(NamedTuple):
    """How to save."""

    actor: Actor
    cause: str
    take_over: frozenset[TunnelName]
    keep_holds: bool
    boot_id: str


def save(connection: Connection, stored: Stored, desired: Desired, request: Request) -> Saved:
    """Inside one transaction in which `stored` was read. Writes nothing when nothing differs."""
    _refuse(stored, desired, request.take_over)
    before = {intent.name: intent for intent in stored.intents}
    saved = _compared(before, desired, request)
    now_us = time.time_ns() // 1000
    if saved.created or saved.changed or saved.withdrawn or _source_differs(stored, desired):
        saved = saved._replace(generation=_next_generation(connection))
        _write_source(connection, desired, saved, now_us)
        _write_intents(connection, before, desired, saved, request)
        collect_garbage(connection)
    _release(connection, saved.released)
    _reset(connection, [before[tunnel.name] for tunnel in desired.tunnels if tunnel.name in before], now_us)
    write_notes(connection, _notes(desired, saved, request, now_us))
    return saved


def collect_garbage(connection: Connection) -> None:
    """Prefix lists that nobody uses, and sources that have neither tunnels nor a [host]."""
    used = select(t.intent_prefix_list.c.digest)
    connection.execute(delete(t.prefix_list).where(t.prefix_list.c.digest.not_in(used)))
    empty = (t.source.c.forgotten == 1) | (t.source.c.host == encode_host(Host()))
    connection.execute(delete(t.source).where(empty, t.source.c.name.not_in(select(t.intent.c.source))))


def reset_attempts(connection: Connection, names: Iterable[TunnelName], now_us: int) -> None:
    """A user asked again: what gave up or waits starts anew."""
    values = {"state": "pending", "since_us": now_us, "attempt": 0, "next_retry_us": None, "error": ""}
    _update(connection, [{"of": name, **values} for name in names], tuple(values))


def _refuse(stored: Stored, desired: Desired, take_over: frozenset[TunnelName]) -> None:
    for text in (desired.source, desired.path):
        if not _is_utf8(text):
            raise InvalidFile(f"{text!r} is not UTF-8", hint="Give the file a `source` and a path that are UTF-8.")
    problems = conflicts(stored, desired, take_over)
    if problems:
        raise Foreign(
            f"{len(problems)} declarations of {desired.path} belong to another source" if problems[1:] else problems[0],
            hint="Change one of the files, or move tunnels here with --take-over.",
            details=tuple(Problem(desired.path, 0, "", problem) for problem in problems),
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _compared(before: dict[TunnelName, Intent], desired: Desired, request: Request) -> Saved:
    created, changed, unchanged = [], [], []
    for tunnel in desired.tunnels:
        intent = before.get(tunnel.name)
        if intent is None:
            created.append(tunnel.name)
        elif intent.tunnel == tunnel and intent.source == desired.source and not intent.withdrawn:
            unchanged.append(tunnel.name)
        else:
            changed.append(tunnel.name)
    declared = {tunnel.name for tunnel in desired.tunnels}
    held = tuple(name for name in _enabled(desired) if name in before and before[name].held)
    return Saved(
        generation=None,
        created=tuple(created),
        changed=tuple(changed),
        unchanged=tuple(unchanged),
        withdrawn=tuple(
            intent.name
            for intent in before.values()
            if intent.source == desired.source and not intent.withdrawn and intent.name not in declared
        ),
        released=() if request.keep_holds else held,
        still_held=held if request.keep_holds else (),
    )


def _enabled(desired: Desired) -> list[TunnelName]:
    return [tunnel.name for tunnel in desired.tunnels if tunnel.enabled]


def _source_differs(stored: Stored, desired: Desired) -> bool:
    for source in stored.sources:
        if source.name == desired.source:
            return (source.path, source.host, source.forgotten) != (desired.path, desired.host, False)
    return bool(desired.tunnels) or desired.host != Host()


def _next_generation(connection: Connection) -> int:
    connection.execute(update(t.meta).values(generation=t.meta.c.generation + 1))
    return int(connection.execute(select(t.meta.c.generation)).scalar_one())


def _write_source(connection: Connection, desired: Desired, saved: Saved, now_us: int) -> None:
    values = {
        "path": desired.path,
        "host": encode_host(desired.host),
        "generation": saved.generation,
        "applied_us": now_us,
        "forgotten": 0,
    }
    if connection.execute(update(t.source).where(t.source.c.name == desired.source).values(values)).rowcount == 0:
        connection.execute(insert(t.source).values(name=desired.source, **values))


def _write_intents(
    connection: Connection, before: dict[TunnelName, Intent], desired: Desired, saved: Saved, request: Request
) -> None:
    withdraw(connection, saved.withdrawn, saved.generation)
    created, changed = set(saved.created), set(saved.changed)
    _update(connection, [{"of": name, "interface": None} for name in changed], ("interface",))  # so that two can swap
    places = _Places(before.values())
    rows, changes, lists = [], [], {}
    for tunnel in desired.tunnels:
        row = _row(tunnel, desired.source, saved.generation)
        if tunnel.name in created:
            rows.append({**row, **places.next(), "name": tunnel.name, **_UNTRIED})
        elif tunnel.name in changed:
            changes.append({**row, "of": tunnel.name, "started_boot": _started_boot(before[tunnel.name], tunnel, request)})
        lists[tunnel.name] = prefix_lists(tunnel) if tunnel.name in created | changed else {}
    if rows:
        connection.execute(insert(t.intent), rows)
    _update(connection, changes, (*_ROW, "started_boot"))
    _write_lists(connection, lists, changed)


def withdraw(connection: Connection, names: Iterable[TunnelName], generation: int | None) -> None:
    """They go from the machine, and then from here. A hold has nothing to hold any more."""
    values: dict[str, Any] = {"withdrawn": 1, "held": 0, "started_boot": None}
    if generation is not None:
        values["generation"] = generation
    _update(connection, [{"of": name, **values} for name in names], tuple(values))


_ROW = ("source", "generation", "interface", "document", "withdrawn")
_UNTRIED: dict[str, Any] = {
    "held": 0,
    "started_boot": None,
    "state": "pending",
    "since_us": None,
    "up_since_us": None,
    "attempt": 0,
    "next_retry_us": None,
    "error": "",
    "worked": 0,
    "last_addresses": "[]",
}


def _row(tunnel: Tunnel, source: str, generation: int | None) -> dict[str, Any]:
    return dict(zip(_ROW, (source, generation, tunnel.interface, encode_tunnel(tunnel), 0), strict=True))


def _started_boot(intent: Intent, tunnel: Tunnel, request: Request) -> str | None:
    """`autostart` is about starting: one that is up and loses it stays up until the next boot, or a `down`."""
    if not tunnel.enabled or intent.withdrawn:
        return None
    if tunnel.autostart or intent.is_wanted_up(request.boot_id):
        return request.boot_id if not tunnel.autostart else None
    return intent.started_boot


class _Places:
    """Gives out slots and ids that no row has, not even a withdrawn one."""

    def __init__(self, intents: Iterable[Intent]) -> None:
        intents = tuple(intents)
        self._slots = {intent.slot for intent in intents}
        self._ids = {intent.mark.tunnel_id for intent in intents}
        self._lowest = 1

    def next(self) -> dict[str, Any]:
        while self._lowest in self._slots:
            self._lowest += 1
        self._slots.add(self._lowest)
        return {"slot": self._lowest, "tunnel_id": self._new_id()}

    def _new_id(self) -> str:
        if len(self._ids) > 0x7FFF:  # half of what four digits can tell apart
            raise StoreError("the store has no room for more tunnels", hint="Forget some that are not used any more.")
        while (made := os.urandom(2).hex()) in self._ids:
            pass
        self._ids.add(made)
        return made


def _write_lists(connection: Connection, lists: dict[TunnelName, dict[str, bytes]], changed: set[TunnelName]) -> None:
    if changed:
        gone = t.intent_prefix_list.c.intent == bindparam("of")
        connection.execute(delete(t.intent_prefix_list).where(gone), [{"of": name} for name in changed])
    packed = {digest: blob for of_tunnel in lists.values() for digest, blob in of_tunnel.items()}
    if not packed:
        return
    present = set(connection.execute(select(t.prefix_list.c.digest)).scalars())
    new = [{"digest": digest, "packed": blob} for digest, blob in packed.items() if digest not in present]
    if new:
        connection.execute(insert(t.prefix_list), new)
    links = [{"intent": name, "digest": digest} for name, of_tunnel in lists.items() for digest in of_tunnel]
    connection.execute(insert(t.intent_prefix_list), links)


def _release(connection: Connection, names: Iterable[TunnelName]) -> None:
    _update(connection, [{"of": name, "held": 0} for name in names], ("held",))


def _reset(connection: Connection, intents: list[Intent], now_us: int) -> None:
    """Counts attempts anew, where there were any."""
    reset_attempts(connection, [i.name for i in intents if i.progress.state in ("waiting", "failed")], now_us)


def _update(connection: Connection, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Rows of intent, each with the name as `of`."""
    if rows:
        values: dict[str, Any] = {column: bindparam(column) for column in columns}
        connection.execute(update(t.intent).where(t.intent.c.name == bindparam("of")).values(values), rows)


def _notes(desired: Desired, saved: Saved, request: Request, now_us: int) -> list[Note]:
    def note(event: str, tunnel: TunnelName | None = None, generation: int | None = saved.generation) -> Note:
        return Note(now_us, tunnel, desired.source, generation, request.actor, event, request.cause)

    notes = [] if saved.generation is None else [note("saved")]
    for event in ("created", "changed", "withdrawn"):
        notes += [note(event, name) for name in getattr(saved, event)]
    return notes + [note("released", name, None) for name in saved.released]
