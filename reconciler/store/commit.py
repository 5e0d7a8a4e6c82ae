"""Transactions of the store; `write` says what the methods are for."""

from __future__ import annotations

import time
from _operator import attrgetter
from contextlib import contextmanager

from reconciler.model.intent import Intent
from reconciler.model.names import HOST, TunnelName
from reconciler.model.tunnel import Desired
from reconciler.store import read, save, sql
from reconciler.store.change import Change, Who, plain
from reconciler.store.chronicle import write_lines, write_outcome
from reconciler.store.connect import transaction
from reconciler.store.desire import desire, source_of
from reconciler.store.schema import ensure
from reconciler.store.stored import TUNCTL, Ending, Event, Line, Saved, Stored, Terms
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from reconciler.store.change import Moves

_told = attrgetter("state", "attempt", "error")  # of a progress: another one is a line of the history


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
            terms = terms._replace(generation=generation + 1)
            after, saved = desire(stored, desired, terms)
            if saved.generation is not None:
                connection.execute(sql.SET_GENERATION, {"generation": saved.generation})
                save.write_source(connection, source_of(desired, terms))
            save.write_intents(connection, stored.intents, after.intents)
            save.collect_garbage(connection)
            write_lines(connection, _lines_of_save(desired.source, saved, who, terms.now_us))
        return saved, after

    def withdraw(self, change: Change, sources: frozenset[str], who: Who) -> None:
        with self.begin() as connection:
            gone = [intent for _was, intent in self._write(connection, change)]
            write_lines(connection, _lines_of(gone, change.event, who))
            leaving = sources | {intent.source for intent in gone}
            connection.executemany(sql.FORGET_SOURCE, [{"source": source} for source in leaving])
            save.collect_garbage(connection)

    def change(self, change: Change, who: Who) -> tuple[TunnelName, ...]:
        with self.begin() as connection:
            changed = [intent for _was, intent in self._write(connection, change)]
            write_lines(connection, _lines_of(changed, change.event, who))
        return tuple(intent.name for intent in changed)

    def conclude(self, moves: Moves, vanished: frozenset[TunnelName], cause: str, ending: Ending | None) -> None:
        with self.begin() as connection:
            now_us, (uid, actor) = _now_us(), TUNCTL
            moved = save.write_progress(connection, read.progress(connection, self._path, moves.keys()), moves)
            lines = [
                Event(now_us, name, source, None, uid, actor, after.state, plain(moves[name][1]), after.error)
                for name, source, before, after in moved
                if _told(before) != _told(after)
            ]
            write_lines(connection, lines)
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
                    write_lines(connection, _lines_of([now], change.event, Who(TUNCTL, f"manifest: {', '.join(moved)}")))

    def chronicle(self, lines: Sequence[Line]) -> None:
        with self.begin() as connection:
            sources = dict(connection.execute(sql.SOURCES_OF_INTENTS))
            known = [
                Event(one.at_us, one.tunnel or None, sources.get(one.tunnel), None, *TUNCTL, one.event, plain(one.cause), "")
                for one in lines
                if one.tunnel == HOST or one.tunnel in sources
            ]
            write_lines(connection, known)

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
        before = self._now(connection, change.names).intents
        after = [change.make(intent) for intent in before]
        save.write_intents(connection, before, after)
        return [(was, now) for was, now in zip(before, after, strict=True) if was != now]

    def _delete(self, connection: sqlite3.Connection, names: frozenset[TunnelName], cause: str) -> None:
        """Those of them that are still withdrawn, and owe the host nothing."""
        owing = {tunnel for (tunnel,) in connection.execute(sql.OWING_TUNNELS)}
        found = [i for i in self._now(connection, names).intents if i.withdrawn and i.name not in owing]
        connection.executemany(sql.DELETE_INTENT, [{"intent": intent.name} for intent in found])
        save.collect_garbage(connection)
        write_lines(connection, _lines_of(found, "deleted", Who(TUNCTL, cause)))


def _lines_of(intents: Iterable[Intent], event: str, who: Who) -> list[Event]:
    now_us, (uid, actor), cause = _now_us(), who.actor, plain(who.cause)
    return [Event(now_us, i.name, i.source, None, uid, actor, event, cause, "") for i in intents]


def _lines_of_save(source: str, saved: Saved, who: Who, now_us: int) -> list[Event]:
    (uid, actor), cause = who.actor, plain(who.cause)

    def lines(event: str, names: Iterable[TunnelName | None], generation: int | None = saved.generation) -> list[Event]:
        return [Event(now_us, name, source, generation, uid, actor, event, cause, "") for name in names]

    return [
        *lines("saved", () if saved.generation is None else (None,)),
        *lines("created", saved.created),
        *lines("changed", saved.changed),
        *lines("withdrawn", saved.withdrawn),
        *lines("released", saved.released, None),
    ]


def _now_us() -> int:
    return time.time_ns() // 1000
