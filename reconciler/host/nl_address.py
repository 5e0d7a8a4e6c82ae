"""rtnetlink messages about interface addresses: RTM_NEWADDR and its attributes (linux/if_addr.h)."""

from __future__ import annotations

from struct import Struct

from reconciler.host.nl_codec import Attributes, Field, attribute, u8, u32
from reconciler.lean import lru_cache
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.typed import Any, NamedTuple

RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22

_IFADDRMSG = Struct("=BBBBi")  # family, prefix length, flags, scope, index
_ADDRESS, _LOCAL, _BROADCAST, _FLAGS, _RT_PRIORITY, _PROTO = 1, 2, 4, 8, 9, 11  # IFA_*
_ADDRESSES = Attributes(
    _IFADDRMSG.format,
    Field((_ADDRESS,), absent=b""),
    Field((_LOCAL,), absent=b""),
    Field((_BROADCAST,)),
    Field((_FLAGS,), "I"),
    Field((_RT_PRIORITY,), "I"),
    Field((_PROTO,), "B"),
)
_BYTES = {AF_INET: 4, AF_INET6: 16}
_FAMILIES = {size: family for family, size in _BYTES.items()}
_BEGIN = {size: Struct(f"{_IFADDRMSG.format}HH{size}sHH{size}s") for size in _FAMILIES}  # with the two addresses
_new = tuple.__new__  # a third of what the constructor costs
SCOPE_LINK = 253  # RT_SCOPE_LINK
NOPREFIXROUTE, NODAD = 0x200, 0x02  # IFA_F_*
PROTO_KERNEL = frozenset((1, 2, 3))  # IFAPROT_KERNEL_LO, _RA, _LL


class AddressRow(NamedTuple):
    """One address as the kernel lists it."""

    ifindex: int
    packed: bytes  # our own end
    length: int
    remote: bytes  # IFA_ADDRESS: the other end where there is one, else the same
    scope: int
    flags: int
    protocol: int | None  # None: not marked (or a kernel before 5.18)
    broadcast: bytes | None = None
    metric: int | None = None  # of its prefix route, where somebody chose one


def question(ifindex: int = 0) -> bytes:
    """The body that asks for all addresses, or for those of one link."""
    return _IFADDRMSG.pack(0, 0, 0, 0, ifindex)


def wanted(row: AddressRow) -> bytes:
    """The body that sets or removes an address; permanent."""
    ifindex, packed, length, remote, scope, flags, protocol, broadcast, metric = row
    size = len(packed)
    body = _BEGIN[size].pack(
        _FAMILIES[size], length, 0, scope, ifindex, 4 + size, _LOCAL, packed, 4 + size, _ADDRESS, remote
    )  # fmt: skip
    if flags:
        body += u32(_FLAGS, flags)
    if protocol is not None:
        body += u8(_PROTO, protocol)
    if broadcast is not None:
        body += attribute(_BROADCAST, broadcast)
    if metric is not None:
        body += u32(_RT_PRIORITY, metric)
    return body


def decode(body: bytes) -> AddressRow | None:
    """RTM_NEWADDR → the address; None for families that are not IP. ValueError when malformed."""
    return _row(_ADDRESSES.of(body))


def decode_first(datagram: bytes) -> tuple[list[AddressRow], int]:
    """The addresses of its first messages, as long as the headers of these are alike, and where the others begin."""
    found, at = _ADDRESSES.of_first(datagram)
    return [*filter(None, map(_row, found))], at


@lru_cache(4096)  # the daemon is told the same again and again
def _row(said: tuple[Any, ...]) -> AddressRow | None:
    family, length, few_flags, scope, ifindex, address, local, broadcast, flags, metric, protocol = said
    size = _BYTES.get(family)
    if size is None:
        return None
    remote = address or local
    packed = local or remote
    if len(packed) != size or len(remote) != size or length > size * 8:
        raise ValueError(f"netlink: an address of {len(packed)} bytes and length {length} in family {family}")
    all_flags = few_flags if flags is None else flags
    row: AddressRow = _new(AddressRow, (ifindex, packed, length, remote, scope, all_flags, protocol, broadcast, metric))
    return row
