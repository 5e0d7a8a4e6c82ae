"""nf_tables by raw netlink: quick looks at tables, base chains and rules, without a library. Reads only.

Numbers in these messages are in network order (linux/netfilter/nf_tables.h).
"""

from __future__ import annotations

import _socket as socket  # the half of it in C, as in nl_wire
import errno

from reconciler.errors import NotObserved, NotPermitted
from reconciler.host.netlink import KernelError, Netlink
from reconciler.host.nl_codec import ATTRIBUTE, TYPE_MASK, as_text, attributes, text
from reconciler.typed import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NETLINK_NETFILTER = 12
_SO_NETNS_COOKIE = 71
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN, _GET_RULE, _GET_GENERATION = _SUBSYSTEM | 1, _SUBSYSTEM | 4, _SUBSYSTEM | 7, _SUBSYSTEM | 16
_HEADER_BYTES = 4  # nfgenmsg
FAMILIES = {1: "inet", 2: "ip", 10: "ip6"}  # NFPROTO_*, those that see routed packets
INET = 1
HOOK_PREROUTING, HOOK_FORWARD = 0, 2  # NF_INET_*
_DROP = 0  # NF_DROP

Row = TypeVar("Row")


class BaseChain(NamedTuple):
    """A chain that the kernel calls itself."""

    family: str  # inet · ip · ip6
    table: str
    name: str
    hook: int
    priority: int
    type: str
    drops: bool  # its policy


class RuleBytes(NamedTuple):
    """A rule as the kernel keeps it."""

    handle: int
    expressions: tuple[tuple[str, dict[int, bytes]], ...]  # name, attributes
    user: bytes  # NFTA_RULE_USERDATA: comments of nft


class NetlinkNft:
    """A request socket. Errors: NotPermitted, NotObserved."""

    def __init__(self) -> None:
        self._netlink = Netlink(NETLINK_NETFILTER)

    def close(self) -> None:
        self._netlink.close()

    def has_tables(self) -> bool:
        """Is there any table, of whatever family?"""
        return bool(self._dump(_GET_TABLE, bytes((0, 0, 0, 0)), bytes))

    def generation(self) -> tuple[bytes, int] | None:
        """What every change of nf_tables makes another one: the network namespace's cookie (no other one ever has it) and
        a number that counts its changes. None: the kernel (before 5.14) does not tell."""
        try:
            cookie = _namespace()
            (answer,) = self._netlink.request(_GET_GENERATION, 0, bytes((0, 0, 0, 0)))
        except (KernelError, OSError, ValueError):
            return None
        return cookie, as_number(attributes(answer, _HEADER_BYTES).get(1))

    def has_table(self, name: str) -> bool:
        """Is there a table `inet NAME`?"""
        try:
            self._netlink.request(_GET_TABLE, 0, bytes((INET, 0, 0, 0)) + text(1, name))
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):  # no nf_tables: no table
                return False
            raise _refused(error) from error
        return True

    def base_chains(self) -> list[BaseChain]:
        """All base chains of the families that see routed packets."""
        return self._dump(_GET_CHAIN, bytes((0, 0, 0, 0)), _base_chain)

    def rules(self, family: str, table: str, chain: str) -> list[RuleBytes]:
        """The rules of one chain, in their order; none of a chain that is not there."""
        number = next(key for key, value in FAMILIES.items() if value == family)

        def rule(body: bytes) -> RuleBytes | None:
            found = attributes(body, _HEADER_BYTES)
            if as_text(found.get(1)) != table or as_text(found.get(2)) != chain:  # a kernel that does not filter
                return None
            return RuleBytes(as_number(found.get(3)), tuple(_expressions(found.get(4, b""))), found.get(7, b""))

        return self._dump(_GET_RULE, bytes((number, 0, 0, 0)) + text(1, table) + text(2, chain), rule)

    def _dump(self, kind: int, body: bytes, decode: Callable[[bytes], Row | None]) -> list[Row]:
        try:
            return self._netlink.dump(kind, body, decode)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
                return []
            raise _refused(error) from error


def _namespace() -> bytes:
    """A number for the network namespace of this thread that no other one ever has. OSError before Linux 5.14."""
    here = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        return here.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    finally:
        here.close()


def _refused(error: KernelError) -> NotPermitted | NotObserved:
    if error.errno == errno.EPERM:
        return NotPermitted("only root may look at the packet filter")
    return NotObserved(f"packet filter: {error}")


def _base_chain(body: bytes) -> BaseChain | None:
    family = FAMILIES.get(body[0])
    found = attributes(body, _HEADER_BYTES)
    if family is None or 4 not in found:
        return None
    hook = attributes(found[4])
    priority = as_number(hook.get(2))
    return BaseChain(
        family, as_text(found.get(1)), as_text(found.get(3)), as_number(hook.get(1)),
        priority - (1 << 32) if priority >= 1 << 31 else priority,
        as_text(found.get(7)), as_number(found.get(5), 1) == _DROP,
    )  # fmt: skip


def as_number(value: bytes | None, default: int = 0) -> int:
    """An attribute that is a number in network order."""
    return default if value is None else int.from_bytes(value, "big")


def _expressions(body: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    """NFTA_RULE_EXPRESSIONS: a list of NFTA_LIST_ELEM, each a name and its own attributes."""
    at, end = 0, len(body)
    while at < end:
        if end - at < 4:
            raise ValueError("netlink: an expression is cut off")
        size, kind = ATTRIBUTE.unpack_from(body, at)
        if not 4 <= size <= end - at:
            raise ValueError(f"netlink: an expression claims {size} bytes where {end - at} are left")
        if kind & TYPE_MASK == 1:
            element = attributes(body[at + 4 : at + size])
            yield as_text(element.get(1)), attributes(element.get(2, b""))
        at += (size + 3) & ~3
