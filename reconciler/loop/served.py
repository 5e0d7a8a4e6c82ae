"""After a pass the record of what is bound says what the kernel says. Nothing is written that was so already."""

from __future__ import annotations

import os
import stat

from reconciler.errors import StepFailed, TunctlError
from reconciler.host import files, record
from reconciler.host.machine import Machine
from reconciler.host.record import Entry, Record
from reconciler.lean import suppress
from reconciler.loop.survey import Survey
from reconciler.model.facts import Unknown
from reconciler.model.names import TunnelName
from reconciler.model.policy import policy_of
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MODE = 0o644


def keep(machine: Machine, now: Survey) -> Iterator[TunctlError]:
    """Makes them say so. Yields what could not be written. What has moved since the last one is noted: not in silence."""
    machine.notes += _moves(machine.record.tunnels, now)
    for path, wanted in _records(machine, now):
        try:
            _put(path, wanted)
        except OSError as error:
            yield StepFailed(f"{path}: what is bound could not be recorded: {error.strerror}")
    machine.forget_record()


def _moves(before: Mapping[TunnelName, Entry], now: Survey) -> Iterator[str]:
    for name, entry in _entries(before, now):
        had = before[name].endpoints if name in before else {}
        for transport, place in entry.endpoints.items():
            if had.get(transport, place) != place:
                yield f"tunnel {name}: {transport} moved from {had[transport]} to {place}"


def is_kept(machine: Machine, now: Survey) -> bool:
    """They say so already."""
    return all(_is_so(path, wanted) for path, wanted in _records(machine, now))


def entry_of(now: Survey, name: TunnelName, before: Entry | None) -> Entry | None:
    """What a tunnel has bound, proven; what was so before where that cannot be seen now; None: nothing."""
    ports = now.facts.ports.get(name, ())
    if isinstance(ports, Unknown) or any(port.bound and port.ours is None for port in ports):
        return before
    endpoints = {port.entry.transport: port.bound for port in ports if port.ours and port.bound}
    if not endpoints:
        return None
    requested = {port.entry.transport: port.requested for port in ports}
    at = before.bound_at_unix if before and before.endpoints == endpoints else now.facts.now_us // 1_000_000
    return Entry(at, requested, endpoints)


def _entries(before: Mapping[TunnelName, Entry], now: Survey) -> Iterator[tuple[TunnelName, Entry]]:
    for intent in now.stored.intents:
        entry = entry_of(now, intent.name, before.get(intent.name)) if intent.tunnel.listen else None
        if entry:
            yield intent.name, entry


def _records(machine: Machine, now: Survey) -> Iterator[tuple[str, Record]]:
    """In the run directory and, where `[host] runtime_file` says so, beside the desired files: of their own tunnels each.

    That in the run directory is the last one: while it is there, the others are looked after.
    """
    entries = dict(_entries(machine.record.tunnels, now))
    beside = policy_of(source.host for source in now.stored.sources).runtime_file == "beside"
    for source in now.stored.sources:
        if source.path != "-":
            theirs = {name: entry for name, entry in entries.items() if now.intents[name].source == source.name}
            yield source.path + record.BESIDE, Record(now.facts.boot_id, theirs if beside else {})
    yield os.path.join(machine.run_dir, record.FILE), Record(now.facts.boot_id, entries)


def _is_so(path: str, wanted: Record) -> bool:
    """What is no record is not ours to remove."""
    try:
        content, status = files.read_checked(path, record.LIMIT)
        found = record.decode(content)
    except (OSError, ValueError, RecursionError):
        return not wanted.tunnels
    return bool(wanted.tunnels) and found == wanted and stat.S_IMODE(status.st_mode) == _MODE


def _put(path: str, wanted: Record) -> None:
    if _is_so(path, wanted):
        return
    files.sweep(path)
    if wanted.tunnels:
        files.replace(path, record.encode(wanted), _MODE)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)
