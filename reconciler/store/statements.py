"""Every statement that writes, and what is read for it, defined with SQLAlchemy. What is executed is the text in `sql`.

Loading SQLAlchemy and having it compile costs more than all else that a command does. So that is done once, by whoever
changes a statement or a table: `python -m reconciler.store.statements` writes `sql` anew, and a test compares.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import BindParameter, ClauseElement, Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDialect
from sqlalchemy.dialects.sqlite.dml import Insert
from sqlalchemy.schema import CreateIndex, CreateTable

from reconciler.model.intent import Progress
from reconciler.model.tunnel import Host
from reconciler.store import tables as t
from reconciler.store.document import encode_host

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_TUNNEL, IN_ALL = 1000, 10_000  # lines of the history that are kept
OF_GENERATIONS = ("saved", "created", "changed", "withdrawn")
_COLUMNS = 120  # of a line of text

_HEAD = '"""What is executed. Made by `python -m reconciler.store.statements` of what is defined there; not to be edited."""\n'


def _new(table: Table, *, without: str = "") -> Insert:
    return insert(table).values({column.name: bindparam(column.name) for column in table.columns if column.name != without})


def _put(table: Table, *kept: str) -> Insert:
    """A new row, or these values for the one that has its key; `kept`: what that one has stays."""
    new, keys = _new(table), [column.name for column in table.primary_key]
    values = {column.name: new.excluded[column.name] for column in table.columns if column.name not in (*keys, *kept)}
    return new.on_conflict_do_update(index_elements=keys, set_=values)


_declared = select(t.intent.c.source).where(t.intent.c.withdrawn == 0)
_is_empty = (t.source.c.forgotten == 1) | (t.source.c.host == encode_host(Host()))
_is_of_tunnel = t.history.c.tunnel.is_not_distinct_from(bindparam("tunnel"))  # NULL: a whole source, or the host
_newest, _oldest = (select(end(t.history.c.id)).scalar_subquery() for end in (func.max, func.min))
_too_old = select(t.history.c.id).where(_is_of_tunnel).order_by(t.history.c.id.desc()).limit(1).offset(PER_TUNNEL)
_is_of_generation = (t.history.c.generation == bindparam("generation")) & t.history.c.event.in_(OF_GENERATIONS)
_ends_otherwise = _is_of_generation & (t.history.c.outcome != bindparam("outcome"))
_is_not_named = func.instr(bindparam("named"), "<" + func.coalesce(t.history.c.tunnel, "") + ">") == 0  # as `<a><b>`

STATEMENTS: dict[str, ClauseElement] = {
    "GENERATION": select(t.meta.c.generation),
    "SET_GENERATION": update(t.meta).values(generation=bindparam("generation")),
    "PUT_SOURCE": _put(t.source),
    "FORGET_SOURCE": update(t.source)
    .where(t.source.c.name == bindparam("source"), t.source.c.forgotten == 0, t.source.c.name.not_in(_declared))
    .values(forgotten=1),
    "DELETE_EMPTY_SOURCES": delete(t.source).where(_is_empty, t.source.c.name.not_in(select(t.intent.c.source))),
    "SOURCES_OF_INTENTS": select(t.intent.c.name, t.intent.c.source),
    "FREE_INTERFACE": update(t.intent).where(t.intent.c.name == bindparam("intent")).values(interface=None),
    "PUT_INTENT": _put(t.intent),
    "SET_PROGRESS": update(t.intent)
    .where(t.intent.c.name == bindparam("intent"))
    .values({field: bindparam(field) for field in Progress._fields}),
    "DELETE_INTENT": delete(t.intent).where(t.intent.c.name == bindparam("intent")),
    "PUT_LIST": _new(t.prefix_list).on_conflict_do_nothing(),
    "UNLINK_LISTS": delete(t.intent_prefix_list).where(t.intent_prefix_list.c.intent == bindparam("intent")),
    "LINK_LIST": _new(t.intent_prefix_list),
    "DELETE_UNUSED_LISTS": delete(t.prefix_list).where(t.prefix_list.c.digest.not_in(select(t.intent_prefix_list.c.digest))),
    "ADD_LINE": _new(t.history, without="id"),
    "MAY_BE_TOO_MANY_LINES": select(_newest - _oldest >= PER_TUNNEL),
    "BOUND_LINES_OF_TUNNEL": delete(t.history).where(_is_of_tunnel, t.history.c.id <= _too_old.scalar_subquery()),
    "BOUND_LINES": delete(t.history).where(t.history.c.id <= _newest - IN_ALL),
    "SET_OUTCOME": update(t.history).where(_ends_otherwise, _is_not_named).values(outcome=bindparam("outcome")),
    "SET_OUTCOME_OF": update(t.history)
    .where(_ends_otherwise, t.history.c.tunnel == bindparam("tunnel"))
    .values(outcome=bindparam("outcome")),
    "OWING_TUNNELS": select(t.ledger_user.c.tunnel),
    "PUT_ENTRY": _put(t.ledger, "previous", "at_us"),
    "PUT_USER": _new(t.ledger_user).on_conflict_do_nothing(),
    "DELETE_USER": delete(t.ledger_user).where(
        t.ledger_user.c.key == bindparam("key"), t.ledger_user.c.tunnel == bindparam("tunnel")
    ),
    "DELETE_UNUSED_ENTRIES": delete(t.ledger).where(t.ledger.c.key.not_in(select(t.ledger_user.c.key))),
    "SET_VERSION": _new(t.alembic_version),
    "NEW_META": _new(t.meta),
}

# Of these there may be one for each tunnel. They take their values in the order of the text: to look for each by its name
# costs four times what it costs to store it.
IN_ORDER = ("PUT_INTENT", "SET_PROGRESS", "ADD_LINE")


class _Compiler(SQLiteCompiler):
    """What a statement says itself is written into it; what it is executed with stays a name."""

    def visit_bindparam(self, bindparam: BindParameter[Any], *args: Any, **options: Any) -> str:
        options |= {"literal_binds": not bindparam.required}
        return str(super().visit_bindparam(bindparam, *args, **options))  # type: ignore[no-untyped-call]


class _Dialect(SQLiteDialect):
    statement_compiler = _Compiler


def text() -> str:
    """The module `sql`: a constant for each statement, and the statements that make an empty file a store."""
    by_name, in_order = _Dialect(paramstyle="named"), _Dialect(paramstyle="qmark")
    made = [_HEAD]
    for name, statement in STATEMENTS.items():
        dialect = in_order if name in IN_ORDER else by_name
        made.append(f'{name} = """\n{_wrapped(str(statement.compile(dialect=dialect)))}"""\n')
    made.append("SCHEMA = (")
    made += [f'    """\n{str(one.compile(dialect=by_name)).strip()}""",' for one in _schema()]
    return "\n".join(line.rstrip().expandtabs(4) for line in "\n".join([*made, ")"]).splitlines()) + "\n"


def _schema() -> Iterator[CreateTable | CreateIndex]:
    for table in t.metadata.sorted_tables:
        yield CreateTable(table)
        yield from map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))


def _wrapped(statement: str) -> str:
    return "\n".join(
        textwrap.fill(line.strip(), _COLUMNS, break_long_words=False, break_on_hyphens=False) for line in statement.splitlines()
    )


if __name__ == "__main__":
    Path(__file__).with_name("sql.py").write_text(text(), encoding="utf-8")
