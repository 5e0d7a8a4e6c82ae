"""What is executed on the store is what is defined, and each of it is valid there and used."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.store import sql, statements
from reconciler.store.write import Store

ROOM = Path(statements.__file__).parent


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A store that was made just now."""
    place = tmp_path_factory.mktemp("state")
    Store.open(place).close()
    connection = sqlite3.connect(place / "intent.db")
    connection.execute("PRAGMA foreign_keys = ON")
    yield connection
    connection.close()


def test_the_text_is_that_of_the_definitions() -> None:
    assert (ROOM / "sql.py").read_text() == statements.text(), "python -m reconciler.store.statements"


@pytest.mark.parametrize("name", statements.STATEMENTS)
def test_it_is_valid(fresh: sqlite3.Connection, name: str) -> None:
    statement = getattr(sql, name)
    given = [None] * statement.count("?") or dict.fromkeys(re.findall(r":(\w+)", statement))
    assert fresh.execute(f"EXPLAIN {statement}", given).fetchall()


def test_it_is_used() -> None:
    words = " ".join(path.read_text() for path in ROOM.glob("*.py"))
    assert [name for name in statements.STATEMENTS if not re.search(rf"\bsql\.{name}\b", words)] == []
