"""Transactions of the store; `write` says what the methods are for."""

from __future__ import annotations

import time
from contextlib import contextmanager

from reconciler.model.intent import Intent
from reconciler.model.names import HOST, TunnelName
from reconciler.model.tunnel import Desired
from reconciler.store import read, save, sql
from reconciler.store.change import Change, Who
from reconciler.store.chronicle import Note, write_notes, write_outcome
from reconciler.store.connect import transaction
from reconciler.store.desire import desire
from reconciler.store.schema import ensure
from reconciler.store.stored import TUNCTL, Ending, Line, Saved, Stored, Terms
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from reconciler.store.change import Moves


class Commit:
    """Each method is one BEGIN IMMEDIATE … COMMIT."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def begin(self) -> Iterator[sqlite3.Connection]:
        """``with commit.begin() as connection:``. The first one makes the store: nobody waits for the disk twice."""
        with transaction(self._path) as connection:
            ensure(connection, self._path)
            yield connection

    def save(self, desired: Desired, terms: Terms, who: Who) -> tuple[Saved, Stored]:
        with self.begin() as connection:
            stored = self._now(connection)
            ((generation,),) = connection.execute(sql.GENERATION)
            after, saved = desire(stored, desired, terms._replace(generation=generation + 1))
            if saved.generation is not None:
                connection.execute(sql.SET_GENERATION, {"generation": saved.generation})
                save.write_source(connection, next(s for s in after.sources if s.name == desired.source))
            save.write_intents(connection, {intent.name: intent for intent in stored.intents}, after.intents)
            save.collect_garbage(connection)
            write_notes(connection, _notes(desired.source, saved, who, terms.now_us))
            stored = self._now(connection)
        return saved, stored

    def withdraw(self, change: Change, sources: frozenset[str], who: Who) -> None:
        with self.begin() as connection:
            gone = [intent for _was, intent in self._write(connection, change)]
            write_notes(connection, _notes_of(gone, change.event, who))
            leaving = sources | {intent.source for intent in gone}
            connection.executemany(sql.FORGET_SOURCE, [{"source": source} for source in leaving])
            save.collect_garbage(connection)

    def change(self, change: Change, who: Who) -> tuple[TunnelName, ...]:
        with self.begin() as connection:
            changed = [intent for _was, intent in self._write(connection, change)]
            write_notes(connection, _notes_of(changed, change.event, who))
        return tuple(intent.name for intent in changed)

    def conclude(
        self, change: Change, moves: Moves, vanished: frozenset[TunnelName], cause: str, ending: Ending | None
    ) -> None:
        with self.begin() as connection:
            notes = []
            for was, now in self._write(connection, change):
                before, after = was.progress, now.progress
                if (before.state, before.attempt, before.error) != (after.state, after.attempt, after.error):
                    notes += _notes_of([now], after.state, Who(TUNCTL, moves[now.name][1]), outcome=after.error)
            write_notes(connection, notes)
            if vanished:
                self._delete(connection, vanished, cause)
            if ending:
                write_outcome(connection, ending)

    def vouch(self, change: Change) -> None:
        with self.begin() as connection:
            for was, now in self._write(connection, change):
                known = {one.of: one.endpoint for one in was.vouched}
                moved = [f"{known[v.of]} → {v.endpoint}" for v in now.vouched if known.get(v.of, v.endpoint) != v.endpoint]
                if moved:
                    write_notes(connection, _notes_of([now], change.event, Who(TUNCTL, f"manifest: {', '.join(moved)}")))

    def chronicle(self, lines: Sequence[Line]) -> None:
        with self.begin() as connection:
            sources = dict(connection.execute(sql.SOURCES_OF_INTENTS))
            notes = [
                Note(one.at_us, one.tunnel or None, sources.get(one.tunnel), None, TUNCTL, one.event, one.cause)
                for one in lines
                if one.tunnel == HOST or one.tunnel in sources
            ]
            write_notes(connection, notes)

    def ledger_put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        with self.begin() as connection:
            connection.execute(sql.PUT_ENTRY, {"key": key, "previous": previous, "value": value, "at_us": _now_us()})
            connection.execute(sql.PUT_USER, {"key": key, "tunnel": tunnel})

    def ledger_remove(self, key: str, tunnel: TunnelName) -> None:
        with self.begin() as connection:
            connection.execute(sql.DELETE_USER, {"key": key, "tunnel": tunnel})
            connection.execute(sql.DELETE_UNUSED_ENTRIES)

    def _now(self, connection: sqlite3.Connection, names: frozenset[TunnelName] | None = None) -> Stored:
        return read.decode(read.fetch(connection), self._path, names)

    def _write(self, connection: sqlite3.Connection, change: Change) -> list[tuple[Intent, Intent]]:
        """Writes what the change makes of its intents, where it is another; returns those, as they were and as they are."""
        before = {intent.name: intent for intent in self._now(connection, change.names).intents}
        after = save.write_intents(connection, before, map(change.of, before.values()))
        return [(before[intent.name], intent) for intent in after]

    def _delete(self, connection: sqlite3.Connection, names: frozenset[TunnelName], cause: str) -> None:
        """Those of them that are still withdrawn, and owe the host nothing."""
        owing = {tunnel for (tunnel,) in connection.execute(sql.OWING_TUNNELS)}
        found = [i for i in self._now(connection, names).intents if i.withdrawn and i.name not in owing]
        connection.executemany(sql.DELETE_INTENT, [{"intent": intent.name} for intent in found])
        save.collect_garbage(connection)
        write_notes(connection, _notes_of(found, "deleted", Who(TUNCTL, cause)))


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
