"""Netlink's bytes, both ways: messages and attributes (linux/netlink.h). Native byte order, everything aligned to four.

Knows no family and no socket. Whatever the bytes are, the only exception is ValueError.
"""

from __future__ import annotations

import struct
from _operator import itemgetter
from struct import Struct, calcsize

from reconciler.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HEADER = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
HEADER_BYTES = 16
ATTRIBUTE = Struct("=HH")  # nlattr: length with this header, type
U32 = Struct("=I")
I32 = Struct("=i")
_ATTRIBUTE_U32 = Struct("=HHI")
_ATTRIBUTE_U8 = Struct("=HHBxxx")

NESTED = 0x8000  # NLA_F_NESTED
TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without the flags for nested and for network byte order
_MOST_KNOWN = 256  # lengths of messages of one type
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
    to those of the one before, which is found out at once; then one call reads everything. Fields must not overlap.
    """

    def __init__(self, head: str, *fields: Field) -> None:
        self._head = Struct(head)
        self._fields = fields
        self._nests = frozenset(field.path[:depth] for field in fields for depth in range(1, len(field.path)))
        self._known: dict[int, _Layout] = {}  # by the length of the message

    def of(self, body: bytes) -> tuple[Any, ...]:
        """The values of the head, and of the fields in their order. The last attribute of a type wins. ValueError when
        malformed."""
        known = self._known.get(len(body))
        if known is None or known.headers.unpack(body) != known.said:
            known = self._learn(body)
        return known.asked(known.values.unpack(body) + known.absent)

    def _learn(self, body: bytes) -> _Layout:
        places, headers = self._places(body)
        found = {number: place for number, field in enumerate(self._fields) if (place := _place(field, places.get(field.path)))}
        order = sorted(found, key=lambda number: found[number][0])
        order += [number for number in range(len(self._fields)) if number not in found]  # what is absent comes last
        count = len(self._head.unpack_from(body))
        at = dict(zip(order, range(count, count + len(order)), strict=True))
        heads = _struct("=", 0, len(body), [(begin, "I", 4) for begin in headers])
        layout = _Layout(
            heads,
            heads.unpack(body),
            _struct(self._head.format, self._head.size, len(body), [found[number] for number in order[: len(found)]]),
            tuple(self._fields[number].absent for number in order[len(found) :]),
            itemgetter(*range(count), *(at[number] for number in range(len(order)))),
        )
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[len(body)] = layout
        return layout

    def _places(self, body: bytes) -> tuple[dict[tuple[int, ...], tuple[int, int]], list[int]]:
        """From where to where each attribute goes, and where the headers are."""
        start = self._head.size
        if len(body) < start:
            raise ValueError(f"netlink: a body of {len(body)} bytes where at least {start} are due")
        places: dict[tuple[int, ...], tuple[int, int]] = {}
        headers: list[int] = []
        nests: list[tuple[tuple[int, ...], int, int]] = [((), start, len(body))]
        for path, begin, end in nests:
            at = begin
            inner: dict[tuple[int, ...], tuple[int, int]] = {}
            while at < end:
                if end - at < 4:
                    raise ValueError("netlink: an attribute header is cut off")
                size, kind = ATTRIBUTE.unpack_from(body, at)
                if not 4 <= size <= end - at:
                    raise ValueError(f"netlink: attribute {kind & TYPE_MASK} claims {size} bytes where {end - at} are left")
                headers.append(at)
                inner[(*path, kind & TYPE_MASK)] = (at + 4, at + size)
                at += (size + 3) & ~3
            places |= inner
            nests += [(nest, *inner[nest]) for nest in self._nests.intersection(inner)]
        return places, sorted(headers)


def _place(field: Field, there: tuple[int, int] | None) -> tuple[int, str, int] | None:
    """Where its value begins, its form, and its size; None: it is not there."""
    if there is None:
        return None
    begin, end = there
    if field.form == "s":
        return begin, f"{end - begin}s", end - begin
    size = calcsize(f"={field.form}")
    if field.at is not None:
        return (begin + field.at, field.form, size) if begin + field.at + size <= end else None
    if end - begin != size:
        raise ValueError(f"netlink: {end - begin} bytes where a number of {size} is due")
    return begin, field.form, size


def _struct(form: str, start: int, end: int, places: Sequence[tuple[int, str, int]]) -> Struct:
    """Of a message of so many bytes: what it begins with, and what stands in these places."""
    ends = [start, *(begin + size for begin, _, size in places)]
    parts = [f"{begin - last}x{code}" for (begin, code, _), last in zip(places, ends, strict=False)]
    return Struct(f"{form}{''.join(parts)}{end - ends[-1]}x")


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
