"""Intents → rows. Only what differs is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import Host
from reconciler.store import tables as t
from reconciler.store.document import encode_host, encode_tunnel, encode_vouched, prefix_lists
from reconciler.store.stored import Source


def write_source(connection: Connection, source: Source) -> None:
    """Inserts or replaces one."""
    values = source._asdict() | {
        "host": encode_host(source.host),
        "inputs": json.dumps(source.inputs),
        "warnings": json.dumps(source.warnings),
        "forgotten": int(source.forgotten),
    }
    if connection.execute(update(t.source).where(t.source.c.name == source.name).values(values)).rowcount == 0:
        connection.execute(insert(t.source).values(values))


def write_intents(connection: Connection, before: Mapping[TunnelName, Intent], after: Iterable[Intent]) -> tuple[Intent, ...]:
    """Writes those that are not as before, and returns them. Their sources must be there."""
    differing = tuple(intent for intent in after if before.get(intent.name) != intent)
    known = [intent for intent in differing if intent.name in before]
    wished = [intent for intent in differing if intent.name not in before or before[intent.name].tunnel != intent.tunnel]
    moved = [intent.name for intent in known if before[intent.name].tunnel.interface != intent.tunnel.interface]
    if moved:  # first, so that two can swap their interfaces
        connection.execute(_UPDATE.values(interface=None), [{"of": name} for name in moved])
    _write_lists(connection, wished)
    withdrawn_first = sorted(known, key=lambda intent: not intent.withdrawn)  # one may leave its interface to another
    if known:
        connection.execute(_UPDATE.values(_COLUMNS), [{"of": intent.name, **_row(intent)} for intent in withdrawn_first])
    created = [intent for intent in differing if intent.name not in before]
    if created:
        connection.execute(insert(t.intent), [_row(intent) for intent in created])
    _link_lists(connection, wished)
    return differing


def collect_garbage(connection: Connection) -> None:
    """Prefix lists that nobody uses, and sources that have no tunnels and no [host] that still counts."""
    used = select(t.intent_prefix_list.c.digest)
    connection.execute(delete(t.prefix_list).where(t.prefix_list.c.digest.not_in(used)))
    empty = (t.source.c.forgotten == 1) | (t.source.c.host == encode_host(Host()))
    connection.execute(delete(t.source).where(empty, t.source.c.name.not_in(select(t.intent.c.source))))


_UPDATE = update(t.intent).where(t.intent.c.name == bindparam("of"))
_COLUMNS: dict[str, Any] = {column.name: bindparam(column.name) for column in t.intent.columns}


def _row(intent: Intent) -> dict[str, Any]:
    progress = intent.progress
    return {
        "name": intent.name,
        "source": intent.source,
        "slot": intent.slot,
        "tunnel_id": intent.mark.tunnel_id,
        "generation": intent.generation,
        "interface": intent.tunnel.interface,
        "document": encode_tunnel(intent.tunnel),
        "held": int(intent.held),
        "withdrawn": int(intent.withdrawn),
        "started_boot": intent.started_boot,
        **progress._asdict(),
        "worked": int(progress.worked),
        "last_addresses": json.dumps(progress.last_addresses),
        "vouched": encode_vouched(intent.vouched),
    }


def _write_lists(connection: Connection, intents: list[Intent]) -> None:
    packed = {digest: blob for intent in intents for digest, blob in prefix_lists(intent.tunnel).items()}
    if not packed:
        return
    present = set(connection.execute(select(t.prefix_list.c.digest)).scalars())
    new = [{"digest": digest, "packed": blob} for digest, blob in packed.items() if digest not in present]
    if new:
        connection.execute(insert(t.prefix_list), new)


def _link_lists(connection: Connection, intents: list[Intent]) -> None:
    if intents:
        of_it = t.intent_prefix_list.c.intent == bindparam("of")
        connection.execute(delete(t.intent_prefix_list).where(of_it), [{"of": intent.name} for intent in intents])
    links = [{"intent": intent.name, "digest": digest} for intent in intents for digest in prefix_lists(intent.tunnel)]
    if links:
        connection.execute(insert(t.intent_prefix_list), links)
