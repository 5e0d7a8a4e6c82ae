"""Intents → rows. Only what differs is written."""

from __future__ import annotations

from _operator import attrgetter

from reconciler.host.jsontext import dumps
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import TunnelName
from reconciler.store import sql
from reconciler.store.change import plain
from reconciler.store.document import encode_host, encode_tunnel, encode_vouched, prefix_lists
from reconciler.store.stored import Source
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3
    from collections.abc import Iterable

    from reconciler.store.change import Moves


def write_source(connection: sqlite3.Connection, source: Source) -> None:
    """Inserts or replaces one."""
    texts = {"host": encode_host(source.host), "inputs": dumps(source.inputs), "warnings": dumps(source.warnings)}
    connection.execute(sql.PUT_SOURCE, {**source._asdict(), **texts})


def write_intents(connection: sqlite3.Connection, before: Iterable[Intent], after: Iterable[Intent]) -> None:
    """Writes those that are not as before. Their sources must be there."""
    known = {intent.name: intent for intent in before}
    differing = [(was, now) for now in after if (was := known.get(now.tunnel.name)) != now]
    wished = [(was, now) for was, now in differing if was is None or was.tunnel != now.tunnel]
    moved = [now.name for was, now in wished if was is not None and was.tunnel.interface != now.tunnel.interface]
    connection.executemany(sql.FREE_INTERFACE, [{"intent": name} for name in moved])  # first: two may swap theirs
    # Withdrawn ones first: one may leave its interface to another.
    in_order = sorted([now for _was, now in differing], key=attrgetter("withdrawn"), reverse=True)
    connection.executemany(sql.PUT_INTENT, map(_row, in_order))
    _write_lists(connection, wished)


def write_progress(
    connection: sqlite3.Connection, before: Iterable[tuple[TunnelName, str, Progress]], moves: Moves
) -> list[tuple[TunnelName, str, Progress, Progress]]:
    """Writes how these got on where that is not as before; returns those, with their sources, as they were and as they are."""
    differing = [(name, source, was, now) for name, source, was in before if (now := _storable(moves[name][0])) != was]
    connection.executemany(sql.SET_PROGRESS, [(*_progress(now), name) for name, _, _, now in differing])
    return differing


def collect_garbage(connection: sqlite3.Connection) -> None:
    """Prefix lists that nobody uses, and sources that have no tunnels and no [host] that still counts."""
    connection.execute(sql.DELETE_UNUSED_LISTS)
    connection.execute(sql.DELETE_EMPTY_SOURCES)


def _row(intent: Intent) -> tuple[object, ...]:
    """In the order of the columns."""
    tunnel, mark, slot, source, generation, held, withdrawn, started_boot, progress, vouched = intent
    return (
        tunnel.name, source, slot, mark.tunnel_id, generation, tunnel.interface, encode_tunnel(tunnel),
        held, withdrawn, started_boot, *_progress(progress), encode_vouched(vouched),
    )  # fmt: skip


def _progress(progress: Progress) -> tuple[object, ...]:
    """In the order of the columns."""
    *kept, last_addresses = progress
    return (*kept, dumps(last_addresses))


def _storable(progress: Progress) -> Progress:
    return progress._replace(error=plain(progress.error)) if progress.error else progress


def _write_lists(connection: sqlite3.Connection, wished: Iterable[tuple[Intent | None, Intent]]) -> None:
    for was, now in wished:
        if was is not None and was.tunnel.prefix_files:
            connection.execute(sql.UNLINK_LISTS, {"intent": now.name})
        lists = prefix_lists(now.tunnel)
        if lists:
            connection.executemany(sql.PUT_LIST, [{"digest": digest, "packed": packed} for digest, packed in lists.items()])
            connection.executemany(sql.LINK_LIST, [{"intent": now.name, "digest": digest} for digest in lists])
