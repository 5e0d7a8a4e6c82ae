"""Netlink's bytes, both ways: messages and attributes (linux/netlink.h). Native byte order, everything aligned to four.

Knows no family and no socket. Whatever the bytes are, the only exception is ValueError.
"""

from __future__ import annotations

import struct
from _operator import add, itemgetter, sub
from itertools import repeat, takewhile
from struct import Struct

from reconciler.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
HEADER_BYTES = 16
ATTRIBUTE = Struct("=HH")  # nlattr: length with this header, type
U32 = Struct("=I")
I32 = Struct("=i")
_ATTRIBUTE_U32 = Struct("=HHI")
_ATTRIBUTE_U8 = Struct("=HHBxxx")

NESTED = 0x8000  # NLA_F_NESTED
TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without the flags for nested and for network byte order
_SIZES = {"B": 1, "I": 4, "Q": 8}
_MOST_KNOWN = 256  # layouts of messages of one type
_NO_HEADER = bytes(HEADER_BYTES)
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def messages(datagram: bytes, at: int = 0) -> Iterator[tuple[int, int, int, int, bytes]]:
    """The messages of one datagram from there on: type, flags, sequence, port, body."""
    end = len(datagram)
    while at < end:
        if end - at < HEADER_BYTES:
            raise ValueError("netlink: a message header is cut off")
        length, kind, flags, sequence, port = HEADER.unpack_from(datagram, at)
        if not HEADER_BYTES <= length <= end - at:
            raise ValueError(f"netlink: a message claims {length} bytes where {end - at} are left")
        yield kind, flags, sequence, port, datagram[at + HEADER_BYTES : at + length]
        at += (length + 3) & ~3


def alike(datagram: bytes) -> tuple[list[bytes], int]:
    """The bodies of its first messages (there is one) as long as their headers say the same but for the length, and where the
    others begin."""
    said, at, end, length_at = datagram[4:HEADER_BYTES], 0, len(datagram), U32.unpack_from
    bodies: list[bytes] = []
    while datagram[at + 4 : at + HEADER_BYTES] == said:
        stop = at + length_at(datagram, at)[0]
        if not at + HEADER_BYTES <= stop <= end:
            break
        bodies.append(datagram[at + HEADER_BYTES : stop])
        at = (stop + 3) & ~3
    return bodies, at


def attributes(body: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes of a body from `start` on, by type; the last of a type wins, as in the kernel."""
    found = {}
    if len(body) < start:
        raise ValueError(f"netlink: a body of {len(body)} bytes where at least {start} are due")
    stop, size, kind, at, end, unpack = start, 4, 0, start, len(body), ATTRIBUTE.unpack_from
    try:
        while at < end:
            size, kind = unpack(body, at)
            if size < 4:
                break
            stop = at + size
            found[kind & TYPE_MASK] = body[at + 4 : stop]
            at = (stop + 3) & ~3
    except struct.error:
        raise ValueError("netlink: an attribute header is cut off") from None
    if size < 4 or stop > end:
        raise ValueError(f"netlink: attribute {kind & TYPE_MASK} claims {size} bytes, which are not there")
    return found


class Field(NamedTuple):
    """What is asked of an attribute."""

    path: tuple[int, ...]  # the types that lead to it
    form: str = "s"  # as `struct` names it: s: all its bytes; I, B, Q: a number of 4, 1 or 8 bytes
    absent: object = None  # what stands for it where it is not there
    at: int | None = None  # where in it the number stands; one that is shorter is as if it were not there


class _Node(NamedTuple):
    """Attributes of one type."""

    inner: dict[int, _Node]  # those inside of them, by type
    numbers: list[int]  # of the fields that are about them


class _Layout(NamedTuple):
    """Where everything stands in a message."""

    headers: Struct  # of all attributes, and of those inside of the nests that are gone into
    said: tuple[int, ...]  # what these say
    values: Struct  # of what is asked for, in the order in which it comes
    absent: tuple[object, ...]
    asked: Callable[[tuple[object, ...]], tuple[Any, ...]]  # the same in the order in which it is asked for


class Attributes:
    """What is asked of messages of one type: their fixed head (as `struct` writes it), and some of their attributes.

    Messages of one length mostly have the same attributes in the same places. That is known when all their headers are equal
    to those of one before, which is found out at once; then one call reads everything. Fields must not overlap.
    """

    def __init__(self, head: str, *fields: Field) -> None:
        self._head = Struct(f"={HEADER_BYTES}x{head.removeprefix('=')}")
        self._fields = fields
        self._tree: dict[int, _Node] = {}
        for number, field in enumerate(fields):
            level = self._tree
            for kind in field.path[:-1]:
                level = level.setdefault(kind, _Node({}, [])).inner
            level.setdefault(field.path[-1], _Node({}, [])).numbers.append(number)
        self._known: dict[int, list[_Layout]] = {}  # by the length of the message

    def of(self, body: bytes) -> tuple[Any, ...]:
        """The values of the head, and of the fields in their order. The last attribute of a type wins. ValueError when
        malformed."""
        message = _NO_HEADER + body
        known = self._layout(message)
        return known.asked(known.values.unpack(message) + known.absent)

    def of_first(self, datagram: bytes) -> tuple[list[tuple[Any, ...]], int]:
        """`of` each of its first messages (there is one) as long as their headers say the same but for the length, and where
        the others begin. Neighbours with the same layout are read together."""
        said, at, end = datagram[4:HEADER_BYTES], 0, len(datagram)
        view, found = memoryview(datagram), list[tuple[Any, ...]]()
        while datagram[at + 4 : at + HEADER_BYTES] == said:
            size = U32.unpack_from(datagram, at)[0]
            if not HEADER_BYTES <= size <= end - at:
                break
            known = self._layout(datagram[at : at + size])
            table = view[at : at + (size if size % 4 else (end - at) // size * size)]
            heads = struct.iter_unpack(f"{HEADER_BYTES}s{size - HEADER_BYTES}x", table)
            headers = zip(heads, known.headers.iter_unpack(table), strict=True)
            alike = 1 + len(list(takewhile(next(headers).__eq__, headers)))
            values = known.values.iter_unpack(table[: alike * size])
            found += map(known.asked, map(add, values, repeat(known.absent)))
            at += (alike * size + 3) & ~3
        return found, at

    def _layout(self, message: bytes) -> _Layout:
        for known in self._known.get(len(message), ()):
            if known.headers.unpack(message) == known.said:
                return known
        return self._learn(message)

    def _learn(self, message: bytes) -> _Layout:
        headers, ends = self._walk(message)
        places = {number: place for number, (begin, end) in ends.items() if (place := _place(self._fields[number], begin, end))}
        order = sorted(places, key=places.__getitem__)
        form, at = [self._head.format], self._head.size
        for begin, size, code in map(places.__getitem__, order):
            form.append(f"{begin - at}x{code}")
            at = begin + size
        values = Struct(f"{''.join(form)}{len(message) - at}x")
        order += [number for number in range(len(self._fields)) if number not in places]  # what is absent comes last
        absent = tuple([self._fields[number].absent for number in order[len(places) :]])
        head = range(len(self._head.unpack_from(message)))
        positions = dict(zip(order, range(len(head), len(head) + len(order)), strict=True))
        asked = itemgetter(*head, *map(positions.__getitem__, range(len(order))))
        if sum(map(len, self._known.values())) >= _MOST_KNOWN:
            self._known.clear()
        layout = _Layout(headers, headers.unpack(message), values, absent, asked)
        self._known.setdefault(len(message), []).append(layout)
        return layout

    def _walk(self, message: bytes) -> tuple[Struct, dict[int, tuple[int, int]]]:
        """All headers; and from where to where the attributes of the fields go, by their numbers."""
        if len(message) < self._head.size:
            due = self._head.size - HEADER_BYTES
            raise ValueError(f"netlink: a body of {len(message) - HEADER_BYTES} bytes where at least {due} are due")
        headers: list[int] = []
        places: dict[int, tuple[int, int]] = {}
        levels = [(self._tree, self._head.size, len(message))]
        unpack = ATTRIBUTE.unpack_from
        for level, start, end in levels:
            at, there = start, dict[int, tuple[int, int]]()
            while at < end:
                size, kind = unpack(message, at) if end - at >= 4 else (0, 0)
                stop = at + size
                if size < 4 or stop > end:
                    raise ValueError(f"netlink: an attribute claims {size} bytes where {end - at} are left")
                headers.append(at)
                kind &= TYPE_MASK
                if kind in level:
                    there[kind] = at + 4, stop
                at = stop + 3 & ~3
            for kind, ends in there.items():
                if level[kind].inner:
                    levels.append((level[kind].inner, *ends))
                places |= dict.fromkeys(level[kind].numbers, ends)
        headers.sort()
        behind = (0, *map((4).__add__, headers))  # each of them
        gaps = map(str, map(sub, (*headers, len(message)), behind))
        return Struct(f"={'xI'.join(gaps)}x"), places


def _place(field: Field, begin: int, end: int) -> tuple[int, int, str] | None:
    """Where its value begins, its size and its form; None: it is not there."""
    if field.form == "s":
        return begin, end - begin, f"{end - begin}s"
    size = _SIZES[field.form]
    if field.at is not None:
        return (begin + field.at, size, field.form) if begin + field.at + size <= end else None
    if end - begin != size:
        raise ValueError(f"netlink: {end - begin} bytes where a number of {size} is due")
    return begin, size, field.form


def as_u32(value: bytes | None, default: int = 0) -> int:
    """An attribute that is a u32; `default` when it is absent."""
    if value is None:
        return default
    if len(value) != 4:
        raise ValueError(f"netlink: {len(value)} bytes where a number of 4 is due")
    number: int = U32.unpack(value)[0]
    return number


def as_u8(value: bytes | None, default: int = 0) -> int:
    """An attribute that is a u8; `default` when it is absent."""
    if value is None:
        return default
    if len(value) != 1:
        raise ValueError(f"netlink: {len(value)} bytes where a number of 1 is due")
    return value[0]


def as_text(value: bytes | None) -> str:
    """An attribute that is a NUL-terminated string; "" when absent. Bytes that are no UTF-8 become \\xNN."""
    return "" if value is None else value.partition(b"\0")[0].decode(errors="backslashreplace")


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = len(value) + 4
    return ATTRIBUTE.pack(size, kind) + value + _PADDING[size & 3]


def u32(kind: int, value: int) -> bytes:
    """An attribute that holds a u32."""
    return _ATTRIBUTE_U32.pack(8, kind, value)


def u8(kind: int, value: int) -> bytes:
    """An attribute that holds a u8."""
    return _ATTRIBUTE_U8.pack(5, kind, value)


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NESTED, b"".join(inner))
