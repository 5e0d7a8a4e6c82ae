"""Writing the history: bounded, so that a tunnel that fails every minute for a year does not fill the disk."""

from __future__ import annotations

from reconciler.model.names import TunnelName
from reconciler.store import sql
from reconciler.store.change import plain
from reconciler.store.stored import Actor, Ending
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import _sqlite3 as sqlite3
    from collections.abc import Sequence


class Note(NamedTuple):
    """One line to be written. See stored.Event."""

    at_us: int
    tunnel: TunnelName | None
    source: str | None
    generation: int | None
    actor: Actor
    event: str
    cause: str
    outcome: str = ""


def write_notes(connection: sqlite3.Connection, notes: Sequence[Note]) -> None:
    """Appends lines, and drops the oldest beyond the bounds."""
    if not notes:
        return
    connection.executemany(sql.ADD_LINE, map(_row, notes))
    ((may_be_too_many,),) = connection.execute(sql.MAY_BE_TOO_MANY_LINES)
    if may_be_too_many:  # not while all lines together are fewer than one tunnel may have
        connection.executemany(sql.BOUND_LINES_OF_TUNNEL, [{"tunnel": tunnel} for tunnel in {note.tunnel for note in notes}])
        connection.execute(sql.BOUND_LINES)


def write_outcome(connection: sqlite3.Connection, ending: Ending) -> None:
    """How a generation went, for each of its lines: a tunnel's own outcome where it has one."""
    rows = connection.execute(sql.LINES_OF_GENERATION, {"generation": ending.generation}).fetchall()
    now = {line: plain(ending.tunnels.get(tunnel, ending.outcome)) for line, tunnel, _before in rows}
    differing = [{"line": line, "outcome": now[line]} for line, _tunnel, before in rows if before != now[line]]
    connection.executemany(sql.SET_OUTCOME, differing)


def _row(note: Note) -> dict[str, object]:
    return {
        **note._asdict(),
        "uid": note.actor.uid,
        "actor": note.actor.name,
        "cause": plain(note.cause),
        "outcome": plain(note.outcome),
    }
