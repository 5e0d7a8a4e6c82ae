"""Netlink's bytes, both ways: messages and attributes (linux/netlink.h). Native byte order, everything aligned to four.

Knows no family and no socket. Whatever the bytes are, the only exception is ValueError.
"""

from __future__ import annotations

import struct
from struct import Struct

from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def messages(datagram: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """The messages of one datagram: type, flags, sequence, port, body."""
    at, end = 0, len(datagram)
    while at < end:
        if end - at < HEADER_BYTES:
            raise ValueError("netlink: a message header is cut off")
        length, kind, flags, sequence, port = HEADER.unpack_from(datagram, at)
        if not HEADER_BYTES <= length <= end - at:
            raise ValueError(f"netlink: a message claims {length} bytes where {end - at} are left")
        yield kind, flags, sequence, port, datagram[at + HEADER_BYTES : at + length]
        at += (length + 3) & ~3


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


class _Layout(NamedTuple):
    """Where everything stands in a message: numbers in which each byte of it is one."""

    mask: int  # which bytes are those of headers
    headers: int  # what they say
    places: list[slice | None]  # of what is asked for


class Attributes:
    """Some attributes of messages of one type, nested ones too, each named by the types that lead to it.

    Messages of one length mostly have the same attributes in the same places. That is known when all their headers are equal
    to those of the one before, which is found out at once: a quarter of the time of going from one to the next.
    """

    def __init__(self, start: int, *paths: tuple[int, ...]) -> None:
        self._start = start
        self._paths = paths
        self._nests = frozenset(path[:depth] for path in paths for depth in range(1, len(path)))
        self._known: dict[int, _Layout] = {}  # by the length of the message

    def of(self, body: bytes) -> list[bytes | None]:
        """In the order of the paths; None: it is not there. The last of a type wins. ValueError when malformed."""
        known = self._known.get(len(body))
        if known is None or int.from_bytes(body, "little") & known.mask != known.headers:
            known = self._known[len(body)] = self._learn(body)
        return [None if place is None else body[place] for place in known.places]

    def _learn(self, body: bytes) -> _Layout:
        if len(body) < self._start:
            raise ValueError(f"netlink: a body of {len(body)} bytes where at least {self._start} are due")
        places: dict[tuple[int, ...], tuple[int, int]] = {}
        mask = bytearray(len(body))
        nests: list[tuple[tuple[int, ...], int, int]] = [((), self._start, len(body))]
        for path, begin, end in nests:
            at = begin
            inner: dict[tuple[int, ...], tuple[int, int]] = {}
            while at < end:
                if end - at < 4:
                    raise ValueError("netlink: an attribute header is cut off")
                size, kind = ATTRIBUTE.unpack_from(body, at)
                if not 4 <= size <= end - at:
                    raise ValueError(f"netlink: attribute {kind & TYPE_MASK} claims {size} bytes where {end - at} are left")
                mask[at : at + 4] = b"\xff\xff\xff\xff"
                inner[(*path, kind & TYPE_MASK)] = (at + 4, at + size)
                at += (size + 3) & ~3
            places |= inner
            nests += [(nest, *inner[nest]) for nest in self._nests.intersection(inner)]
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        headers = int.from_bytes(mask, "little")
        asked = [slice(*places[path]) if path in places else None for path in self._paths]
        return _Layout(headers, int.from_bytes(body, "little") & headers, asked)


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
