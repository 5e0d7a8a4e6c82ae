"""Are lists of prefixes all that is another in a desired file? They are what changes every day, brought by a timer.

Then they alone are read again. What else the file says was judged when it was stored. Of what is judged about a list and
something else together, only these can change the verdict: a prefix that came, another family, a tunnel that is full. In doubt
the whole file is judged again, and that says what is wrong.
"""

from __future__ import annotations

from reconciler import drivers
from reconciler.config import files, prefixfile
from reconciler.loop.unchanged import as_stored, is_same, source_of
from reconciler.model.prefixes import Prefixes
from reconciler.model.tunnel import Desired, PrefixFile, Tunnel
from reconciler.store.stored import Stored
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _List(NamedTuple):
    """A list that is another now."""

    file: PrefixFile
    came: Prefixes  # what was not in it


def relisted(location: str, stored: Stored) -> Desired | None:
    """The desired state as it is stored for this location, with the lists as they are now."""
    try:
        source = source_of(location, stored)
        before = as_stored(source, stored) if source and not source.warnings else None  # which may be about lists
        return _relisted(before) if before else None
    except (files.Unreadable, OSError, ValueError):
        return None


def _relisted(before: Desired) -> Desired | None:
    known = {file.path: file for tunnel in before.tunnels for file in tunnel.prefix_files}
    watched = {path for tunnel in before.tunnels if tunnel.exec_ for path in tunnel.exec_.restart_on}
    recorder = files.Recorder()
    lists: list[_List] = []
    for one in before.inputs:
        if is_same(one):
            continue
        if one.kind != "file" or one.path not in known or one.path in watched:
            return None
        new = _read(known[one.path], recorder)
        if new is None:
            return None
        lists.append(new)
    tunnels = tuple(tunnel.relisted({one.file.path: one.file for one in lists}) for tunnel in before.tunnels)
    if any(_is_elsewhere(one, tunnels) for one in lists) or any(map(_depends_on_all, (*before.tunnels, *tunnels))):
        return None
    inputs = tuple(recorder.inputs.get((one.kind, one.path), one) for one in before.inputs)
    return before._replace(tunnels=tunnels, inputs=inputs)


def _read(old: PrefixFile, recorder: files.Recorder) -> _List | None:
    """None: there is something to be said of it."""
    listed, were = prefixfile.read(old.path, recorder), old.prefixes
    if listed.bad or listed.repeated or listed.prefixes.families != were.families:
        return None
    return _List(listed.stored(old.path), listed.prefixes - were)


def _is_elsewhere(one: _List, tunnels: Sequence[Tunnel]) -> bool:
    """Is a prefix that came also said elsewhere: in the file itself, in another list, or by this list in a second place?"""
    if not one.came:
        return False
    routed = [file for tunnel in tunnels for file in _files(tunnel)]
    others = [file for file in routed if file.path != one.file.path]
    if len(routed) > len(others) + 1:
        return True
    return any(one.came & prefixes for prefixes in (*map(_inline, tunnels), *(file.prefixes for file in others)))


def _depends_on_all(tunnel: Tunnel) -> bool:
    """Name servers of a tunnel that takes all addresses of a family answer for all names."""
    if tunnel.dns is None:
        return False
    all_of_it = Prefixes.union((_inline(tunnel), *(file.prefixes for file in _files(tunnel))))
    return bool(all_of_it.whole())


def _files(tunnel: Tunnel) -> Iterator[PrefixFile]:
    """Those that say what goes into it."""
    yield from tunnel.split.vpn_files if tunnel.split else ()
    yield from (entry.to_file for entry in tunnel.routes if entry.to_file)


def _inline(tunnel: Tunnel) -> Prefixes:
    """What the desired file itself lets go into it."""
    split = tunnel.split
    engine = () if split and (split.vpn or split.vpn_files) else drivers.of(tunnel).prefixes(tunnel)
    entries = (prefix for entry in tunnel.routes for prefix in entry.to)
    return Prefixes.of((*engine, *(split.vpn if split else ()), *entries))
