"""Transactions of the store. SQLAlchemy stays in this file and those it imports; `write` says what the methods are for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from reconciler.model.intent import Intent, Progress
from reconciler.model.names import HOST, TunnelName
from reconciler.model.tunnel import Desired
from reconciler.store import read, save, schema
from reconciler.store import tables as t
from reconciler.store.change import Change, Who
from reconciler.store.chronicle import Note, write_notes, write_outcome
from reconciler.store.desire import desire
from reconciler.store.stored import TUNCTL, Line, Saved, Stored, Terms


class Commit:
    """Each method is one BEGIN IMMEDIATE … COMMIT."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._engine = schema.engine(path)

    def close(self) -> None:
        self._engine.dispose()

    def begin(self) -> schema.Transaction:
        """``with commit.begin() as connection:``"""
        return schema.transaction(self._engine, self._path)

    def save(self, desired: Desired, terms: Terms, who: Who) -> Saved:
        with self.begin() as connection:
            stored = self._now(connection)
            generation = connection.execute(select(t.meta.c.generation)).scalar_one() + 1
            after, saved = desire(stored, desired, terms._replace(generation=generation))
            if saved.generation is not None:
                connection.execute(update(t.meta).values(generation=generation))
                save.write_source(connection, next(s for s in after.sources if s.name == desired.source))
            save.write_intents(connection, {intent.name: intent for intent in stored.intents}, after.intents)
            save.collect_garbage(connection)
            write_notes(connection, _notes(desired.source, saved, who, terms.now_us))
        return saved

    def withdraw(self, change: Change, sources: frozenset[str], who: Who) -> None:
        with self.begin() as connection:
            gone = self._write(connection, change)
            write_notes(connection, _notes_of(gone, change.event, who))
            declared = select(t.intent.c.source).where(t.intent.c.withdrawn == 0)
            leaving = t.source.c.name.in_(sources | {intent.source for intent in gone}) & (t.source.c.forgotten == 0)
            nothing_left = leaving & t.source.c.name.not_in(declared)
            connection.execute(update(t.source).where(nothing_left).values(forgotten=1))
            save.collect_garbage(connection)

    def delete(self, names: frozenset[TunnelName], who: Who) -> tuple[TunnelName, ...]:
        with self.begin() as connection:
            owing = set(connection.execute(select(t.ledger_user.c.tunnel)).scalars())
            found = [i for i in self._now(connection, names).intents if i.withdrawn and i.name not in owing]
            connection.execute(delete(t.intent).where(t.intent.c.name.in_([intent.name for intent in found])))
            save.collect_garbage(connection)
            write_notes(connection, _notes_of(found, "deleted", who))
        return tuple(intent.name for intent in found)

    def change(self, change: Change, who: Who) -> tuple[TunnelName, ...]:
        with self.begin() as connection:
            changed = self._write(connection, change)
            write_notes(connection, _notes_of(changed, change.event, who))
        return tuple(intent.name for intent in changed)

    def progress(self, change: Change, moves: Mapping[TunnelName, tuple[Progress, str]]) -> None:
        with self.begin() as connection:
            before = {intent.name: intent.progress for intent in self._now(connection, change.names).intents}
            notes = []
            for intent in self._write(connection, change):
                was, now = before[intent.name], intent.progress
                if (was.state, was.attempt, was.error) != (now.state, now.attempt, now.error):
                    who = Who(TUNCTL, moves[intent.name][1])
                    notes += _notes_of([intent], now.state, who, outcome=now.error)
            write_notes(connection, notes)

    def vouch(self, change: Change) -> None:
        with self.begin() as connection:
            before = {i.name: {v.of: v.endpoint for v in i.vouched} for i in self._now(connection, change.names).intents}
            for intent in self._write(connection, change):
                was = before[intent.name]
                moved = [f"{was[v.of]} → {v.endpoint}" for v in intent.vouched if was.get(v.of, v.endpoint) != v.endpoint]
                if moved:
                    write_notes(connection, _notes_of([intent], change.event, Who(TUNCTL, f"manifest: {', '.join(moved)}")))

    def chronicle(self, lines: Sequence[Line]) -> None:
        with self.begin() as connection:
            sources = {row.name: row.source for row in connection.execute(select(t.intent.c.name, t.intent.c.source))}
            notes = [
                Note(one.at_us, one.tunnel or None, sources.get(one.tunnel), None, TUNCTL, one.event, one.cause)
                for one in lines
                if one.tunnel == HOST or one.tunnel in sources
            ]
            write_notes(connection, notes)

    def record(self, generation: int, outcome: str, tunnels: Mapping[TunnelName, str]) -> None:
        with self.begin() as connection:
            write_outcome(connection, generation, outcome, tunnels)

    def ledger_put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        with self.begin() as connection:
            known = connection.execute(select(t.ledger.c.value).where(t.ledger.c.key == key)).scalar_one_or_none()
            if known is None:
                connection.execute(insert(t.ledger).values(key=key, previous=previous, value=value, at_us=_now_us()))
            elif known != value:
                connection.execute(update(t.ledger).where(t.ledger.c.key == key).values(value=value))
            user = (t.ledger_user.c.key == key) & (t.ledger_user.c.tunnel == tunnel)
            if connection.execute(select(t.ledger_user.c.key).where(user)).first() is None:
                connection.execute(insert(t.ledger_user).values(key=key, tunnel=tunnel))

    def ledger_remove(self, key: str, tunnel: TunnelName) -> None:
        with self.begin() as connection:
            user = (t.ledger_user.c.key == key) & (t.ledger_user.c.tunnel == tunnel)
            connection.execute(delete(t.ledger_user).where(user))
            connection.execute(delete(t.ledger).where(t.ledger.c.key.not_in(select(t.ledger_user.c.key))))

    def _now(self, connection: Connection, names: frozenset[TunnelName] | None = None) -> Stored:
        return read.decode(read.fetch(schema.raw(connection)), self._path, names)

    def _write(self, connection: Connection, change: Change) -> tuple[Intent, ...]:
        """Writes what the change makes of its intents, where it is another; returns those."""
        before = {intent.name: intent for intent in self._now(connection, change.names).intents}
        return save.write_intents(connection, before, map(change.of, before.values()))


def _notes_of(intents: Iterable[Intent], event: str, who: Who, *, outcome: str = "") -> list[Note]:
    now_us = _now_us()
    return [Note(now_us, i.name, i.source, None, who.actor, event, who.cause, outcome) for i in intents]


def _notes(source: str, saved: Saved, who: Who, now_us: int) -> list[Note]:
    def note(event: str, tunnel: TunnelName | None = None, generation: int | None = saved.generation) -> Note:
        return Note(now_us, tunnel, source, generation, who.actor, event, who.cause)

    notes = [] if saved.generation is None else [note("saved")]
    for event, names in (("created", saved.created), ("changed", saved.changed), ("withdrawn", saved.withdrawn)):
        notes += [note(event, name) for name in names]
    return notes + [note("released", name, None) for name in saved.released]


def _now_us() -> int:
    return time.time_ns() // 1000
