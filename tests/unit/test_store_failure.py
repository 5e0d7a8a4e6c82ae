"""A store that cannot be used: each cause has its own words, and looking at it changes nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import Bug, StoreError
from reconciler.model.names import TunnelName
from reconciler.store import read
from reconciler.store.stored import Stored
from reconciler.store.write import Store
from tests.unit.store_of import delete, put

DIES_IN_A_TRANSACTION = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that pages reach the file before the commit
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE intent SET document = '{}'")
for n in range(200):
    connection.execute("INSERT INTO prefix_list VALUES (?, zeroblob(4000))", (f"{n:064}",))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A store with one tunnel in it."""
    with Store.open(tmp_path / "state") as store:
        put(store, "a")
    return tmp_path / "state"


@pytest.fixture
def database(state_dir: Path) -> Path:
    return state_dir / "intent.db"


def glance(directory: Path) -> dict[str, tuple[int, int]]:
    return {entry.name: (entry.lstat().st_mtime_ns, entry.lstat().st_size) for entry in directory.iterdir()}


def refused(state_dir: Path, words: str) -> StoreError:
    """Both rooms refuse it with these words, and leave everything as it was."""
    before = glance(state_dir)
    with pytest.raises(StoreError, match=words) as reading:
        read.read(state_dir)
    with pytest.raises(StoreError, match=words):
        Store.open(state_dir)
    assert glance(state_dir) == before
    assert reading.value.hint
    assert str(state_dir) in reading.value.message
    assert reading.value.exit_code == 74
    return reading.value


def test_what_is_missing_is_no_error_and_stays_missing(tmp_path: Path) -> None:
    assert read.read(tmp_path / "none") == Stored(exists=False)
    assert read.history(tmp_path / "none") == ()
    assert read.ledger(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_was_never_committed(tmp_path: Path) -> None:
    (tmp_path / "intent.db").touch(0o644)
    assert read.read(tmp_path) == Stored(exists=False)
    with Store.open(tmp_path) as store:
        assert store.stored().exists


def test_reading_leaves_no_trace(state_dir: Path) -> None:
    before = glance(state_dir)
    assert read.read(state_dir).exists
    read.history(state_dir)
    read.ledger(state_dir)
    assert glance(state_dir) == before
    assert list(before) == ["intent.db"]


def test_opening_it_writes_nothing(state_dir: Path) -> None:
    before = glance(state_dir)
    with Store.open(state_dir) as store:
        store.ensure_writable()
        store.stored()
    assert glance(state_dir) == before


def test_no_database(database: Path) -> None:
    database.write_bytes(b"this is not a database, and it is long enough to show that\n" * 20)
    assert "--adopt" in refused(database.parent, "is not a database").hint


def test_damaged_pages(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    database.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged"):
        read.read(database.parent)
    with pytest.raises(StoreError, match="is damaged"), Store.open(database.parent) as store:
        put(store, "a", "b")


def test_cut_off(database: Path) -> None:
    os.truncate(database, 4096)
    with pytest.raises(StoreError, match="is damaged"):
        read.read(database.parent)


def test_damaged_document(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("""UPDATE intent SET document = '{"name":7}'""")
    connection.close()
    with pytest.raises(StoreError, match="is damaged: a stored document does not fit"):
        read.read(database.parent)


def test_a_database_of_somebody_else(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "intent.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    refused(tmp_path, "no schema of tunctl")


@pytest.mark.parametrize(("version", "words"), [("0099", "newer tunctl"), ("9", "newer tunctl")])
def test_a_newer_schema(database: Path, version: str, words: str) -> None:
    set_version(database, version)
    refused(database.parent, words)


def test_an_older_schema_is_not_read(database: Path) -> None:
    set_version(database, "0000")
    with pytest.raises(StoreError, match="older tunctl") as told:
        read.read(database.parent)
    assert "command that writes" in told.value.hint


def set_version(database: Path, version: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()


class TestLocked:
    @pytest.fixture
    def foreign(self, database: Path) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(database, isolation_level=None)
        yield connection
        connection.close()

    def test_for_reading(self, database: Path, foreign: sqlite3.Connection) -> None:
        foreign.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=rf"is locked by another program: pid {os.getpid()} \("):
            read.read(database.parent, timeout_s=0.05)
        foreign.execute("ROLLBACK")
        assert read.read(database.parent).exists

    def test_for_writing_it_waits_a_second(self, database: Path, foreign: sqlite3.Connection) -> None:
        with Store.open(database.parent) as store:
            foreign.execute("BEGIN IMMEDIATE")
            begun = time.monotonic()
            with pytest.raises(StoreError, match=rf"is locked by another program: pid {os.getpid()} \("):
                put(store, "b")
            assert 0.9 < time.monotonic() - begun < 3
            assert read.read(database.parent).exists, "reading goes on"
            foreign.execute("ROLLBACK")
            put(store, "a", "b")


class TestUnfinished:
    """A writer that was killed between its first page and its commit."""

    @pytest.fixture(autouse=True)
    def _killed(self, database: Path) -> None:
        ended = subprocess.run([sys.executable, "-c", DIES_IN_A_TRANSACTION, database], check=False)
        assert ended.returncode == -signal.SIGKILL
        assert database.with_name("intent.db-journal").stat().st_size > 4096

    def test_a_reader_says_so_and_touches_nothing(self, database: Path) -> None:
        before = glance(database.parent)
        with pytest.raises(StoreError, match="killed in the middle of a change") as told:
            read.read(database.parent)
        assert "tunctl reconcile" in told.value.hint
        assert glance(database.parent) == before

    def test_the_next_writer_rolls_it_back(self, database: Path) -> None:
        with Store.open(database.parent) as store:
            assert [intent.tunnel.driver for intent in store.stored().intents] == ["tun"]
        assert not database.with_name("intent.db-journal").exists()


class TestPlace:
    def test_modes_whatever_the_umask(self, tmp_path: Path) -> None:
        for umask in (0o000, 0o077):
            place = tmp_path / f"{umask}" / "deep" / "state"
            before = os.umask(umask)
            try:
                Store.open(place).close()
            finally:
                os.umask(before)
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (place.parent, place, place / "intent.db")]
            assert modes == [0o755, 0o755, 0o644]

    def test_a_symlink_is_not_followed(self, state_dir: Path, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "intent.db").symlink_to(state_dir / "intent.db")
        refused(tmp_path / "other", "is a symbolic link")
        (tmp_path / "dangling").mkdir()
        (tmp_path / "dangling" / "intent.db").symlink_to(tmp_path / "nothing")
        refused(tmp_path / "dangling", "is a symbolic link")
        assert not (tmp_path / "nothing").exists()

    def test_a_fifo_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "intent.db")
        refused(tmp_path, "no regular file")

    def test_a_directory_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "state").touch()
        with pytest.raises(StoreError, match="Not a directory"):
            Store.open(tmp_path / "state")
        with pytest.raises(StoreError, match="Not a directory"):
            read.read(tmp_path / "state")

    def test_writable_by_everybody(self, state_dir: Path) -> None:
        state_dir.chmod(0o777)
        refused(state_dir, "is writable by everybody")
        state_dir.chmod(0o1777)
        refused(state_dir, "is writable by everybody")
        state_dir.chmod(0o755)
        (state_dir / "intent.db").chmod(0o666)
        refused(state_dir, "is writable by everybody")

    def test_a_directory_of_narrower_rights_stays_so(self, tmp_path: Path) -> None:
        (tmp_path / "state").mkdir(0o700)
        Store.open(tmp_path / "state").close()
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700

    @pytest.mark.parametrize("name", ["with blank", "50%25", "what?mode=rw", "a#b", "ü"])
    def test_any_name(self, tmp_path: Path, name: str) -> None:
        with Store.open(tmp_path / name) as store:
            put(store, "a")
        assert [intent.name for intent in read.read(tmp_path / name).intents] == ["a"]
        assert [path.name for path in (tmp_path / name).iterdir()] == ["intent.db"]


def test_a_broken_rule_of_the_schema_is_our_bug(state_dir: Path) -> None:
    with Store.open(state_dir) as store, pytest.raises(Bug, match="slot"), store._commit.begin() as connection:
        connection.execute("UPDATE intent SET slot = 0")


def test_a_failed_save_leaves_nothing_half_done(state_dir: Path) -> None:
    with Store.open(state_dir) as store:
        before = store.stored()
        with pytest.raises(ZeroDivisionError), store._commit.begin() as connection:
            connection.execute("DELETE FROM intent")
            _ = 1 / 0
        assert store.stored() == before
        put(store, "a", "b")


def test_pragmas_of_every_connection(state_dir: Path) -> None:
    with Store.open(state_dir) as store:
        for _ in range(2):
            with store._commit.begin() as connection:
                values = {
                    name: connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous", "trusted_schema")
                }
            assert values == {
                "journal_mode": "delete",
                "foreign_keys": 1,
                "busy_timeout": 1000,
                "synchronous": 2,
                "trusted_schema": 0,
            }


def test_nothing_transient_is_in_it(state_dir: Path) -> None:
    connection = sqlite3.connect(state_dir / "intent.db")
    words = set("\n".join(connection.iterdump()).lower().replace("_", " ").split())
    connection.close()
    assert not words & {"pid", "ifindex", "port", "ticks"}


def test_names_that_the_schema_refuses(state_dir: Path) -> None:
    with Store.open(state_dir) as store:
        for name in ("", "A", "-a", "a b", "x" * 33):
            with pytest.raises(Bug), store._commit.begin() as connection:
                connection.execute("UPDATE intent SET name = ?", (TunnelName(name),))


def test_a_store_that_is_only_looked_at_is_not_made(tmp_path: Path) -> None:
    with Store(tmp_path / "state") as store:
        assert not store.stored().exists
        store.hold([TunnelName("a")])
        assert delete(store, TunnelName("a")) == ()
    assert list(tmp_path.iterdir()) == []
