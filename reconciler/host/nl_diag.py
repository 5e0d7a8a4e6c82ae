"""Socket diagnostics (linux/inet_diag.h): which addresses and ports are bound in this network namespace. Anybody may ask."""

from __future__ import annotations

import errno
from struct import Struct

from reconciler.errors import NotObserved, Unavailable
from reconciler.host.netlink import TIMEOUT_S, KernelError, Netlink
from reconciler.host.nl_codec import attributes
from reconciler.model.port import ANY4, LAST, TCP, Socket
from reconciler.model.prefix import AF_INET, AF_INET6
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NETLINK_SOCK_DIAG, _BY_FAMILY = 4, 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = Struct("=BBBBI2s46x")  # inet_diag_req_v2: family, protocol, extensions, pad, states; of the socket id the port
_ANSWER = Struct("=BBBB2s2s16s16sI8s3III")  # inet_diag_msg: family, state, …, id (ports in network order), …, uid, inode
_PORT = slice(4, 6)  # where the port stands in it
_SKV6ONLY = 11  # INET_DIAG_SKV6ONLY
_LISTEN, _EVERY = 1 << 10, 0xFFFFFFFF  # TCPF_LISTEN; a bound UDP socket is in TCP_CLOSE or, when connected, TCP_ESTABLISHED
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_LACKING = (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL)


class Diag(Netlink):
    """A request socket of socket diagnostics."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(NETLINK_SOCK_DIAG, timeout_s=timeout_s)

    def sockets(self, protocol: int, ports: Iterable[range]) -> list[Socket]:
        """Of one protocol, those whose port is among these. NotObserved; Unavailable when this kernel cannot say.

        Two lists, whatever the number of ports: what is not asked for is passed over by its port alone, by the kernel
        where one port is asked for.
        """
        ports = tuple(ports)
        asked = bytearray(LAST + 1)
        for some in ports:
            asked[some.start : some.stop] = b"\1" * len(some)
        only = ports[0].start if len(ports) == 1 and len(ports[0]) == 1 else 0

        def decode(body: bytes) -> Socket | None:
            return _decode(protocol, body) if asked[int.from_bytes(body[_PORT], "big")] else None

        return [*self._list(protocol, AF_INET, only, decode), *self._list(protocol, AF_INET6, only, decode)]

    def _list(self, protocol: int, family: int, only: int, decode: Callable[[bytes], Socket | None]) -> list[Socket]:
        states = _LISTEN if protocol == TCP else _EVERY
        try:
            return self.dump(_BY_FAMILY, _REQUEST.pack(family, protocol, 0, 0, states, only.to_bytes(2, "big")), decode)
        except KernelError as error:
            if error.errno not in _LACKING:
                raise NotObserved(f"bound ports could not be read: {error}") from error
            if family == AF_INET6:  # a kernel without IPv6
                return []
            raise Unavailable("this kernel has no socket diagnostics (inet_diag, udp_diag)") from error


def _decode(protocol: int, body: bytes) -> Socket:
    """ValueError when it is cut off."""
    if len(body) < _ANSWER.size:
        raise ValueError(f"socket diagnostics: {len(body)} bytes where {_ANSWER.size} are due")
    family, _, _, _, port, _, source, _, _, _, _, _, _, _, inode = _ANSWER.unpack_from(body)
    number = int.from_bytes(port, "big")
    if family == AF_INET:
        return Socket(protocol, source[: len(ANY4)], number, inode)
    if source.startswith(_MAPPED):
        return Socket(protocol, source[len(_MAPPED) :], number, inode)
    v6only = attributes(body, _ANSWER.size).get(_SKV6ONLY, b"\0") != b"\0"
    return Socket(protocol, source, number, inode, v6only)
