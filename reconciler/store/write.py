"""Writing the store: SQLAlchemy stays in this room. Each method is one transaction, and none writes when nothing changes."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, update

from reconciler.errors import Bug
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Desired
from reconciler.store import place, read, save, schema
from reconciler.store import tables as t
from reconciler.store.chronicle import Note, plain, write_notes, write_outcome
from reconciler.store.stored import Actor, Entry, Event, Saved, Stored, is_ledger_key

TUNCTL = Actor(None, "tunctl")  # nobody asked


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
        path = place.database(state_dir)
        engine = schema.engine(path)
        schema.prepare(engine, path)
        return cls(state_dir, engine)

    def ensure_writable(self) -> None:
        """StoreError unless a change could be stored now. To be asked before the machine is changed; writes nothing."""
        place.ensure_writable(self.state_dir)

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
        request = save.Request(actor, cause, take_over, keep_holds, boot_id)
        with self._write() as connection:
            return save.save(connection, self._now(connection), desired, request)

    def withdraw(
        self, names: Collection[TunnelName], *, sources: Collection[str] = (), actor: Actor = TUNCTL, cause: str = ""
    ) -> tuple[TunnelName, ...]:
        """What `forget` does first: they are to go. `sources` lose their [host] too, with their last tunnel."""
        with self._write() as connection:
            found = [intent for intent in self._some(connection, names) if not intent.withdrawn]
            save.withdraw(connection, [intent.name for intent in found], None)
            known = t.source.c.name.in_(sources) & (t.source.c.forgotten == 0)
            forgotten = connection.execute(update(t.source).where(known).values(forgotten=1)).rowcount
            if forgotten:
                save.collect_garbage(connection)
            self._note(connection, found, "forgotten", actor, cause)
        return tuple(intent.name for intent in found)

    def delete(self, names: Collection[TunnelName], *, cause: str = "") -> tuple[TunnelName, ...]:
        """When nothing of them is left on the machine. One that the ledger still names, or that was declared again, stays."""
        with self._write() as connection:
            owing = set(connection.execute(select(t.ledger_user.c.tunnel)).scalars())
            found = [i for i in self._some(connection, names) if i.withdrawn and i.name not in owing]
            if found:
                connection.execute(delete(t.intent).where(t.intent.c.name.in_([intent.name for intent in found])))
                save.collect_garbage(connection)
            self._note(connection, found, "deleted", TUNCTL, cause)
        return tuple(intent.name for intent in found)

    def hold(self, names: Collection[TunnelName], *, actor: Actor = TUNCTL, cause: str = "") -> tuple[TunnelName, ...]:
        """A user's "stay down". Returns those that were not held yet."""
        with self._write() as connection:
            found = [intent for intent in self._some(connection, names) if not intent.held]
            self._set(connection, found, held=1, started_boot=None)
            self._note(connection, found, "held", actor, cause)
        return tuple(intent.name for intent in found)

    def unhold(
        self, names: Collection[TunnelName], boot_id: str, *, actor: Actor = TUNCTL, cause: str = ""
    ) -> tuple[TunnelName, ...]:
        """A user's `up`: ends the hold, a `failed` and the counted attempts; starts what does not start by itself.

        Returns those that were held.
        """
        with self._write() as connection:
            found = self._some(connection, names)
            held = [intent for intent in found if intent.held]
            self._set(connection, held, held=0)
            asleep = [i for i in found if not i.tunnel.autostart and i.started_boot != boot_id]
            self._set(connection, asleep, started_boot=boot_id)
            stuck = [intent.name for intent in found if intent.progress.state in ("waiting", "failed")]
            save.reset_attempts(connection, stuck, _now_us())
            self._note(connection, held, "released", actor, cause)
        return tuple(intent.name for intent in held)

    def progress(self, name: TunnelName, progress: Progress, cause: str) -> None:
        """How a tunnel gets on. A new state, attempt or error is a line of the history. A deleted tunnel is no error."""
        progress = progress._replace(error=plain(progress.error))
        with self._write() as connection:
            for intent in self._some(connection, [name]):
                before = intent.progress
                if before == progress:
                    return
                columns = progress._asdict() | {"last_addresses": json.dumps(progress.last_addresses)}
                self._set(connection, [intent], **columns)
                if (before.state, before.attempt, before.error) != (progress.state, progress.attempt, progress.error):
                    self._note(connection, [intent], progress.state, TUNCTL, cause, outcome=progress.error)

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

    def _some(self, connection: Connection, names: Collection[TunnelName]) -> list[Intent]:
        wanted = frozenset(names)
        return [intent for intent in self._now(connection).intents if intent.name in wanted]

    def _set(self, connection: Connection, intents: Iterable[Intent], **columns: Any) -> None:
        rows = [{"of": intent.name} for intent in intents]
        if rows:
            connection.execute(update(t.intent).where(t.intent.c.name == bindparam("of")).values(columns), rows)

    def _note(
        self, connection: Connection, intents: Iterable[Intent], event: str, actor: Actor, cause: str, *, outcome: str = ""
    ) -> None:
        now_us = _now_us()
        notes = [Note(now_us, i.name, i.source, None, actor, event, cause, outcome) for i in intents]
        write_notes(connection, notes)


def _now_us() -> int:
    return time.time_ns() // 1000
