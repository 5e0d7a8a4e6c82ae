"""Intents → rows. Only what differs is written."""

from __future__ import annotations

from reconciler.host.jsontext import dumps
from reconciler.model.intent import Intent, Progress
from reconciler.model.names import TunnelName
from reconciler.store import sql
from reconciler.store.document import encode_host, encode_tunnel, encode_vouched, prefix_lists
from reconciler.store.stored import Source
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import _sqlite3 as sqlite3
    from collections.abc import Iterable, Mapping


def write_source(connection: sqlite3.Connection, source: Source) -> None:
    """Inserts or replaces one."""
    texts = {"host": encode_host(source.host), "inputs": dumps(source.inputs), "warnings": dumps(source.warnings)}
    connection.execute(sql.PUT_SOURCE, {**source._asdict(), **texts})


def write_intents(
    connection: sqlite3.Connection, before: Mapping[TunnelName, Intent], after: Iterable[Intent]
) -> tuple[Intent, ...]:
    """Writes those that are not as before, and returns them. Their sources must be there."""
    differing = tuple(intent for intent in after if before.get(intent.name) != intent)
    if all(i.name in before and before[i.name]._replace(progress=i.progress) == i for i in differing):  # most: how they got on
        connection.executemany(sql.SET_PROGRESS, [{"intent": i.name, **_progress(i.progress)} for i in differing])
        return differing
    wished = [i for i in differing if i.name not in before or before[i.name].tunnel != i.tunnel]
    moved = [i.name for i in wished if i.name in before and before[i.name].tunnel.interface != i.tunnel.interface]
    connection.executemany(sql.FREE_INTERFACE, [{"intent": name} for name in moved])  # first: two may swap theirs
    withdrawn_first = sorted(differing, key=lambda intent: not intent.withdrawn)  # one may leave its interface to another
    connection.executemany(sql.PUT_INTENT, map(_row, withdrawn_first))
    _write_lists(connection, before, wished)
    return differing


def collect_garbage(connection: sqlite3.Connection) -> None:
    """Prefix lists that nobody uses, and sources that have no tunnels and no [host] that still counts."""
    connection.execute(sql.DELETE_UNUSED_LISTS)
    connection.execute(sql.DELETE_EMPTY_SOURCES)


def _row(intent: Intent) -> dict[str, object]:
    return {
        "name": intent.name,
        "source": intent.source,
        "slot": intent.slot,
        "tunnel_id": intent.mark.tunnel_id,
        "generation": intent.generation,
        "interface": intent.tunnel.interface,
        "document": encode_tunnel(intent.tunnel),
        "held": intent.held,
        "withdrawn": intent.withdrawn,
        "started_boot": intent.started_boot,
        **_progress(intent.progress),
        "vouched": encode_vouched(intent.vouched),
    }


def _progress(progress: Progress) -> dict[str, object]:
    return {**progress._asdict(), "last_addresses": dumps(progress.last_addresses)}


def _write_lists(connection: sqlite3.Connection, before: Mapping[TunnelName, Intent], intents: Iterable[Intent]) -> None:
    for intent in intents:
        lists = prefix_lists(intent.tunnel)
        if intent.name in before and before[intent.name].tunnel.prefix_files:
            connection.execute(sql.UNLINK_LISTS, {"intent": intent.name})
        if not lists:
            continue
        connection.executemany(sql.PUT_LIST, [{"digest": digest, "packed": packed} for digest, packed in lists.items()])
        connection.executemany(sql.LINK_LIST, [{"intent": intent.name, "digest": digest} for digest in lists])
