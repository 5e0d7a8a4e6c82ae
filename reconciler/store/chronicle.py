"""Writing the history: bounded, so that a tunnel that fails every minute for a year does not fill the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from reconciler.model.names import TunnelName
from reconciler.store import tables as t
from reconciler.store.change import plain
from reconciler.store.stored import Actor

PER_TUNNEL, IN_ALL = 1000, 10_000  # lines kept
OF_GENERATIONS = ("saved", "created", "changed", "withdrawn")


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


def write_notes(connection: Connection, notes: Sequence[Note]) -> None:
    """Appends lines, and drops the oldest beyond the bounds."""
    if not notes:
        return
    connection.execute(insert(t.history), [_row(note) for note in notes])
    counts = select(t.history.c.tunnel).group_by(t.history.c.tunnel).having(func.count() > PER_TUNNEL)
    for tunnel in connection.execute(counts).scalars().all():
        of_it = t.history.c.tunnel.is_(None) if tunnel is None else t.history.c.tunnel == tunnel
        oldest = select(t.history.c.id).where(of_it).order_by(t.history.c.id.desc()).offset(PER_TUNNEL).limit(1)
        connection.execute(delete(t.history).where(of_it, t.history.c.id <= oldest.scalar_subquery()))
    newest = select(func.max(t.history.c.id)).scalar_subquery()
    connection.execute(delete(t.history).where(t.history.c.id <= newest - IN_ALL))


def write_outcome(connection: Connection, generation: int, outcome: str, tunnels: Mapping[TunnelName, str]) -> None:
    """How a generation went, for each of its lines: a tunnel's own outcome where it has one."""
    of_it = (t.history.c.generation == generation) & t.history.c.event.in_(OF_GENERATIONS)
    rows = connection.execute(select(t.history.c.id, t.history.c.tunnel, t.history.c.outcome).where(of_it)).all()
    for row in rows:
        now = plain(tunnels.get(row.tunnel, outcome))
        if row.outcome != now:
            connection.execute(update(t.history).where(t.history.c.id == row.id).values(outcome=now))


def _row(note: Note) -> dict[str, object]:
    return {
        "at_us": note.at_us,
        "tunnel": note.tunnel,
        "source": note.source,
        "generation": note.generation,
        "uid": note.actor.uid,
        "actor": note.actor.name,
        "event": note.event,
        "cause": plain(note.cause),
        "outcome": plain(note.outcome),
    }
