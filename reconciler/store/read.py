"""Reading the store: standard library only, creates nothing, needs no privilege. What `status` uses."""

from __future__ import annotations

import os
import time

from reconciler.host.jsontext import loads
from reconciler.model.intent import Intent, Progress
from reconciler.model.ledger import Entry, is_ledger_key
from reconciler.model.marks import Mark
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Input
from reconciler.store import failure, place, sqlite
from reconciler.store.document import DIGEST, decode_host, decode_texts, decode_tunnel, decode_vouched
from reconciler.store.stored import SCHEMA, Event, Source, Stored
from reconciler.typed import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

T = TypeVar("T")
Rows = list[tuple[Any, ...]]

BUSY_TIMEOUT_S = 1.0  # a Python signal handler waits as long as SQLite sleeps
_PAUSE_S = 0.003  # SQLite's own waiting grows to 100 ms: under a busy writer it misses every gap
_UNFINISHED_S = 0.2  # a journal that outlives this has no writer

_MOST_DECODED = 4096
_decoded: dict[tuple[str, tuple[Any, ...]], Intent] = {}
_SOURCES = "SELECT name, path, host, generation, applied_us, tunnels, inputs, warnings, forgotten FROM source ORDER BY name"
_INTENTS = """
    SELECT name, source, slot, tunnel_id, generation, document, held, withdrawn, started_boot,
           state, since_us, up_since_us, attempt, next_retry_us, error, worked, last_addresses, vouched
    FROM intent ORDER BY slot"""
_PROGRESS = """
    SELECT name, source, state, since_us, up_since_us, attempt, next_retry_us, error, worked, last_addresses
    FROM intent ORDER BY slot"""
_HISTORY = """
    SELECT at_us, tunnel, source, generation, uid, actor, event, cause, outcome FROM history
    WHERE ?1 IS NULL OR tunnel = ?1 ORDER BY id DESC LIMIT ?2"""
_LEDGER = """
    SELECT ledger.key, previous, value, at_us, tunnel FROM ledger JOIN ledger_user ON ledger_user.key = ledger.key
    ORDER BY ledger.key, tunnel"""


def read(state_dir: str | Path, timeout_s: float = BUSY_TIMEOUT_S) -> Stored:
    """All intents. Without a store `exists` is False. StoreError: cannot be read, damaged, locked, of another version."""
    rows = _look(state_dir, timeout_s, fetch)
    return Stored(exists=False) if rows is None else decode(rows, place.database(state_dir))


def history(state_dir: str | Path, tunnel: str | None = None, limit: int = 100) -> tuple[Event, ...]:
    """The latest events, oldest first; of one tunnel or of all. Also of tunnels that are gone."""
    rows = _look(state_dir, BUSY_TIMEOUT_S, lambda connection: connection.execute(_HISTORY, (tunnel, limit)).fetchall())
    return tuple(Event(*row) for row in reversed(rows or []))


def ledger(state_dir: str | Path) -> tuple[Entry, ...]:
    """What was changed host-wide and has to be given back, by key."""
    rows = _look(state_dir, BUSY_TIMEOUT_S, fetch_ledger)
    return decode_ledger(rows or [], place.database(state_dir))


def fetch(connection: sqlite.Connection) -> tuple[Rows, Rows, Rows, Rows, Rows]:
    """The rows that `decode` needs. To be called inside a transaction: they belong together."""
    return (
        connection.execute("SELECT store_id FROM meta").fetchall(),
        connection.execute(_SOURCES).fetchall(),
        connection.execute(_INTENTS).fetchall(),
        connection.execute("SELECT digest, packed FROM prefix_list").fetchall(),
        fetch_ledger(connection),
    )


def decode(rows: tuple[Rows, Rows, Rows, Rows, Rows], path: str, names: frozenset[str] | None = None) -> Stored:
    """Rows → values, of all intents or of these; StoreError names what is damaged."""
    ids, sources, intents, lists, ledger_rows = rows
    try:
        ((store_id,),) = ids
        packed: dict[str, bytes] = dict(lists)
        return Stored(
            exists=True,
            store_id=store_id,
            sources=tuple([_source(row) for row in sources]),
            intents=tuple([_intent(row, store_id, packed) for row in intents if names is None or row[0] in names]),
            ledger=decode_ledger(ledger_rows, path),
        )
    except ValueError as error:
        raise failure.damaged(path, error) from error


def progress(connection: sqlite.Connection, path: str, names: Container[TunnelName]) -> list[tuple[TunnelName, str, Progress]]:
    """Name, source, and how it got on, of these; StoreError when it is damaged."""
    try:
        return [(name, source, _progress(*rest)) for name, source, *rest in connection.execute(_PROGRESS) if name in names]
    except ValueError as error:
        raise failure.damaged(path, error) from error


def fetch_ledger(connection: sqlite.Connection) -> Rows:
    return connection.execute(_LEDGER).fetchall()


def decode_ledger(rows: Rows, path: str) -> tuple[Entry, ...]:
    """One row for each user of a key → entries; StoreError for a key that tunctl never writes."""
    entries: dict[str, Entry] = {}
    for key, previous, value, at_us, tunnel in rows:
        if not is_ledger_key(key):
            raise failure.damaged(path, f"its ledger names {key!r}, which tunctl never changes")
        users = entries[key].tunnels if key in entries else ()
        entries[key] = Entry(key, previous, value, (*users, TunnelName(tunnel)), at_us)
    return tuple(entries.values())


def version(connection: sqlite.Connection) -> str | None:
    """The schema of an open database; None: it has none (a database of somebody else, or an empty one)."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise
    return str(row[0]) if row else None


def uri(path: str, mode: str) -> str:
    """For sqlite.connect: only what has a meaning in SQLite's URIs is quoted; urllib costs more than the whole read."""
    quoted = os.path.abspath(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{quoted}?mode={mode}"


def _source(row: tuple[Any, ...]) -> Source:
    name, path, host, generation, applied_us, tunnels, inputs, warnings, forgotten = row
    read_from = tuple(Input(*one) for one in loads(inputs))
    words = tuple(loads(warnings))
    return Source(name, path, decode_host(host), generation, applied_us, tunnels, read_from, words, bool(forgotten))


def _intent(row: tuple[Any, ...], store_id: str, lists: dict[str, bytes]) -> Intent:
    """Decoded once in the life of a process, where the row says all."""
    known = _decoded.get((store_id, row))
    if known is not None:
        return known
    made = _decode_intent(row, store_id, lists)
    if not lists or DIGEST not in row[5]:  # else it has prefix files, whose contents are not in it
        if len(_decoded) >= _MOST_DECODED:
            _decoded.clear()
        _decoded[store_id, row] = made
    return made


def _decode_intent(row: tuple[Any, ...], store_id: str, lists: dict[str, bytes]) -> Intent:
    name, source, slot, tunnel_id, generation, document, held, withdrawn, started_boot, *got_on, vouched = row
    tunnel = decode_tunnel(document, lists)
    if tunnel.name != name:
        raise ValueError(f"the document of {name!r} is that of {tunnel.name!r}")
    mark = Mark(tunnel.name, store_id, tunnel_id)
    known = decode_vouched(vouched)
    return Intent(tunnel, mark, slot, source, generation, bool(held), bool(withdrawn), started_boot, _progress(*got_on), known)


def _progress(
    state: str,
    since_us: int | None,
    up_since_us: int | None,
    attempt: int,
    next_retry_us: int | None,
    error: str,
    worked: int,
    last_addresses: str,
) -> Progress:
    return Progress(state, since_us, up_since_us, attempt, next_retry_us, error, bool(worked), decode_texts(last_addresses))


def _look(state_dir: str | Path, timeout_s: float, question: Callable[[sqlite.Connection], T]) -> T | None:
    """Asks in one read transaction; None when there is no store."""
    if not place.is_there(state_dir):
        return None
    path = place.database(state_dir)
    begun = time.monotonic()
    while True:
        try:
            return _ask(path, question)
        except sqlite.Error as error:
            patience_s = timeout_s if failure.is_busy(error) else min(timeout_s, _UNFINISHED_S)
            may_pass = failure.is_busy(error) or failure.is_unfinished(error)
            if not may_pass or time.monotonic() - begun >= patience_s:
                raise failure.translated(error, path) from error
        time.sleep(_PAUSE_S)


def _ask(path: str, question: Callable[[sqlite.Connection], T]) -> T:
    connection = sqlite.connect(uri(path, "ro"), timeout=0, isolation_level=None, uri=True)
    try:
        connection.execute("BEGIN")
        found = version(connection)
        if found is None:
            raise failure.damaged(path, "it has no schema of tunctl")
        if found != SCHEMA:
            raise failure.of_another_version(path, found, SCHEMA)
        return question(connection)
    finally:
        connection.close()
