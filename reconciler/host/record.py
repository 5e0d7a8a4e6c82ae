"""The record of what is really bound: `endpoints.json` in the run directory, for everybody to read.

A hint like all files: who reads it believes nothing of another boot, and asks the kernel whether it is still so.
"""

from __future__ import annotations

import os

from reconciler.host import files
from reconciler.host.handles import RECORD
from reconciler.host.jsontext import loads
from reconciler.lean import suppress
from reconciler.model.names import TunnelName, is_tunnel_name
from reconciler.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = RECORD
BESIDE = ".runtime.json"  # appended to the name of a desired file
VERSION = 1
LIMIT = 4 << 20  # bytes; a thousand tunnels make 200 KiB


class Entry(NamedTuple):
    """One tunnel: transport → "address:port"."""

    bound_at_unix: int  # seconds; when it was first seen so
    requested: Mapping[str, str]
    endpoints: Mapping[str, str]


class Record(NamedTuple):
    """All tunnels that serve something."""

    boot_id: str
    tunnels: Mapping[TunnelName, Entry] = {}


def of_boot(run_dir: str | Path, boot_id: str) -> Record:
    """That of a run directory; empty when it is of another boot, damaged, not ours, or not there."""
    with suppress(OSError, ValueError, RecursionError):
        record = decode(files.read(os.path.join(run_dir, FILE), LIMIT))
        if record.boot_id == boot_id:
            return record
    return Record(boot_id)


def encode(record: Record) -> bytes:
    """The document, always the same for the same record."""
    import json  # only who writes needs it

    return json.dumps(document(record), indent=1, sort_keys=True).encode() + b"\n"


def document(record: Record) -> dict[str, Any]:
    tunnels = {name: entry._asdict() for name, entry in record.tunnels.items()}
    return {"version": VERSION, "boot_id": record.boot_id, "tunnels": tunnels}


def decode(content: bytes) -> Record:
    """ValueError says what is wrong with it."""
    fields = loads(content.decode())
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        raise ValueError("not a record of bound endpoints, or of another version")
    boot_id, tunnels = fields.get("boot_id"), fields.get("tunnels")
    if not isinstance(boot_id, str) or not isinstance(tunnels, dict):
        raise ValueError("boot_id or tunnels is missing")
    return Record(boot_id, {TunnelName(name): _entry(name, value) for name, value in tunnels.items()})


def _entry(name: str, value: Any) -> Entry:
    if not is_tunnel_name(name) or not isinstance(value, dict):
        raise ValueError(f"{name!r} is no tunnel")
    at = value.get("bound_at_unix")
    if isinstance(at, bool) or not isinstance(at, int) or not 0 <= at < 1 << 63:
        raise ValueError(f"{name}: bound_at_unix is no time")
    return Entry(at, _texts(name, value, "requested"), _texts(name, value, "endpoints"))


def _texts(name: str, value: dict[str, Any], key: str) -> dict[str, str]:
    texts: dict[str, str] = value.get(key, {})
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"{name}: {key} has the wrong type")
    return texts
