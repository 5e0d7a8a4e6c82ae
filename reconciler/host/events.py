"""What the kernel tells by itself: multicast groups of rtnetlink and nftables, each on a socket of its own. Knows no kinds."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

from reconciler.errors import NotObserved
from reconciler.host.nl_codec import messages
from reconciler.lean import suppress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROUTE, NETFILTER = 0, 12  # NETLINK_ROUTE, NETLINK_NETFILTER
LINKS, ADDRESSES, ROUTES, RULES = (1,), (5, 9), (7, 11), (8, 19)  # RTNLGRP_*, IPv4 and IPv6
RULE_SETS = (7,)  # NFNLGRP_NFTABLES

_SOL_NETLINK, _ADD_MEMBERSHIP, _SO_RCVBUFFORCE = 270, 1, 33
_RECEIVE_BYTES = 8 << 20  # 20 000 events at once fit (LIBRARIES)
_DATAGRAM_BYTES = 1 << 16
_MOST_DATAGRAMS = 512  # a reader: whoever floods us does not keep us from everything else

# A program for the kernel (linux/filter.h): struct sock_filter, and what it does with a message.
_SO_ATTACH_FILTER, _INSTRUCTION, _PROGRAM = 26, struct.Struct("=HBBI"), struct.Struct("@HP")
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET
_PORT_AT = 12  # nlmsghdr.nlmsg_pid
_MOST_PORTS = 200  # a jump leads over 255 instructions at most


class Event(NamedTuple):
    """One message of a group."""

    protocol: int
    kind: int
    flags: int
    port: int  # of the socket that caused it; 0: the kernel itself, and all about links
    body: bytes


class Events:
    """A socket that listens from when it is made. Overflow is told as None: anything may have happened."""

    def __init__(self, protocol: int, groups: Sequence[int]) -> None:
        """NotObserved when the kernel has no such groups."""
        self.protocol = protocol
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
            )
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BYTES)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            raise NotObserved(f"events of netlink protocol {protocol}: {error.strerror}") from error

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def pass_over(self, ports: Iterable[int]) -> None:
        """What these sockets cause from now on is not told, and what others passed over before did is again. Who makes 10 000
        routes need not hear of each. Where the kernel cannot do that, all is told."""
        program = _leaves_out(sorted(ports)[:_MOST_PORTS])
        held = ctypes.create_string_buffer(program, len(program))
        with suppress(OSError):
            address = _PROGRAM.pack(len(program) // _INSTRUCTION.size, ctypes.addressof(held))
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, address)

    def read(self) -> Iterator[Event | None]:
        """What has come, without waiting; None: some was lost, or cannot be understood."""
        for _ in range(_MOST_DATAGRAMS):
            try:
                datagram, _, flags, sender = self._socket.recvmsg(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise NotObserved(f"events: {os.strerror(error.errno or errno.EIO)}") from error
                yield None
                continue
            if sender[0] != 0:  # another process can send to our port
                continue
            try:
                whole = [Event(self.protocol, kind, flags_, port, body) for kind, flags_, _, port, body in messages(datagram)]
            except ValueError:
                whole = []
            if flags & socket.MSG_TRUNC or not whole:
                yield None
            yield from whole


def _leaves_out(ports: Sequence[int]) -> bytes:
    """The program that takes messages (all of their bytes) but for those of these ports (none of them)."""
    code = [(_LOAD, 0, 0, _PORT_AT)]  # as if it stood there in network byte order
    for number, port in enumerate(ports):
        there = int.from_bytes((port & 0xFFFFFFFF).to_bytes(4, sys.byteorder), "big")
        code.append((_JUMP_IF_EQUAL, len(ports) - number, 0, there))  # to the last instruction, else to the next one
    code += ((_RETURN, 0, 0, 0xFFFFFFFF), (_RETURN, 0, 0, 0))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)
