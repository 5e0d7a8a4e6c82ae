"""The netlink socket itself: opened when first used, every wait bounded, only the kernel believed."""

from __future__ import annotations

import _socket as socket  # the half of it in C: the other makes enumerations of all constants first
import errno
import time
from struct import Struct

from reconciler.errors import NotObserved
from reconciler.host.nl_codec import HEADER, HEADER_BYTES
from reconciler.host.nl_error import KernelError

_SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _STRICT = 270, 1, 10, 11, 12
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_TIMEVAL = Struct("@ll")
_LAST_SEQUENCE = 0x7FFFFFFF
_LONGEST_BYTES = 1 << 24
STRAYS = 64  # datagrams that answer nobody, before we give up


class Repeat(Exception):
    """The answer is not whole, ask again on a new socket."""


class Wire:
    """One socket at a time; after `close` the next use opens a new one."""

    def __init__(self, protocol: int, timeout_s: float, receive_bytes: int) -> None:
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._receive_bytes = receive_bytes
        self._socket: socket.socket | None = None
        self.datagram_bytes = 1 << 16
        self.sequence = int(time.time()) & 0xFFFFFFF  # the last one used
        self.port = 0

    def open(self) -> socket.socket:
        """The socket. KernelError when the kernel has no such protocol."""
        if self._socket is not None:
            return self._socket
        try:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._protocol)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"netlink protocol {self._protocol}") from error
        try:
            self._configure(opened)
            opened.bind((0, 0))
        except OSError as error:
            opened.close()
            raise KernelError(error.errno or errno.EIO) from error
        self.port = opened.getsockname()[0]
        self._socket = opened
        return opened

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def reserve(self, count: int) -> int:
        """`count` sequence numbers in a row, never 0 (events have 0): the first of them."""
        first = self.sequence + 1
        if first + count > _LAST_SEQUENCE:
            first = 1
        self.sequence = first + count - 1
        return first

    def send(self, kind: int, flags: int, body: bytes) -> int:
        """One message; → its sequence number."""
        sequence = self.reserve(1)
        self.transmit(HEADER.pack(HEADER_BYTES + len(body), kind, flags, sequence, 0) + body)
        return sequence

    def transmit(self, datagram: bytes) -> None:
        """Messages that are complete. KernelError, NotObserved."""
        try:
            self.open().send(datagram)
        except BlockingIOError:
            raise NotObserved(f"the kernel took no request within {self._timeout_s:g} s") from None
        except KernelError:
            raise
        except OSError as error:
            raise KernelError(error.errno or errno.EIO) from error

    def receive(self) -> bytes:
        """One datagram of the kernel's. Repeat when one was lost or cut off; KernelError, NotObserved."""
        for _ in range(STRAYS):
            try:
                datagram, _, flags, sender = self.open().recvmsg(self.datagram_bytes)
            except BlockingIOError:
                raise NotObserved(f"the kernel gave no answer within {self._timeout_s:g} s") from None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Repeat("messages were lost") from error
                raise KernelError(error.errno or errno.EIO) from error
            if flags & socket.MSG_TRUNC:
                self.datagram_bytes = min(self.datagram_bytes * 4, _LONGEST_BYTES)
                raise Repeat(f"an answer was longer than {len(datagram)} bytes")
            if sender[0] == 0 and datagram:  # another process can send to our port, too
                return bytes(datagram)
        raise NotObserved("netlink messages came, but not from the kernel")

    def _configure(self, opened: socket.socket) -> None:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, self._receive_bytes)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        bound = _TIMEVAL.pack(int(self._timeout_s), int(self._timeout_s % 1 * 1_000_000))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):  # 4.3, 4.12, 4.20: without them answers are only wordier
            try:
                opened.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                continue


class Witness:
    """Hears of changes from when it is made: for lists of which the kernel does not say that they were interrupted."""

    def __init__(self, protocol: int, group: int) -> None:
        self._socket: socket.socket | None = None
        if not group:
            return
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
            self._socket.bind((0, 0))  # without an address of its own the kernel takes it for the sender: it hears nothing
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            self.__exit__()
            raise KernelError(error.errno or errno.EIO) from error

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def heard(self) -> bool:
        """Did anything of the group (0: never) change?"""
        if self._socket is None:
            return False
        try:
            self._socket.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise KernelError(error.errno or errno.EIO) from error
        return True
