"""Prefixes and addresses in the form the kernel uses: packed bytes and a length.

``ipaddress`` objects cost 5 µs and 300 bytes each; a split tunnel has 100 000 of them, and `status` must start
in 25 ms. So there is one form everywhere: the packed one. Text appears only where somebody reads it.
"""

from __future__ import annotations

import _socket  # the half of `socket` in C: the other makes enumerations of all constants first
from _operator import add
from itertools import repeat

from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AF_INET, AF_INET6 = _socket.AF_INET, _socket.AF_INET6
_new = tuple.__new__  # a third of what the constructor costs
OCTETS = tuple(map(str, range(256)))  # how each byte of an IPv4 address is written


class Prefix(NamedTuple):
    """An address with a length: a network when the host bits are zero, else an interface address."""

    packed: bytes  # 4 or 16 bytes, network order
    length: int

    @property
    def family(self) -> int:
        return AF_INET if len(self.packed) == 4 else AF_INET6

    @property
    def bits(self) -> int:
        return len(self.packed) * 8

    @property
    def address(self) -> str:
        return ntop(self.packed)

    @property
    def is_host(self) -> bool:
        return self.length == self.bits

    @property
    def is_link_local(self) -> bool:
        """IPv6 fe80::/10 (RFC 4291)."""
        return len(self.packed) == 16 and self.packed[0] == 0xFE and self.packed[1] & 0xC0 == 0x80

    @property
    def network(self) -> Prefix:
        """The same with its host bits cleared."""
        shift = self.bits - self.length
        value = int.from_bytes(self.packed, "big") >> shift << shift
        return Prefix(value.to_bytes(len(self.packed), "big"), self.length)

    def covers(self, other: Prefix) -> bool:
        """True when every address of ``other`` lies in this prefix."""
        if len(self.packed) != len(other.packed) or self.length > other.length:
            return False
        return Prefix(other.packed, self.length).network.packed == self.network.packed

    def __str__(self) -> str:
        packed, length = self
        return f"{ntop(packed)}/{length}"

    @property
    def brief(self) -> str:
        """As `ip route` prints a destination: hosts without a length, all of IPv4 as ``default``."""
        if self.length == 0:
            return "default" if len(self.packed) == 4 else "::/0"
        return ntop(self.packed) if self.is_host else str(self)


def ntop(packed: bytes) -> str:
    """Packed address → text."""
    if len(packed) != 4:
        return _socket.inet_ntop(AF_INET6, packed)
    a, b, c, d = packed
    return f"{OCTETS[a]}.{OCTETS[b]}.{OCTETS[c]}.{OCTETS[d]}"  # in half the time


def texts(prefixes: Iterable[Prefix]) -> list[str]:
    """As ``str`` of each."""
    return [f"{ntop(packed)}/{length}" for packed, length in prefixes]


def pton(text: str) -> bytes:
    """Text → packed address; ValueError with the text in it. Strict: four decimal parts, no zone, no blanks."""
    try:
        return _socket.inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"{text!r} is not an IP address") from None


class _Endings(dict[str, tuple[int, bytes, bytes]]):
    """What stands behind an address → its length, that as a byte, its host bits. Each is understood when it comes first."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._bits = bits

    def __missing__(self, text: str) -> tuple[int, bytes, bytes]:
        digits = text[1:] if text else str(self._bits)  # an address alone is a host
        is_number = len(digits) <= 3 and digits.isascii() and digits.isdecimal()  # 08 and 00 are
        if not is_number or int(digits) > self._bits:
            raise ValueError("no length")
        length = int(digits)
        tail = (1 << (self._bits - length)) - 1
        self[text] = found = length, bytes((length,)), tail.to_bytes(self._bits // 8, "big")
        return found


_ENDINGS = {4: _Endings(32), 16: _Endings(128)}


def parse_prefix(text: str) -> Prefix:
    """``address[/length]`` → Prefix, host bits kept; an address alone is a host. ValueError says what is wrong."""
    address, slash, length = text.partition("/")
    packed = pton(address)
    try:
        return _new(Prefix, (packed, _ENDINGS[len(packed)][slash + length][0]))
    except ValueError:
        raise ValueError(f"{text!r}: the length must be a number from 0 to {len(packed) * 8}") from None


def parse_network(text: str) -> Prefix:
    """As ``parse_prefix``, but host bits are an error that prints the prefix that was meant."""
    prefix = packed, length = parse_prefix(text)
    tail = len(packed) * 8 - length
    if tail and int.from_bytes(packed, "big") & ((1 << tail) - 1):
        raise ValueError(f"{text!r} has host bits set, did you mean {prefix.network}?")
    return prefix


def parse_columns(
    texts: Iterable[str], *, keep_host_bits: bool = False
) -> tuple[list[bytes], tuple[int, ...], tuple[bytes, ...]]:
    """As ``parse_network`` of each, or ``parse_prefix``, in loops of C: addresses, lengths, and these as bytes. ValueError
    where one is wrong, or of another family than the first, or where there is none."""
    try:
        addresses, slashes, words = zip(*map(str.partition, texts, repeat("/")), strict=True)
        family = AF_INET6 if ":" in addresses[0] else AF_INET
        packed = list(map(_socket.inet_pton, repeat(family), addresses))
    except (OSError, TypeError) as error:
        raise ValueError("not prefixes of one family") from error
    lengths, ends, tails = zip(*map(_ENDINGS[len(packed[0])].__getitem__, map(add, slashes, words)), strict=True)
    if keep_host_bits:
        return packed, lengths, ends
    if int.from_bytes(b"".join(packed), "big") & int.from_bytes(b"".join(tails), "big"):  # of all at once
        raise ValueError("host bits are set")
    return packed, lengths, ends


def parse_networks(texts: Iterable[str], *, keep_host_bits: bool = False) -> tuple[Prefix, ...]:
    """As ``parse_columns``."""
    addresses, lengths, _ = parse_columns(texts, keep_host_bits=keep_host_bits)
    return tuple(map(_new, repeat(Prefix), zip(addresses, lengths, strict=True)))


def pack(prefixes: Iterable[Prefix]) -> bytes:
    """A list of prefixes as bytes: for each its address length, its prefix length, its address. Order kept."""
    return b"".join(bytes((len(packed), length)) + packed for packed, length in prefixes)


def unpack(blob: bytes) -> Iterator[Prefix]:
    """The inverse of ``pack``; ValueError on a damaged blob."""
    at, end = 0, len(blob)
    make = Prefix._make
    while at < end:
        size = blob[at]
        stop = at + 2 + size
        if size not in (4, 16) or stop > end:
            raise ValueError("damaged prefix list")
        yield make((blob[at + 2 : stop], blob[at + 1]))
        at = stop
