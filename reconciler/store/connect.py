"""A connection that may write, as every one of ours is. Standard library only."""

from __future__ import annotations

import sqlite3

from reconciler.store.read import BUSY_TIMEOUT_S, uri


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
