"""rtnetlink: links, addresses, routes and rules of this network namespace, listed and changed. Knows no kinds."""

from __future__ import annotations

import errno
from struct import Struct

from reconciler.errors import NotObserved
from reconciler.host import nl_address, nl_link, nl_route, nl_rule
from reconciler.host.netlink import NLM_F_ACK, TIMEOUT_S, KernelError, Netlink, Row
from reconciler.host.nl_address import AddressRow
from reconciler.host.nl_codec import HEADER_BYTES
from reconciler.host.nl_rule import RuleRow
from reconciler.model.found import LinkState
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from reconciler.host.netlink import First

Name = TypeVar("Name", bound=str)
NETLINK_ROUTE = 0
_SIOCGIFINDEX = 0x8933  # linux/sockios.h
_IFREQ = Struct("16si20x")


class Rtnl(Netlink):
    """The rtnetlink request socket. Lists raise NotObserved, never a partial answer; changes raise KernelError."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(NETLINK_ROUTE, timeout_s=timeout_s)

    def links(self, *, counted: bool = False) -> list[LinkState]:
        """All links; `counted`: with counters."""

        def decode(body: bytes) -> LinkState:
            return nl_link.decode(body, counted=counted)

        def first(datagram: bytes) -> tuple[list[LinkState], int]:
            return nl_link.decode_first(datagram, counted=counted)

        return self._list("links", nl_link.RTM_GETLINK, nl_link.question(counted=counted), decode, first=first)

    def link(self, *, index: int = 0, name: str = "") -> LinkState | None:
        """One link, by index or by name, without counters; None: there is none."""
        try:
            answers = self.request(nl_link.RTM_GETLINK, 0, nl_link.question(index=index, name=name))
        except KernelError as error:
            if error.errno == errno.ENODEV:
                return None
            raise NotObserved(f"link {name or index} could not be read: {error}") from error
        if not answers:
            raise NotObserved(f"link {name or index} could not be read: the kernel said nothing about it")
        try:
            return nl_link.decode(answers[0])
        except ValueError as error:
            raise NotObserved(f"link {name or index} could not be read: {error}") from error

    def index_of(self, name: str) -> int:
        """Of the link with this name, 0 when there is none: a fiftieth of what the kernel's whole description of it costs.
        NotObserved when there is no socket to ask by."""
        return self.indexes_of((name,)).get(name, 0)

    def indexes_of(self, names: Collection[Name]) -> dict[Name, int]:
        """The same of many; those that are not there are left out."""
        import fcntl  # who only looks needs no number

        found: dict[Name, int] = {}
        request = bytearray(_IFREQ.size)
        try:
            descriptor = self._wire.open().fileno()
        except KernelError as error:
            raise NotObserved(f"link {', '.join(names)} could not be looked up: {error}") from error
        for name in names:
            _IFREQ.pack_into(request, 0, name.encode(), 0)
            try:
                fcntl.ioctl(descriptor, _SIOCGIFINDEX, request)
            except OSError:
                continue
            found[name] = _IFREQ.unpack(request)[1]
        return found

    def change_link(
        self,
        index: int,
        *,
        name: str | None = None,
        alias: str | None = None,
        group: int | None = None,
        mtu: int | None = None,
        up: bool | None = None,
    ) -> None:
        """Changes what is not None, in one message."""
        body = nl_link.wanted(index=index, name=name, alias=alias, group=group, mtu=mtu, up=up)
        self.request(nl_link.RTM_NEWLINK, NLM_F_ACK, body)

    def addresses(self, ifindex: int = 0) -> list[AddressRow]:
        """All addresses, or those of one link (none when it is gone)."""
        try:
            question = nl_address.question(ifindex)
            rows = self._list(
                "addresses", nl_address.RTM_GETADDR, question, nl_address.decode, first=nl_address.decode_first
            )  # fmt: skip
        except NotObserved as error:
            if _errno(error) == errno.ENODEV:
                return []
            raise
        return [row for row in rows if row.ifindex == ifindex] if ifindex else rows

    def routes(
        self,
        family: int,
        decode: Callable[[bytes], Row | None],
        *,
        protocol: int = 0,
        table: int = 0,
        whole: Callable[[bytes], Sequence[Row] | None] = lambda _datagram: None,
    ) -> list[Row]:
        """The routes of a family for which `decode` gives something; filtered by the kernel where it can (4.20). Before that
        `whole` may take a datagram as one, or leave it (None)."""
        begin = bytes((family,))  # of rtmsg; where the kernel lacks a family it answers with those that it has

        def of_family(body: bytes) -> Row | None:
            return decode(body) if body.startswith(begin) else None

        def first(datagram: bytes) -> tuple[Sequence[Row], int] | None:
            rows = whole(datagram) if datagram.startswith(begin, HEADER_BYTES) else None
            return None if rows is None else (rows, len(datagram))

        try:
            question = nl_route.question(family, protocol=protocol, table=table)
            witness = nl_route.GROUP_IPV6 if family == AF_INET6 else 0
            wanted = decode if family == AF_INET else of_family
            return self._list("routes", nl_route.RTM_GETROUTE, question, wanted, witness, first)
        except NotObserved as error:
            if _errno(error) in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):  # no such table, no such family
                return []
            raise

    def rules(self, family: int) -> list[RuleRow]:
        """The policy rules of a family in the order in which they are asked; none where the kernel lacks the family."""
        try:
            question = nl_rule.question(family)
            rows = self._list("rules", nl_rule.RTM_GETRULE, question, nl_rule.decode, nl_rule.GROUPS.get(family, 0))
        except NotObserved as error:
            if _errno(error) in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                return []
            raise
        return [row for row in rows if row.family == family]

    def _list(
        self,
        what: str,
        kind: int,
        body: bytes,
        decode: Callable[[bytes], Row | None],
        witness: int = 0,
        first: First[Row] | None = None,
    ) -> list[Row]:
        try:
            return self.dump(kind, body, decode, witness=witness, first=first)
        except (KernelError, NotObserved) as error:
            raise NotObserved(f"{what} could not be read: {error}") from error


def _errno(error: NotObserved) -> int | None:
    cause = error.__cause__
    return cause.errno if isinstance(cause, KernelError) else None
