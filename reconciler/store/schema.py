"""The schema: made in one go in an empty file, or brought up to date by `migration`, which alone needs SQLAlchemy."""

from __future__ import annotations

import os
import time

from reconciler.store import failure, read, sql
from reconciler.store.connect import transaction
from reconciler.store.stored import SCHEMA
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3


def prepare(path: str) -> None:
    """Makes the schema in an empty file, or brings an older one up to date; StoreError for anything else.

    Takes the write lock for a moment: what a killed writer left is rolled back by that.
    """
    with transaction(path) as connection:
        found = read.version(connection)
        if found is None or found >= SCHEMA:
            ensure(connection, path)
            return
    from reconciler.store.migration import migrate, migrations

    migrate(path, found, SCHEMA, migrations())


def ensure(connection: sqlite3.Connection, path: str) -> None:
    """Makes the schema where nothing is; StoreError when there is another one."""
    found = read.version(connection)
    if found is None:
        _create(connection, path)
    elif found != SCHEMA:
        raise failure.of_another_version(path, found, SCHEMA)


def _create(connection: sqlite3.Connection, path: str) -> None:
    junk = os.stat(path).st_size > 0  # SQLite takes a file of one byte for an empty one, and would write over it
    if junk or connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise failure.damaged(path, "it has no schema of tunctl")
    for statement in sql.SCHEMA:
        connection.execute(statement)
    connection.execute(sql.SET_VERSION, {"version_num": SCHEMA})
    new = {"one": 1, "store_id": os.urandom(2).hex(), "generation": 0, "created_us": time.time_ns() // 1000}
    connection.execute(sql.NEW_META, new)
