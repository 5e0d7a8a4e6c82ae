"""The schema: made in one go or by its migrations it is the same, and a migration is done whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from reconciler.errors import StoreError
from reconciler.model.names import TunnelName
from reconciler.store import migration, read
from reconciler.store.stored import SCHEMA
from reconciler.store.write import Store
from tests.unit.store_of import put, routed_by_file

NEXT = "0003"
NEXT_REVISION = """
import os
from alembic import op
import sqlalchemy as sa

revision = "0003"
down_revision = "0002"


def upgrade():
    with op.batch_alter_table("intent", recreate="always") as table:
        table.add_column(sa.Column("colour", sa.Text, nullable=False, server_default="red"))
    op.execute("UPDATE source SET path = '/moved'")
    {then}
"""
_TABLES = ("meta", "source", "prefix_list", "intent", "intent_prefix_list", "ledger", "ledger_user")
MIGRATE = """
import sys
from pathlib import Path
from reconciler.store.migration import migrate
migrate(sys.argv[1], "0002", "0003", Path(sys.argv[2]))
"""


def tables_of(database: Path) -> list[str]:
    connection = sqlite3.connect(database)
    found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return sorted(re.sub(r'[\s"]+', "", statement) for (statement,) in found)


def rows_of(database: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database)
    version = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    columns = [row[1] for row in connection.execute("PRAGMA table_info(intent)")]
    paths = connection.execute("SELECT path FROM source").fetchall()
    intents = connection.execute("SELECT name, document FROM intent ORDER BY name").fetchall()
    lists = connection.execute("SELECT intent, digest FROM intent_prefix_list").fetchall()
    broken = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    assert broken == []
    return [version, ("colour" in columns,), *paths, *intents, *lists]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "state") as store:
        put(store, "a", routed_by_file("b", "10.0.0.0/8"))
    return tmp_path / "state" / "intent.db"


def revisions(tmp_path: Path, then: str = "pass") -> Path:
    """The migrations, and one more, which ends with this statement."""
    directory = tmp_path / "migrations 100%"
    shutil.copytree(migration.migrations(), directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "versions" / "0003_next.py").write_text(NEXT_REVISION.format(then=then))
    return directory


def backup(database: Path) -> Path:
    return database.with_name(f"intent.db.{SCHEMA}.bak")


def test_the_head_is_what_we_read_and_write() -> None:
    config = Config()
    config.set_main_option("script_location", str(migration.migrations()))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [SCHEMA]
    names = [script.revision for script in scripts.walk_revisions()]
    assert names == sorted(names, reverse=True), "revisions sort as text: the one compared decides what is newer"


def test_made_in_one_go_it_is_what_the_migrations_make(tmp_path: Path, database: Path) -> None:
    migrated = tmp_path / "migrated.db"
    migrated.touch()
    with migration.transaction(str(migrated)) as connection:
        migration.upgrade(connection, "head", migration.migrations())
    assert tables_of(migrated) == tables_of(database)


def test_a_migration_keeps_everything_and_a_backup(tmp_path: Path, database: Path) -> None:
    before = rows_of(database)
    migration.migrate(str(database), SCHEMA, NEXT, revisions(tmp_path))
    after = rows_of(database)
    assert after == [(NEXT,), (True,), ("/moved",), *before[3:]]
    assert rows_of(backup(database)) == before
    assert stat.S_IMODE(backup(database).stat().st_mode) == 0o600
    assert stat.S_IMODE(database.stat().st_mode) == 0o644
    assert sorted(path.name for path in database.parent.iterdir()) == ["intent.db", backup(database).name]
    with pytest.raises(StoreError, match="newer"):
        read.read(database.parent)


def test_it_is_done_once(tmp_path: Path, database: Path) -> None:
    directory = revisions(tmp_path)
    migration.migrate(str(database), SCHEMA, NEXT, directory)
    saved = backup(database).read_bytes()
    after = database.stat().st_mtime_ns
    migration.migrate(str(database), SCHEMA, NEXT, directory)
    assert database.stat().st_mtime_ns == after
    assert backup(database).read_bytes() == saved


def test_the_backup_of_an_older_try_is_replaced(tmp_path: Path, database: Path) -> None:
    backup(database).write_bytes(b"old")
    database.with_name(f"intent.db.{SCHEMA}.part").write_bytes(b"cut off")
    before = rows_of(database)
    migration.migrate(str(database), SCHEMA, NEXT, revisions(tmp_path))
    assert rows_of(backup(database)) == before


@pytest.mark.parametrize(
    "then",
    [
        pytest.param("1 / 0", id="a bug"),
        pytest.param("op.execute('no such statement')", id="wrong SQL"),
        pytest.param("op.execute(\"DELETE FROM prefix_list\")", id="broken references"),
    ],
)  # fmt: skip
def test_one_that_fails_leaves_the_old_one(tmp_path: Path, database: Path, then: str) -> None:
    before, content = rows_of(database), database.read_bytes()
    with pytest.raises((StoreError, ZeroDivisionError)):
        migration.migrate(str(database), SCHEMA, NEXT, revisions(tmp_path, then))
    assert rows_of(database) == before
    assert database.read_bytes() == content


def test_killed_in_the_middle_it_is_the_old_one(tmp_path: Path, database: Path) -> None:
    """The kill comes after pages have reached the file: what is left is a hot journal."""
    before = rows_of(database)
    spill = (
        'op.execute("PRAGMA cache_size = 1"); '
        "[op.execute(f\"INSERT INTO prefix_list VALUES ('{n:064}', zeroblob(4000))\") for n in range(200)]; "
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    argv = [sys.executable, "-c", MIGRATE, str(database), str(revisions(tmp_path, spill))]
    ended = subprocess.run(argv, check=False, timeout=30, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert ended.returncode == -signal.SIGKILL
    assert database.with_name("intent.db-journal").exists()
    assert rows_of(database) == before
    shutil.rmtree(tmp_path / "migrations 100%")
    migration.migrate(str(database), SCHEMA, NEXT, revisions(tmp_path))
    assert rows_of(database)[0] == (NEXT,)


def test_an_interrupt_that_meets_the_end_of_a_migration_is_only_raised(database: Path) -> None:
    """SQLAlchemy raises it again, and would log it with a traceback, too."""
    script = (
        "import sys\n"
        "from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite\n"
        "from reconciler.store import migration\n"
        "def interrupted(dialect, connection): connection.close(); raise KeyboardInterrupt\n"
        "SQLiteDialect_pysqlite.do_close = interrupted\n"
        "try:\n"
        "    with migration.transaction(sys.argv[1]): pass\n"
        "except KeyboardInterrupt: print('raised')\n"
    )
    argv = [sys.executable, "-c", script, str(database)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30, env=environment)
    assert (told.stdout, told.stderr) == ("raised\n", "")


def test_the_first_schema_becomes_ours_with_all_that_is_in_it(tmp_path: Path) -> None:
    """Intents, their prefix files and the ledger; what later columns say is their default."""
    directory, path = tmp_path / "migrations", tmp_path / "state" / "intent.db"
    shutil.copytree(migration.migrations(), directory, ignore=shutil.ignore_patterns("__pycache__"))
    with Store.open(path.parent) as store:
        put(store, "a", routed_by_file("b", "10.0.0.0/8"))
        store.ledger_put("file:/etc/resolv.conf", TunnelName("a"), b"old", b"new")
    wanted = read.read(path.parent)
    rows = {name: _rows(path, name) for name in _TABLES}
    path.unlink()
    path.touch()
    with migration.transaction(str(path)) as connection:
        migration.upgrade(connection, "0001", migration.migrations())
    for name, (columns, values) in rows.items():
        _insert(path, name, columns, values)
    with Store.open(path.parent) as store:
        assert store.stored() == wanted
    assert rows_of(path)[0] == (SCHEMA,)


def _rows(path: Path, table: str) -> tuple[list[str], list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    found = connection.execute(f"SELECT * FROM {table}")
    result = [column[0] for column in found.description], found.fetchall()
    connection.close()
    return result


def _insert(path: Path, table: str, columns: list[str], rows: list[tuple[object, ...]]) -> None:
    """What of it an older table has a place for."""
    connection = sqlite3.connect(path)
    known = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    kept = [at for at, name in enumerate(columns) if name in known]
    names, marks = ", ".join(f'"{columns[at]}"' for at in kept), ", ".join("?" * len(kept))
    for row in rows:
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", [row[at] for at in kept])
    connection.commit()
    connection.close()
