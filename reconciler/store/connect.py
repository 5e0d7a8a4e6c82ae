"""Connections that may write, and what is written with them: one transaction, kept or as if it had never been."""

from __future__ import annotations

import contextlib
import os

from reconciler.errors import StoreError
from reconciler.host import files
from reconciler.store import failure, sqlite
from reconciler.store.read import BUSY_TIMEOUT_S, uri
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def connect(path: str, *, foreign_keys: bool = True) -> sqlite.Connection:
    """Never creates a file. `isolation_level` None: the transactions that the driver would make lose updates."""
    connection = sqlite.connect(
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


@contextlib.contextmanager
def transaction(path: str) -> Iterator[sqlite.Connection]:
    """One BEGIN IMMEDIATE … COMMIT, with a connection of its own: a file that was replaced is noticed.

    The write lock comes first: two that read before they write would both go by what the other changes. Every error of the
    database leaves it as StoreError, with nothing written.
    """
    with telling(path):
        connection = connect(path)
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
            wrote = connection.total_changes > 0
        finally:
            connection.close()  # rolls back what is not committed
        if wrote:
            keep(path)


@contextlib.contextmanager
def telling(path: str) -> Iterator[None]:
    """What SQLite says in there leaves it in our words."""
    try:
        yield
    except sqlite.Error as error:
        raise failure.translated(error, path) from error


def keep(path: str) -> None:
    """A commit is that the journal is gone. SQLite leaves it to the kernel when that is on the disk: a power cut within seconds
    would bring the journal back, and undo what the machine already has."""
    try:
        files.sync_directory(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        raise StoreError(f"{path}: what was stored may not outlive a power cut: {error.strerror}") from error
