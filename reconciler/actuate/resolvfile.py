"""resolv.conf as ours, and given back. What was there before our first write stands in the ledger before that write,
and stays there, whatever others write meanwhile: only what is still ours is replaced by it."""

from __future__ import annotations

import time

from reconciler.errors import StepFailed
from reconciler.host import resolvfile
from reconciler.host.machine import Machine
from reconciler.host.resolvfile import Names
from reconciler.kinds.resolver import Resolver
from reconciler.model.ledger import Entry
from reconciler.model.nameservice import LEDGER_KEY

_UNKNOWN = b"# tunctl removed its own name servers from here; what was here before is not known\n"
_HALF_WRITTEN_S = 0.1  # an empty file is often one that somebody is just writing


def put(machine: Machine, wanted: Resolver) -> None:
    """Writes it, unless it is there already. OSError; StepFailed when it is not what comes out."""
    place = resolvfile.place()
    entry = _entry(machine)
    if entry is not None and resolvfile.place_of(entry.value) != place.path:
        _leave(machine, entry)  # the symlink leads elsewhere now: another file, with another past
        entry = None
    there = _settled(place.path)
    is_ours = resolvfile.mark_of(there) is not None  # or of a store that was lost: never an original
    before = entry.previous if entry else None if is_ours else there
    content = _content(wanted, before if entry or not is_ours else there, place.path)
    if entry is not None or not is_ours:  # ours without an entry: the store was lost, and what was before with it
        machine.ledger.put(LEDGER_KEY, wanted.owner, before, content)
        for tunnel in entry.tunnels if entry else ():
            if tunnel != wanted.owner:
                machine.ledger.remove(LEDGER_KEY, tunnel)
    if there != content:
        resolvfile.write(place.path, content)
    if resolvfile.read(place.path) != content:
        raise StepFailed(f"{wanted}: somebody else wrote {place.path} at the same moment")


def give_back(machine: Machine, found: Resolver) -> None:
    """What was there before. A content that is not ours any more stays as it is."""
    place = resolvfile.place()
    entry = _entry(machine)
    if entry is not None and resolvfile.place_of(entry.value) != place.path:
        _leave(machine, entry)
        entry = None
    there = resolvfile.read(place.path)
    if there is not None and (resolvfile.mark_of(there) == found.mark is not None or (entry and there == entry.value)):
        if entry is None:
            resolvfile.write(place.path, _UNKNOWN)
            raise StepFailed(
                f"{place.path}: the original is unknown; our name servers were removed and none is left",
                hint=f"write your name servers into {place.path}",
            )
        _restore(place.path, entry.previous)
        if resolvfile.parse(entry.previous or b"").is_empty:
            machine.notes.append(f"{place.path} is what it was before, and that names no server")
    if entry is not None:
        _close(machine, entry)


def _entry(machine: Machine) -> Entry | None:
    return next((entry for entry in machine.ledger.entries() if entry.key == LEDGER_KEY), None)


def _settled(path: str) -> bytes | None:
    """The content; an empty one only if it stays so."""
    content = resolvfile.read(path)
    if content == b"":
        time.sleep(_HALF_WRITTEN_S)
        content = resolvfile.read(path)
    return content


def _content(wanted: Resolver, before: bytes | None, path: str) -> bytes:
    """Our servers with the options of before; `trust-ad` was said of other servers."""
    assert wanted.mark is not None
    options = tuple(option for option in resolvfile.parse(before or b"").options if option != "trust-ad")
    try:
        return resolvfile.render(wanted.mark, Names(wanted.servers, wanted.search, options), path)
    except ValueError as error:
        raise StepFailed(f"{wanted}: {error}") from error


def _leave(machine: Machine, entry: Entry) -> None:
    """Gives back at a place where resolv.conf is no longer, if ours is still there."""
    path = resolvfile.place_of(entry.value)
    if resolvfile.read(path) == entry.value:
        _restore(path, entry.previous)
    _close(machine, entry)


def _restore(path: str, previous: bytes | None) -> None:
    if previous is None:
        resolvfile.remove(path)
    else:
        resolvfile.write(path, previous)
        if resolvfile.read(path) != previous:
            raise StepFailed(f"{path}: somebody else wrote it at the same moment")


def _close(machine: Machine, entry: Entry) -> None:
    for tunnel in entry.tunnels:
        machine.ledger.remove(LEDGER_KEY, tunnel)
