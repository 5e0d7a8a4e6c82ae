"""From an older schema to ours, by alembic. Imported only when that is due."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, cast

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from reconciler.host import files
from reconciler.store import failure, read
from reconciler.store.connect import connect, keep, telling

if TYPE_CHECKING:
    from collections.abc import Iterator

# All that goes wrong is raised and told by us; SQLAlchemy would also log an interrupt that meets it while it closes.
_UNSAID = logging.NullHandler()


def migrate(path: str, found: str, target: str, directory: Path) -> None:
    """From one revision to a later one in one transaction, after a backup ``intent.db.<found>.bak``."""
    _back_up(path, found)
    with transaction(path) as connection:
        if read.version(_raw(connection)) != found:
            return
        upgrade(connection, target, directory)
        broken = _raw(connection).execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise failure.damaged(path, f"the migration to schema {target} leaves {len(broken)} broken references")


def upgrade(connection: Connection, target: str, directory: Path) -> None:
    """Runs the revisions up to this one, in the transaction of the connection."""
    config = Config()
    config.set_main_option("script_location", str(directory).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def migrations() -> Path:
    """Where the revisions are: inside the installed package, or at the top of a checkout."""
    inside = Path(__file__).with_name("migrations")
    return inside if inside.is_dir() else Path(__file__).parents[2] / "migrations"


@contextlib.contextmanager
def transaction(path: str) -> Iterator[Connection]:
    """As `connect.transaction`, for alembic. Without foreign keys: tables are made anew, and nothing may cascade."""
    logging.getLogger("sqlalchemy").addHandler(_UNSAID)
    engine = create_engine("sqlite://", creator=lambda: connect(path, foreign_keys=False), poolclass=NullPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with telling(path):
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise cast("sqlite3.Error", error.orig) from error
    keep(path)


def _raw(connection: Connection) -> sqlite3.Connection:
    """The driver's connection behind SQLAlchemy's, in the same transaction."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


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
