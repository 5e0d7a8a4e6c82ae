"""rtnetlink messages about routes: RTM_NEWROUTE and its attributes (linux/rtnetlink.h).

There may be 100 000 of them: those that are alike are read as one table of bytes, a single one is a plain tuple.
"""

from __future__ import annotations

import struct
from _operator import add
from struct import Struct

from reconciler.host.nl_codec import ATTRIBUTE, HEADER_BYTES, TYPE_MASK, U32, as_u32, attribute, attributes, u32
from reconciler.lean import defaultdict
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.model.records import columns, split
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
GROUP_IPV6 = 11  # RTNLGRP_IPV6_ROUTE

# family, destination length, source length, TOS, table, protocol, scope, type, flags
_RTMSG = Struct("=BBBBBBBBI")
_RTMSG_BYTES = 12
_RTNEXTHOP = Struct("=HBBi")  # length, flags, weight, interface
_DST, _OIF, _GATEWAY, _PRIORITY, _PREFSRC, _TABLE, _VIA = 1, 4, 5, 6, 7, 15, 18  # RTA_*
_METRICS, _MARK, _RTAX_MTU = 8, 16, 2  # RTA_METRICS, RTA_MARK; in the metrics RTAX_MTU
_MULTIPATH = 9  # RTA_MULTIPATH
_NUMBERS = frozenset((_OIF, _PRIORITY, _TABLE))
_ONLINK = 4  # RTNH_F_ONLINK: the gateway is on the link, even if no route says so
_CLONED = 0x200  # RTM_F_CLONED: a cache entry, no route
_TABLE_COMPAT = 252  # RT_TABLE_COMPAT: "see RTA_TABLE"
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_NOWHERE = 0, 253, 255
TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
    10: "nat",
}
TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
_LENGTH_AT = 1  # rtmsg.rtm_dst_len
_DEVICELESS = frozenset(("blackhole", "unreachable", "prohibit", "throw"))
_ANY = {AF_INET: bytes(4), AF_INET6: bytes(16)}
_TO = {family: ATTRIBUTE.pack(4 + len(packed), _DST) for family, packed in _ANY.items()}  # what an address follows

# packed, length, table, metric, type, ifindex (0: none), via, src, protocol
RouteRow = tuple[bytes, int, int, int, str, int, bytes | None, bytes | None, int]

_rtmsg = _RTMSG.unpack_from
_attribute = ATTRIBUTE.unpack_from
_u32 = U32.unpack_from


def question(family: int, *, protocol: int = 0, table: int = 0) -> bytes:
    """The body that asks for the routes of a family; with strict checking the kernel filters them itself."""
    head = _RTMSG.pack(family, 0, 0, 0, table if table < 256 else _TABLE_COMPAT, protocol, 0, 0, 0)
    return head + u32(_TABLE, table) if table else head


def lookup(packed: bytes, mark: int = 0) -> bytes:
    """The body of RTM_GETROUTE that asks which way a packet to this address would take."""
    family = AF_INET if len(packed) == 4 else AF_INET6
    return (
        _RTMSG.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
        + attribute(_DST, packed)
        + (u32(_MARK, mark) if mark else b"")
    )


def decode_lookup(body: bytes) -> int:
    """The answer to a lookup: the interface that the packet would leave by, 0 for none. ValueError when malformed."""
    return as_u32(attributes(body, _RTMSG_BYTES).get(_OIF))


def mtu_of(body: bytes) -> int | None:
    """RTAX_MTU of a route, where it has one. ValueError when malformed."""
    found = attributes(body, _RTMSG_BYTES)
    return as_u32(attributes(found[_METRICS], 0).get(_RTAX_MTU)) or None if _METRICS in found else None


def with_first_hop(row: RouteRow, body: bytes) -> RouteRow:
    """A route with several gateways, as if it had the first one only. ValueError when malformed."""
    hops = attributes(body, _RTMSG_BYTES).get(_MULTIPATH, b"")
    if not hops:
        return row
    try:
        size, _flags, _weight, ifindex = _RTNEXTHOP.unpack_from(hops)
    except struct.error as error:
        raise ValueError(f"netlink: a next hop that is cut off: {error}") from error
    found = attributes(hops[:size], _RTNEXTHOP.size)
    via = found.get(_GATEWAY) or found.get(_VIA, b"")[2:] or None
    return (*row[:5], ifindex, via, *row[7:])


def head(  # noqa: PLR0913 - the fields of a route
    table: int,
    metric: int,
    type_: str,
    via: bytes | None,
    src: bytes | None,
    *,
    family: int,
    protocol: int,
    scope: int,
    onlink: bool = False,
) -> bytes:
    """What many routes have in common: all that a body says but the interface and the destination."""
    low_table = table if table < 256 else _TABLE_COMPAT
    flags = _ONLINK if onlink else 0
    parts = [_RTMSG.pack(family, 0, 0, 0, low_table, protocol, scope, TYPE_NUMBERS[type_], flags), u32(_TABLE, table)]
    if metric:
        parts.append(u32(_PRIORITY, metric))
    if src:
        parts.append(attribute(_PREFSRC, src))
    if via:
        same_family = len(via) == len(_ANY[family])
        parts.append(attribute(_GATEWAY, via) if same_family else attribute(_VIA, struct.pack("=H", AF_INET6) + via))
    return b"".join(parts)


def bodies(head: bytes, ifindex: int, lengths: bytes, addresses: Iterable[bytes]) -> Iterator[bytes]:
    """The routes with this head by an interface (0: none), to prefixes with these lengths and addresses."""
    end = head[_LENGTH_AT + 1 :] + (u32(_OIF, ifindex) if ifindex else b"") + _TO[head[0]]
    by_length = {length: head[:_LENGTH_AT] + bytes((length,)) + end for length in frozenset(lengths)}
    return map(add, map(by_length.__getitem__, lengths), addresses)


class Run(NamedTuple):
    """Many routes that are alike but for their prefix and their interface. None is a default route."""

    row: RouteRow  # the first of them, or another but for its prefix and its interface
    by_device: Mapping[int, list[bytes]]  # for each route an address, and a byte for the length, by its interface (0: none)


def as_run(datagram: bytes) -> tuple[Run] | None:
    """A datagram of RTM_NEWROUTE → its routes as one run, if these are alike but for prefix and interface; None: they are to be
    looked at one by one."""
    found = many(datagram)
    if found is None:
        return None
    row, records, devices = found
    if devices == devices[:4] * (len(devices) // 4):
        return (Run(row, {row[5]: records}),)
    by_device: defaultdict[int, list[bytes]] = defaultdict(list)
    for index, record in zip(memoryview(devices).cast("I"), records, strict=True):
        by_device[index].append(record)
    return (Run(row, by_device),)


def many(datagram: bytes) -> tuple[RouteRow, list[bytes], bytes] | None:
    """A datagram of RTM_NEWROUTE → one of its routes, if these are alike but for prefix and interface; for each an address
    and a byte for the length; and the interfaces (four bytes each, none where these do not count). None: they are not.

    In a list of many routes most datagrams are: 600 messages that differ in nine bytes. Without these they must be equal,
    headers too, byte for byte; so what is said of the first one holds for all.
    """
    size = U32.unpack_from(datagram)[0] if len(datagram) >= 4 else 0
    rows, rest = divmod(len(datagram), size or 1)
    if rows < 2 or rest or size % 4:
        return None
    first = datagram[:size]
    row = decode(first[HEADER_BYTES:])
    prefix, device = _places(first, row) if row else ((), ())
    if row is None or not prefix:
        return None
    if _without(datagram, size, prefix + device) != _without(first, size, prefix + device) * rows:
        return None
    width = len(row[0])
    records = columns(datagram, size, prefix)
    lengths = records[width :: width + 1]
    if not 0 < min(lengths) <= max(lengths) <= width * 8:
        return None
    return row, split(records, width + 1), columns(datagram, size, device)


def has_no_default(datagram: bytes) -> bool:
    """True when it is seen at once that none of its routes is a default route: their messages have one length, and headers that
    say the same, so what tells the length of a prefix stands in one column."""
    size = U32.unpack_from(datagram)[0] if len(datagram) >= 4 else 0
    if size < HEADER_BYTES + _RTMSG_BYTES or size % 4 or len(datagram) % size:
        return False
    rows = len(datagram) // size
    alike = all(datagram[at::size] == datagram[at : at + 1] * rows for at in range(HEADER_BYTES))
    return alike and 0 not in datagram[HEADER_BYTES + _LENGTH_AT :: size]


def _places(message: bytes, row: RouteRow) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The columns of the prefix (address, length), and of the interface, of a route that `decode` has taken. None of a default
    route; none of an interface where it does not count."""
    prefix, device = range(0), range(0)
    at = HEADER_BYTES + _RTMSG_BYTES
    while at < len(message):
        size, kind = _attribute(message, at)
        if kind == _DST:  # the last one counts, as there
            prefix = range(at + 4, at + size)
        elif kind == _OIF and row[5]:
            device = range(at + 4, at + size)
        at += (size + 3) & ~3
    return (*prefix, HEADER_BYTES + _LENGTH_AT) if prefix else (), (*device,)


def _without(table: bytes, stride: int, blank: Iterable[int]) -> bytearray:
    """A table of bytes with these columns made zero."""
    out = bytearray(table)
    for column in blank:
        out[column::stride] = bytes(len(table) // stride)
    return out


def decode(body: bytes) -> RouteRow | None:  # noqa: C901, PLR0912 - one loop, 2 µs a route; calls would double it
    """RTM_NEWROUTE → the route. None for cache entries and for those that only some packets take (TOS, source prefix):
    they stand beside a route of the same prefix and are none of ours. ValueError when malformed."""
    try:
        family, length, from_length, tos, table, protocol, _scope, type_, flags = _rtmsg(body)
        if flags & _CLONED or from_length or tos or family not in _ANY:
            return None
        packed = any_ = _ANY[family]
        metric = ifindex = 0
        via = src = None
        at, end = _RTMSG_BYTES, len(body)
        while at < end:
            size, kind = _attribute(body, at)
            stop = at + size
            if size < 4 or stop > end or (size != 8 and kind in _NUMBERS):
                raise ValueError(f"netlink: attribute {kind} of a route claims {size} bytes where {end - at} are left")
            if kind == _TABLE:
                table = _u32(body, at + 4)[0]
            elif kind == _DST:
                packed = body[at + 4 : stop]
            elif kind == _PRIORITY:
                metric = _u32(body, at + 4)[0]
            elif kind == _OIF:
                ifindex = _u32(body, at + 4)[0]
            elif kind == _PREFSRC:
                src = body[at + 4 : stop]
            elif kind == _GATEWAY:
                via = body[at + 4 : stop]
            elif kind & TYPE_MASK == _VIA:
                via = body[at + 6 : stop]  # struct rtvia: family, address
            at = (stop + 3) & ~3
    except struct.error as error:
        raise ValueError(f"netlink: a route that is cut off: {error}") from error
    if len(packed) != len(any_) or length > len(any_) * 8:
        raise ValueError(f"netlink: a route with a destination of {len(packed)} bytes and length {length} in family {family}")
    name = TYPES.get(type_) or f"type {type_}"
    if name in _DEVICELESS:
        ifindex = 0  # IPv6 says lo
    return packed, length, table, metric, name, ifindex, via, src, protocol
