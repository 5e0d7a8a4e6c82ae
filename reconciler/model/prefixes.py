"""Many prefixes as one value, sorted and packed.

A split tunnel has 100 000 of them. As bytes they are compared, stored and sent at the speed of memory; they become objects
only where somebody looks at single ones.
"""

from __future__ import annotations

from _operator import add, attrgetter
from _socket import inet_ntop  # as in `prefix`
from itertools import chain, repeat
from struct import iter_unpack

from reconciler.model.prefix import AF_INET, AF_INET6, OCTETS, Prefix, unpack
from reconciler.model.records import apart, columns, ordered, place, split
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SIZES = (4, 16)  # bytes of an address
_FAMILIES = {  # by whether IPv4 and IPv6 are among them
    (False, False): frozenset[int](),
    (True, False): frozenset((AF_INET,)),
    (False, True): frozenset((AF_INET6,)),
    (True, True): frozenset((AF_INET, AF_INET6)),
}
_new = tuple.__new__  # as in `kinds.routes`
_v4, _v6 = attrgetter("v4"), attrgetter("v6")
_BYTE: tuple[bytes, ...] = tuple(chain.from_iterable(iter_unpack("c", bytes(range(256)))))
_ENDS = (*(f"/{length}" for length in range(32)), "")  # of IPv4; hosts have none


class Prefixes:
    """A set of networks (no host bits), in the order of their addresses, the wider one first.

    For each family a string of records: an address, and a byte for the length.
    """

    __slots__ = ("v4", "v6")

    def __init__(self, v4: Iterable[bytes] = (), v6: Iterable[bytes] = ()) -> None:
        """Of records, in any order, repeated ones too."""
        self.v4 = ordered(v4) if v4 else b""
        self.v6 = ordered(v6) if v6 else b""

    @classmethod
    def of(cls, prefixes: Iterable[Prefix]) -> Prefixes:
        """Of single ones."""
        if isinstance(prefixes, Prefixes):
            return prefixes
        several = tuple(prefixes)
        if not several:
            return NONE
        addresses, lengths = zip(*several, strict=True)
        records = list(map(add, addresses, map(_BYTE.__getitem__, lengths)))
        if max(map(len, records)) == 5:  # mostly
            return _made(ordered(records), b"")
        return cls([one for one in records if len(one) == 5], [one for one in records if len(one) == 17])

    @classmethod
    def union(cls, parts: Iterable[Prefixes]) -> Prefixes:
        """All of them as one set."""
        several = [prefixes for prefixes in parts if prefixes.v4 or prefixes.v6]
        if len(several) < 2:
            return several[0] if several else NONE
        return cls(*(records_of(several, size) for size in _SIZES))

    @classmethod
    def unpack(cls, blob: bytes) -> Prefixes:
        """As `prefix.unpack`, for lists in any order. ValueError on a damaged one."""
        sizes = blob[::6]
        end = 6 * (len(sizes) - len(sizes.lstrip(b"\4")))  # of IPv4, if each family stands together
        v4, v6 = blob[:end], blob[end:]
        if len(v4) % 6 or len(v6) % 18 or v6[::18].strip(b"\x10"):
            return cls.of(unpack(blob))
        return cls(split(columns(v4, 6, (2, 3, 4, 5, 1)), 5), split(columns(v6, 18, (*range(2, 18), 1)), 17))

    @property
    def packed(self) -> bytes:
        """As `prefix.pack`."""
        return columns(self.v4, 5, (b"\4", 4, 0, 1, 2, 3)) + columns(self.v6, 17, (b"\x10", 16, *range(16)))

    def columns(self, size: int) -> tuple[bytes, Iterator[bytes]]:
        """Lengths and addresses of those with addresses of so many bytes."""
        mine, stride = self._table(size)
        return mine[size::stride], chain.from_iterable(iter_unpack(f"{size}sx", mine))

    def records(self, size: int) -> list[bytes]:
        """Those with addresses of so many bytes."""
        return split(self.v4, 5) if size == 4 else split(self.v6, 17)

    def of_size(self, size: int) -> Prefixes:
        """One family of them."""
        if not (self.v6 if size == 4 else self.v4):
            return self
        return _made(self.v4, b"") if size == 4 else _made(b"", self.v6)

    def by_size(self) -> tuple[tuple[int, Prefixes], ...]:
        """Each family of which there are any: bytes of an address, those of it."""
        if not self.v6:
            return ((4, self),) if self.v4 else ()
        return ((4, self.of_size(4)), (16, self.of_size(16))) if self.v4 else ((16, self),)

    @property
    def families(self) -> frozenset[int]:
        return _FAMILIES[bool(self.v4), bool(self.v6)]

    def lengths(self, size: int) -> list[int]:
        """Which lengths there are, the shortest first."""
        return sorted(set(self.v4[4::5] if size == 4 else self.v6[16::17]))

    @property
    def ends(self) -> tuple[Prefix, Prefix]:
        """The first and the last one, of one family."""
        mine = self.v4 or self.v6
        stride = 5 if self.v4 else 17
        return Prefix(mine[: stride - 1], mine[stride - 1]), Prefix(mine[-stride:-1], mine[-1])

    def inside(self, network: Prefix) -> Prefixes:
        """Those that equal it or lie inside it: in this order they are neighbours."""
        mine, stride = self._table(len(network.packed))
        first = network.packed + _BYTE[network.length]
        if mine[-stride:] < first:
            return NONE  # all lie before it, or there are none
        begin = place(mine, stride, first)
        last = int.from_bytes(network.packed, "big") | (1 << network.bits - network.length) - 1
        behind = last.to_bytes(stride - 1, "big") + b"\xff"
        if mine[begin : begin + stride] > behind:
            return NONE  # the next one lies behind it
        part = mine[begin : place(mine, stride, behind, begin)]
        return _made(part, b"") if stride == 5 else _made(b"", part)

    def around(self, prefix: Prefix) -> list[int]:
        """The lengths of those that cover it, or equal it, the shortest first."""
        lengths = [length for length in self.lengths(len(prefix.packed)) if length <= prefix.length]
        return [length for length in lengths if Prefix(prefix.packed, length).network in self]

    def meets(self, prefix: Prefix) -> bool:
        """True when an address lies in it and in one of them."""
        return bool(self.around(prefix) or self.inside(prefix))

    def whole(self) -> frozenset[int]:
        """Families of which they leave no address out: `/0`, or its halves, or many."""
        v4 = bool(self.v4) and _leaves_none_out(self.v4, 5)
        v6 = bool(self.v6) and _leaves_none_out(self.v6, 17)
        return _FAMILIES[v4, v6]

    def __or__(self, other: Prefixes) -> Prefixes:
        return Prefixes.union((self, other))

    def __and__(self, other: Prefixes) -> Prefixes:
        return self.apart(other)[0]

    def __sub__(self, other: Prefixes) -> Prefixes:
        return self.apart(other)[1]

    def apart(self, other: Prefixes) -> tuple[Prefixes, Prefixes, Prefixes]:
        """What both have, what only this one has, what only the other one has."""
        if self == other:
            return self, NONE, NONE
        both, here, there = map(_made, apart(self.v4, other.v4, 5), apart(self.v6, other.v6, 17))
        return both, here, there

    def __iter__(self) -> Iterator[Prefix]:
        rows = chain(iter_unpack("4sB", self.v4), iter_unpack("16sB", self.v6))
        return map(_new, repeat(Prefix), rows)

    def briefs(self, before: str = "", after: str = "") -> list[str]:
        """`brief` of each, between these words."""
        octets, ends, v4, v6 = OCTETS, _ENDS, iter_unpack("5B", self.v4), iter_unpack("16sB", self.v6)
        out = [f"{before}{octets[a]}.{octets[b]}.{octets[c]}.{octets[d]}{ends[length]}{after}" for a, b, c, d, length in v4]
        if self.v4[4:5] == b"\0":
            out[0] = f"{before}default{after}"  # everything comes first
        out += [f"{before}{inet_ntop(AF_INET6, packed)}{f'/{length}' if length < 128 else ''}{after}" for packed, length in v6]
        return out

    def __bool__(self) -> bool:
        return bool(self.v4 or self.v6)

    def __len__(self) -> int:
        return len(self.v4) // 5 + len(self.v6) // 17

    def __contains__(self, prefix: Prefix) -> bool:
        mine, stride = self._table(len(prefix.packed))
        record = prefix.packed + _BYTE[prefix.length]
        at = place(mine, stride, record)
        return mine[at : at + stride] == record

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prefixes) and self.v4 == other.v4 and self.v6 == other.v6

    def __hash__(self) -> int:
        return hash(self.v4 or self.v6)

    def __reduce__(self) -> tuple[object, tuple[bytes, bytes]]:
        return _made, (self.v4, self.v6)

    def __repr__(self) -> str:
        return f"Prefixes.of([{', '.join(map(str, self))}])"

    def _table(self, size: int) -> tuple[bytes, int]:
        """The records of a family, and how long each is."""
        return (self.v4, 5) if size == 4 else (self.v6, 17)


NONE = Prefixes()


def records_of(several: Iterable[Prefixes], size: int) -> list[bytes]:
    """Those of several sets, one after the other: as `records`."""
    return split(b"".join(map(_v4 if size == 4 else _v6, several)), size + 1)


def _leaves_none_out(table: bytes, stride: int) -> bool:
    """True when these records, of one family and in order, take all its addresses."""
    if len(table) < stride << min(table[stride - 1 :: stride]):
        return False  # too few, even if all were as wide as the widest: the usual case, found quickly
    bits = 8 * (stride - 1)
    end = 0
    for record in split(table, stride):
        start = int.from_bytes(record[:-1], "big")
        if start > end:
            return False
        end = max(end, start + (1 << bits - record[-1]))
    return end == 1 << bits


def _made(v4: bytes, v6: bytes) -> Prefixes:
    """Of records that are in order."""
    made = object.__new__(Prefixes)
    made.v4, made.v6 = v4, v6
    return made
