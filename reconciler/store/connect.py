"""A connection that may write, as every one of ours is. Standard library only."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

from reconciler.errors import StoreError
from reconciler.store.read import BUSY_TIMEOUT_S, uri

_MAX_WAIT_S = 20.0  # for the other threads of this process; each has its turn for milliseconds
_turn = threading.RLock()


@contextlib.contextmanager
def turn(path: str) -> Iterator[None]:
    """Threads of one process take turns: SQLite's own waiting is not fair and starves one of twenty."""
    if not _turn.acquire(timeout=_MAX_WAIT_S):
        raise StoreError(f"{path} is in use by another thread of this tunctl", hint="Please report this; nothing was stored.")
    try:
        yield
    finally:
        _turn.release()


def connect(path: str, *, foreign_keys: bool = True) -> sqlite3.Connection:
    """Never creates a file. `isolation_level` None: the transactions that the driver would make lose updates."""
    connection = sqlite3.connect(
        uri(path, "rw"), timeout=BUSY_TIMEOUT_S, isolation_level=None, uri=True, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA journal_mode = DELETE")  # not WAL: its readers need to write
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
    except BaseException:
        connection.close()
        raise
    return connection
