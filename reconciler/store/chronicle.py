"""Writing the history: bounded, so that a tunnel that fails every minute for a year does not fill the disk."""

from __future__ import annotations

from reconciler.store import sql
from reconciler.store.change import plain
from reconciler.store.stored import Ending, Event
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3
    from collections.abc import Sequence


def write_lines(connection: sqlite3.Connection, lines: Sequence[Event]) -> None:
    """Appends lines, and drops the oldest beyond the bounds."""
    if not lines:
        return
    connection.executemany(sql.ADD_LINE, lines)
    ((may_be_too_many,),) = connection.execute(sql.MAY_BE_TOO_MANY_LINES)
    if may_be_too_many:  # not while all lines together are fewer than one tunnel may have
        connection.executemany(sql.BOUND_LINES_OF_TUNNEL, [{"tunnel": tunnel} for tunnel in {line.tunnel for line in lines}])
        connection.execute(sql.BOUND_LINES)


def write_outcome(connection: sqlite3.Connection, ending: Ending) -> None:
    """How a generation went, for each of its lines: a tunnel's own outcome where it has one."""
    number, of_all = ending.generation, plain(ending.outcome)
    own = [{"generation": number, "tunnel": tunnel, "outcome": plain(words)} for tunnel, words in ending.tunnels.items()]
    connection.executemany(sql.SET_OUTCOME_OF, own)
    named = "".join(map("<{}>".format, ending.tunnels))
    connection.execute(sql.SET_OUTCOME, {"generation": number, "named": named, "outcome": of_all})
