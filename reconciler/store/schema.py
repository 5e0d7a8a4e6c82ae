"""Opening the database for writing: connections, creation, migration. Alembic is imported only when a migration is due."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, Engine, create_engine, event, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.errors import StoreError
from reconciler.host import files
from reconciler.store import failure, read, tables
from reconciler.store.connect import connect, turn
from reconciler.store.stored import SCHEMA

# All that goes wrong is raised and told by us; SQLAlchemy would also log an interrupt that meets it while it closes.
_UNSAID = logging.NullHandler()
Transaction = contextlib.AbstractContextManager[Connection]


def engine(path: str, *, foreign_keys: bool = True) -> Engine:
    """Connections as a store needs them; each transaction opens its own, so a replaced file is noticed."""
    logging.getLogger("sqlalchemy").addHandler(_UNSAID)
    made = create_engine("sqlite://", creator=lambda: connect(path, foreign_keys=foreign_keys), poolclass=NullPool)
    event.listen(made, "begin", _begin)
    return made


@contextlib.contextmanager
def transaction(opened: Engine, path: str) -> Iterator[Connection]:
    """One BEGIN IMMEDIATE … COMMIT. Every error of the database leaves it as StoreError, with nothing written."""
    try:
        with turn(path), opened.begin() as connection:
            yield connection
        _commit_is_kept(path)
    except DBAPIError as error:
        raise failure.translated(cast("sqlite3.Error", error.orig), path) from error
    except sqlite3.Error as error:
        raise failure.translated(error, path) from error


def _commit_is_kept(path: str) -> None:
    """A commit is that the journal is gone. SQLite leaves it to the kernel when that is on the disk: a power cut within seconds
    would bring the journal back, and undo what the machine already has."""
    try:
        directory = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(f"{path}: what was stored may not outlive a power cut: {error.strerror}") from error


def raw(connection: Connection) -> sqlite3.Connection:
    """The driver's connection behind SQLAlchemy's, in the same transaction."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def prepare(path: str) -> None:
    """Makes the schema in an empty file, or brings an older one up to date; StoreError for anything else."""
    with transaction(engine(path), path) as connection:
        found = read.version(raw(connection))
        if found is None:
            _create(connection, path)
            return
    if found > SCHEMA:
        raise failure.newer(path, found, SCHEMA)
    if found < SCHEMA:
        migrate(path, found, SCHEMA, migrations())


def migrate(path: str, found: str, target: str, directory: Path) -> None:
    """From one revision to a later one in one transaction, after a backup ``intent.db.<found>.bak``."""
    from alembic import command
    from alembic.config import Config

    _back_up(path, found)
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    with transaction(engine(path, foreign_keys=False), path) as connection:  # tables are made anew: nothing may cascade
        if read.version(raw(connection)) != found:
            return
        config.attributes["connection"] = connection
        command.upgrade(config, target)
        broken = raw(connection).execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise failure.damaged(path, f"the migration to schema {target} leaves {len(broken)} broken references")


def migrations() -> Path:
    """Where the revisions are: inside the installed package, or at the top of a checkout."""
    inside = Path(__file__).with_name("migrations")
    return inside if inside.is_dir() else Path(__file__).parents[2] / "migrations"


def _begin(connection: Connection) -> None:
    """The write lock first: two that read before they write would both go by what the other changes."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _create(connection: Connection, path: str) -> None:
    junk = os.stat(path).st_size > 0  # SQLite takes a file of one byte for an empty one, and would write over it
    if junk or raw(connection).execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
        raise failure.damaged(path, "it has no schema of tunctl")
    tables.metadata.create_all(connection)
    connection.execute(insert(tables.alembic_version).values(version_num=SCHEMA))
    now_us = time.time_ns() // 1000
    connection.execute(insert(tables.meta).values(one=1, store_id=os.urandom(2).hex(), generation=0, created_us=now_us))


def _back_up(path: str, found: str) -> None:
    """A whole copy under its final name, or none. 0600: nobody but root needs it."""
    final, partial = f"{path}.{found}.bak", f"{path}.{found}.part"
    connection = sqlite3.connect(read.uri(path, "ro"), timeout=read.BUSY_TIMEOUT_S, isolation_level=None, uri=True)
    try:
        if read.version(connection) != found:
            return  # somebody else was faster: their backup is the right one
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        connection.execute("VACUUM INTO ?", (partial,))
        os.chmod(partial, 0o600)
        os.replace(partial, final)
        files.sync_directory(Path(final).parent)
    except sqlite3.Error as error:
        raise failure.translated(error, path) from error
    except OSError as error:
        raise failure.refused(error, final) from error
    finally:
        connection.close()
