"""The legacy tables of iptables, as the kernel keeps them: FORWARD and DOCKER-USER of `filter`. Reads only.

A table that nobody uses would be made by asking for it: so its name is looked for first. Structures:
linux/netfilter/x_tables.h, linux/netfilter_ipv4/ip_tables.h and linux/netfilter_ipv6/ip6_tables.h.
"""

from __future__ import annotations

import _socket as socket  # the half of it in C: the other makes enumerations of all constants first
import errno
from contextlib import closing
from struct import Struct

from reconciler.errors import NotObserved, NotPermitted
from reconciler.host.xtables_names import names
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_GET_INFO, _GET_ENTRIES = 64, 65  # IPT_SO_*, IP6T_SO_*
_FORWARD = 2  # NF_INET_FORWARD
_INFO = Struct("=32s I 5I 5I II")
_ENTRIES_AT = 40  # struct ipt_get_entries: name, size, aligned
_PIECE = Struct("=H29sB")  # xt_entry_match, xt_entry_target: size, name, revision
_OFFSETS = Struct("=HH")
_DROP = -1  # as a verdict: -NF_DROP - 1
_ATTEMPTS = 5


class _Layout(NamedTuple):
    family: int
    level: int  # SOL_IP · SOL_IPV6
    address_bytes: int
    offsets_at: int  # target_offset, next_offset
    entry_bytes: int


_LAYOUTS = {
    "ip": _Layout(socket.AF_INET, 0, 4, 88, 112),
    "ip6": _Layout(socket.AF_INET6, 41, 16, 140, 168),
}


class Entry(NamedTuple):
    """One rule."""

    chain: str
    source: bytes
    source_mask: bytes
    destination: bytes
    destination_mask: bytes
    incoming: str
    outgoing: str
    matches: tuple[tuple[str, bytes], ...]  # name, data
    target: str  # "" for verdicts
    verdict: int


class Filter(NamedTuple):
    """The table `filter` of one family."""

    jumps: frozenset[str]  # chains that FORWARD looks into
    drops: bool  # the policy of FORWARD
    entries: tuple[Entry, ...]


def has_nat() -> bool:
    """Does somebody use the legacy table `nat` of IPv4? NotPermitted."""
    return b"nat" in names("ip")


def read(family: str) -> Filter | None:
    """The table of "ip" or "ip6"; None when nobody uses it. NotPermitted, NotObserved."""
    layout = _LAYOUTS[family]
    if b"filter" not in names(family):
        return None
    try:
        with closing(socket.socket(layout.family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)) as asking:
            return _table(asking, layout)
    except PermissionError as error:
        raise NotPermitted("only root may look at the packet filter") from error
    except (OSError, ValueError) as error:
        raise NotObserved(f"the legacy {family} filter table: {error}") from error


def _table(asking: socket.socket, layout: _Layout) -> Filter:
    for _ in range(_ATTEMPTS):
        _, _, *numbers = _INFO.unpack(_ask(asking, layout, _GET_INFO, b"filter".ljust(_INFO.size, b"\0")))
        hooks, underflows, size = numbers[:5], numbers[5:10], numbers[11]
        question = b"filter".ljust(32, b"\0") + size.to_bytes(4, "little") + bytes(4 + size)
        try:
            content = _ask(asking, layout, _GET_ENTRIES, question)[_ENTRIES_AT:]
        except OSError as error:
            if error.errno == errno.EAGAIN:  # it was changed between the two questions
                continue
            raise
        entries = []
        starts: dict[int, str] = {}
        drops = False
        for at, entry in _walk(content, layout, hooks, starts):
            if at == underflows[_FORWARD]:
                drops = entry.verdict == _DROP
            else:
                entries.append(entry)
        jumps = (starts.get(one.verdict) for one in entries if one.chain == "FORWARD" and not one.target)
        return Filter(frozenset(name for name in jumps if name), drops, tuple(entries))
    raise NotObserved("the legacy filter table changes all the time")


def _walk(content: bytes, layout: _Layout, hooks: list[int], starts: dict[int, str]) -> Iterator[tuple[int, Entry]]:
    """Each rule with its offset. `starts` gets the users' chains by that of their first rule: a jump says where to."""
    chain, at = "", 0
    while at < len(content):
        target_at, next_at = _OFFSETS.unpack_from(content, at + layout.offsets_at)
        if not layout.entry_bytes <= target_at < next_at <= len(content) - at:
            raise ValueError("malformed")
        body = content[at : at + next_at]
        target, data = _piece(body, target_at)
        if at in hooks:
            chain = "FORWARD" if at == hooks[_FORWARD] else "(another)"
        if target == "ERROR":  # the head of a user's chain, its name behind it
            chain = starts[at + next_at] = _text(data)
        else:
            verdict = int.from_bytes(data[:4], "little", signed=True) if not target else 0
            yield at, _entry(chain, body, layout, _pieces(body, layout.entry_bytes, target_at), target, verdict)
        at += next_at


def _entry(
    chain: str, body: bytes, layout: _Layout, matches: tuple[tuple[str, bytes], ...], target: str, verdict: int
) -> Entry:
    size = layout.address_bytes
    source, destination, source_mask, destination_mask = (body[n * size : (n + 1) * size] for n in range(4))
    names = body[4 * size : 4 * size + 32]
    return Entry(
        chain,
        source,
        source_mask,
        destination,
        destination_mask,
        _text(names[:16]),
        _text(names[16:]),
        matches,
        target,
        verdict,
    )


def _pieces(body: bytes, start: int, end: int) -> tuple[tuple[str, bytes], ...]:
    found = []
    while start < end:
        name, data = _piece(body, start)
        found.append((name, data))
        start += _PIECE.size + len(data)
    return tuple(found)


def _piece(body: bytes, at: int) -> tuple[str, bytes]:
    size, name, _ = _PIECE.unpack_from(body, at)
    if size < _PIECE.size or at + size > len(body):
        raise ValueError("malformed")
    return _text(name), body[at + _PIECE.size : at + size]


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="backslashreplace")


def _ask(asking: socket.socket, layout: _Layout, what: int, question: bytes) -> bytes:
    """getsockopt with something in the buffer: Python's own takes nothing in."""
    import ctypes  # 1 ms, and only where legacy tables are

    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint(len(question))
    if library.getsockopt(asking.fileno(), layout.level, what, buffer, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "getsockopt")
    return buffer.raw
