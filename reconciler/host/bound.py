"""The record of the ports that are really bound (`endpoints.json`), read for those who sign it."""

from __future__ import annotations

from reconciler.errors import InvalidFile
from reconciler.host import files, record
from reconciler.host.record import Record
from reconciler.model.manifest import TRANSPORTS
from reconciler.model.names import TunnelName
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Bound = dict[TunnelName, dict[str, tuple[str, int]]]  # tunnel → transport → address without brackets, port


def read(path: str, boot_id: str) -> Bound:
    """What is bound in this boot. InvalidFile: the record is absent, damaged, or of another boot."""
    try:
        found = record.decode(files.read(path, record.LIMIT, follow=True))
        bound = of_record(found)
    except FileNotFoundError:
        raise InvalidFile(f"{path}: there is no record of bound ports", hint="is a tunnel with `listen` up?") from None
    except OSError as error:
        raise InvalidFile(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError):
        raise InvalidFile(f"{path}: is not a record of bound ports that this version knows") from None
    if found.boot_id != boot_id:
        hint = "bring the tunnels up, then sign; for another machine say --endpoint"
        raise InvalidFile(f"{path}: was written in another boot, or on another machine", hint=hint)
    return bound


def of_record(found: Record) -> Bound:
    """ValueError when it names what is no endpoint."""
    return {name: _endpoints(entry.endpoints) for name, entry in found.tunnels.items()}


def _endpoints(entries: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    found = {}
    for transport, text in entries.items():
        address, _colon, port = text.rpartition(":")
        if transport not in TRANSPORTS or not 0 < int(port) < 1 << 16:
            raise ValueError(f"{transport} {text!r} is no endpoint")
        found[transport] = (address.strip("[]"), int(port))
    return found
