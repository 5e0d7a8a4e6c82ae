"""Writing the store: SQLAlchemy stays in this room. Each method is one transaction, and none writes when nothing changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from sqlalchemy import Connection, Engine, delete, insert, select, update

from reconciler.errors import Bug
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Desired
from reconciler.store import place, read, save, schema
from reconciler.store import tables as t
from reconciler.store.chronicle import Note, plain, write_notes, write_outcome
from reconciler.store.desire import asked_again, desire
from reconciler.store.stored import TUNCTL, Actor, Entry, Event, Saved, Stored, Terms, is_ledger_key

Names = Collection[TunnelName]


class _Who(NamedTuple):
    actor: Actor
    cause: str


class Store:
    """The open store. Threads may share it. Errors: StoreError, and what a method names."""

    def __init__(self, state_dir: Path, engine: Engine) -> None:
        self.state_dir = state_dir
        self._path = place.database(state_dir)
        self._engine = engine

    @classmethod
    def open(cls, state_dir: Path) -> Store:
        """Makes the store where there is none, migrates an older one; StoreError before anything is changed."""
        place.make(state_dir)
        place.is_there(state_dir)
        place.ensure_allowed(state_dir)
        path = place.database(state_dir)
        engine = schema.engine(path)
        schema.prepare(engine, path)
        return cls(state_dir, engine)

    def close(self) -> None:
        """Nothing is open between transactions; this ends what SQLAlchemy keeps."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ensure_writable(self) -> None:
        """StoreError unless a change could be stored now. To be asked before the machine is changed; writes nothing."""
        place.ensure_allowed(self.state_dir)
        place.ensure_room(self.state_dir)

    def stored(self) -> Stored:
        """All intents."""
        return read.read(self.state_dir)

    def history(self, tunnel: TunnelName | None = None, limit: int = 100) -> tuple[Event, ...]:
        """As read.history."""
        return read.history(self.state_dir, tunnel, limit)

    def ledger(self) -> tuple[Entry, ...]:
        """As read.ledger."""
        return read.ledger(self.state_dir)

    def save(
        self,
        desired: Desired,
        *,
        actor: Actor,
        cause: str,
        take_over: frozenset[TunnelName] = frozenset(),
        keep_holds: bool = False,
        boot_id: str = "",
    ) -> Saved:
        """What `apply` does first. Foreign (73) when another source has declared something of it differently."""
        now_us = _now_us()
        with self._write() as connection:
            stored = self._now(connection)
            generation = connection.execute(select(t.meta.c.generation)).scalar_one() + 1
            terms = Terms(take_over, keep_holds, boot_id, generation, now_us)
            after, saved = desire(stored, desired, terms)
            if saved.generation is not None:
                connection.execute(update(t.meta).values(generation=generation))
                save.write_source(connection, next(s for s in after.sources if s.name == desired.source))
            if save.write_intents(connection, {intent.name: intent for intent in stored.intents}, after.intents):
                save.collect_garbage(connection)
            write_notes(connection, _notes(desired.source, saved, _Who(actor, cause), now_us))
        return saved

    def withdraw(self, names: Names, *, sources: Collection[str] = (), actor: Actor = TUNCTL, cause: str = "forget") -> None:
        """What `forget` does first: they are to go, and so are sources (also those of `sources`) left without a tunnel.

        The [host] of such a source counts until its last tunnel is deleted.
        """
        with self._write() as connection:

            def withdrawn(intent: Intent) -> Intent:
                return intent._replace(withdrawn=True, held=False, started_boot=None)

            gone = self._change(connection, names, withdrawn, "forgotten", _Who(actor, cause))
            declared = select(t.intent.c.source).where(t.intent.c.withdrawn == 0)
            leaving = t.source.c.name.in_({*sources, *(intent.source for intent in gone)}) & (t.source.c.forgotten == 0)
            nothing_left = leaving & t.source.c.name.not_in(declared)
            if connection.execute(update(t.source).where(nothing_left).values(forgotten=1)).rowcount:
                save.collect_garbage(connection)

    def delete(self, names: Names, *, cause: str = "") -> tuple[TunnelName, ...]:
        """When nothing of them is left on the machine; returns those that went.

        One that the ledger still names, or that is declared again, stays.
        """
        with self._write() as connection:
            owing = set(connection.execute(select(t.ledger_user.c.tunnel)).scalars())
            found = [i for i in self._some(connection, names) if i.withdrawn and i.name not in owing]
            if found:
                connection.execute(delete(t.intent).where(t.intent.c.name.in_([intent.name for intent in found])))
                save.collect_garbage(connection)
            self._note(connection, found, "deleted", _Who(TUNCTL, cause))
        return tuple(intent.name for intent in found)

    def hold(self, names: Names, *, actor: Actor = TUNCTL, cause: str = "down") -> tuple[TunnelName, ...]:
        """A user's "stay down"; returns those that were not held yet."""
        with self._write() as connection:

            def held(intent: Intent) -> Intent:
                return intent._replace(held=True, started_boot=None)

            changed = self._change(connection, names, held, "held", _Who(actor, cause))
        return tuple(intent.name for intent in changed)

    def unhold(self, names: Names, boot_id: str, *, actor: Actor = TUNCTL, cause: str = "up") -> tuple[TunnelName, ...]:
        """A user's `up`: ends the hold, a `failed` and the counted attempts, starts what does not start by itself.

        Returns those that this changed.
        """
        now_us = _now_us()
        with self._write() as connection:

            def started(intent: Intent) -> Intent:
                if intent.progress.state in ("waiting", "failed"):
                    intent = asked_again(intent, now_us)
                return intent._replace(held=False, started_boot=None if intent.tunnel.autostart else boot_id)

            changed = self._change(connection, names, started, "released", _Who(actor, cause))
        return tuple(intent.name for intent in changed)

    def progress(self, name: TunnelName, progress: Progress, cause: str) -> None:
        """How one tunnel gets on. See progress_all."""
        self.progress_all({name: (progress, cause)})

    def progress_all(self, moves: Mapping[TunnelName, tuple[Progress, str]]) -> None:
        """How tunnels get on, and why: one transaction, so one wait for the disk.

        A new state, attempt or error is a line of the history. A tunnel that is deleted is passed over.
        """
        with self._write() as connection:
            before = {intent.name: intent for intent in self._some(connection, moves)}
            after = [
                intent._replace(progress=moves[intent.name][0]._replace(error=plain(moves[intent.name][0].error)))
                for intent in before.values()
            ]
            for intent in save.write_intents(connection, before, after):
                was, now = before[intent.name].progress, intent.progress
                if (was.state, was.attempt, was.error) != (now.state, now.attempt, now.error):
                    who = _Who(TUNCTL, moves[intent.name][1])
                    self._note(connection, [intent], now.state, who, outcome=now.error)

    def record(self, generation: int | None, outcome: str, tunnels: Mapping[TunnelName, str] | None = None) -> None:
        """How the application of a generation went: in a word, and for single tunnels where theirs differs."""
        if generation is None:
            return
        with self._write() as connection:
            write_outcome(connection, generation, outcome, tunnels or {})

    def ledger_put(self, key: str, tunnel: TunnelName, previous: bytes | None, value: bytes) -> None:
        """Before a host-wide thing is changed. The first `previous` stays: later ones are our own doing."""
        if not is_ledger_key(key):
            raise Bug(f"the ledger must not name {key!r}")
        with self._write() as connection:
            known = connection.execute(select(t.ledger.c.value).where(t.ledger.c.key == key)).scalar_one_or_none()
            if known is None:
                connection.execute(insert(t.ledger).values(key=key, previous=previous, value=value, at_us=_now_us()))
            elif known != value:
                connection.execute(update(t.ledger).where(t.ledger.c.key == key).values(value=value))
            user = (t.ledger_user.c.key == key) & (t.ledger_user.c.tunnel == tunnel)
            if connection.execute(select(t.ledger_user.c.key).where(user)).first() is None:
                connection.execute(insert(t.ledger_user).values(key=key, tunnel=tunnel))

    def ledger_remove(self, key: str, tunnel: TunnelName) -> None:
        """After it was given back, or when others still need it: this tunnel does not. The entry goes with the last."""
        with self._write() as connection:
            user = (t.ledger_user.c.key == key) & (t.ledger_user.c.tunnel == tunnel)
            connection.execute(delete(t.ledger_user).where(user))
            connection.execute(delete(t.ledger).where(t.ledger.c.key.not_in(select(t.ledger_user.c.key))))

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with schema.transaction(self._engine, self._path) as connection:
            yield connection

    def _now(self, connection: Connection) -> Stored:
        return read.decode(read.fetch(schema.raw(connection)), self._path)

    def _some(self, connection: Connection, names: Iterable[TunnelName]) -> tuple[Intent, ...]:
        return read.decode(read.fetch(schema.raw(connection)), self._path, frozenset(names)).intents

    def _change(
        self, connection: Connection, names: Names, change: Callable[[Intent], Intent], event: str, who: _Who
    ) -> tuple[Intent, ...]:
        """Writes what `change` makes of these, if it is another; each a line of the history."""
        before = {intent.name: intent for intent in self._some(connection, names)}
        changed = save.write_intents(connection, before, map(change, before.values()))
        self._note(connection, changed, event, who)
        return changed

    def _note(self, connection: Connection, intents: Iterable[Intent], event: str, who: _Who, *, outcome: str = "") -> None:
        now_us = _now_us()
        notes = [Note(now_us, i.name, i.source, None, who.actor, event, who.cause, outcome) for i in intents]
        write_notes(connection, notes)


def _notes(source: str, saved: Saved, who: _Who, now_us: int) -> list[Note]:
    def note(event: str, tunnel: TunnelName | None = None, generation: int | None = saved.generation) -> Note:
        return Note(now_us, tunnel, source, generation, who.actor, event, who.cause)

    notes = [] if saved.generation is None else [note("saved")]
    for event, names in (("created", saved.created), ("changed", saved.changed), ("withdrawn", saved.withdrawn)):
        notes += [note(event, name) for name in names]
    return notes + [note("released", name, None) for name in saved.released]


def _now_us() -> int:
    return time.time_ns() // 1000
