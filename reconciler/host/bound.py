"""The record of the ports that are really bound (`endpoints.json`), read for those who sign it."""

from __future__ import annotations

import json
from typing import Any

from reconciler.errors import InvalidFile
from reconciler.host import files
from reconciler.model.manifest import TRANSPORTS
from reconciler.model.names import TunnelName, is_tunnel_name

FILE = "endpoints.json"
_LIMIT = 4 << 20  # bytes; a thousand tunnels make 200 KB

Bound = dict[TunnelName, dict[str, tuple[str, int]]]  # tunnel → transport → address without brackets, port


def read(path: str, boot_id: str) -> Bound:
    """What is bound in this boot. InvalidFile: the record is absent, damaged, or of another boot."""
    try:
        document = json.loads(files.read(path, _LIMIT, follow=True).decode())
        if document["boot_id"] != boot_id:
            hint = "bring the tunnels up, then sign; for another machine say --endpoint"
            raise InvalidFile(f"{path}: was written in another boot, or on another machine", hint=hint)
        if document["version"] != 1:
            raise InvalidFile(f"{path}: was written by another version")
        return {_name(name): _endpoints(entry["endpoints"]) for name, entry in document["tunnels"].items()}
    except FileNotFoundError:
        raise InvalidFile(f"{path}: there is no record of bound ports", hint="is a tunnel with `listen` up?") from None
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidFile(f"{path}: is not a record of bound ports") from None


def _name(text: str) -> TunnelName:
    if not is_tunnel_name(text):
        raise ValueError
    return TunnelName(text)


def _endpoints(entries: dict[str, Any]) -> dict[str, tuple[str, int]]:
    found = {}
    for transport, text in entries.items():
        address, _colon, port = text.rpartition(":")
        if transport not in TRANSPORTS or not 0 < int(port) < 1 << 16:
            raise ValueError
        found[transport] = (address.strip("[]"), int(port))
    return found
