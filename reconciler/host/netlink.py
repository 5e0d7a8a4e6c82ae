"""A netlink request socket of any family: ask, dump, and send many changes at once. Knows no family's messages.

Every receive has a bound; every doubt about an answer throws the socket away, so that the next question starts clean.
Not for two threads at once. The socket belongs to the network namespace in which it was first used.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple, TypeVar

from reconciler.errors import NotObserved
from reconciler.host.nl_codec import HEADER, HEADER_BYTES, I32, as_text, attributes, messages

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_DUMP_INTR, _CAPPED, _ACK_TLVS = 0x10, 0x100, 0x200  # of answers
_ERROR, _DONE, _OVERRUN, _FIRST_OWN = 2, 3, 4, 16  # NLMSG_*; below 16 the types are netlink's own
_EXT_ACK_MSG = 1  # NLMSGERR_ATTR_MSG

_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _STRICT = 270, 10, 11, 12
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_TIMEVAL = Struct("@ll")

TIMEOUT_S = 2.0
RECEIVE_BYTES = 8 << 20  # held the errors of 20 000 messages; only a limit, nothing is reserved
CHUNK = 256  # messages a send: more gain nothing, and their errors fit in the default receive buffer of 208 KiB
ATTEMPTS = 8  # of a dump that is interrupted: each further one is rarer
_STRAYS = 64  # datagrams that answer nobody, before we give up

Row = TypeVar("Row")


class Message(NamedTuple):
    """One request of a batch."""

    kind: int
    flags: int
    body: bytes


class KernelError(OSError):
    """The kernel said no. `errno` and `ext_ack`: its sentence, "" when it gave none."""

    def __init__(self, number: int, ext_ack: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.ext_ack = ext_ack

    def __str__(self) -> str:
        words = os.strerror(self.errno or 0)
        return f"{words}: {self.ext_ack}" if self.ext_ack else words


class _Repeat(Exception):
    """A dump that has to be made again."""


class Netlink:
    """A request socket; opened when first used, reopened after trouble."""

    def __init__(
        self, protocol: int, *, timeout_s: float = TIMEOUT_S, receive_bytes: int = RECEIVE_BYTES, attempts: int = ATTEMPTS
    ) -> None:
        self._protocol = protocol
        self._timeout_s = timeout_s
        self._receive_bytes = receive_bytes
        self._attempts = attempts
        self._datagram_bytes = 1 << 16
        self._socket: socket.socket | None = None
        self._sequence = int(time.time()) & 0x7FFFFFFF
        self._port = 0

    @property
    def port(self) -> int:
        """Our port id, as events of our changes carry it. Another one after trouble."""
        self._open()
        return self._port

    def close(self) -> None:
        """Closes the socket; the next use opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def dump(self, kind: int, body: bytes, decode: Callable[[bytes], Row | None], *, flags: int = 0) -> list[Row]:
        """Everything the kernel lists, decoded; rows that decode to None are left out.

        `decode` gets the body of each message and raises ValueError on one that is malformed. KernelError when the
        kernel refuses; NotObserved when it stays silent, is malformed, or the list changed under us every time.
        """
        reason = ""
        for attempt in range(self._attempts):
            if attempt > 1:
                time.sleep(0.002 * attempt)
            try:
                return self._dump_once(kind, body, decode, flags)
            except _Repeat as repeat:
                self.close()
                reason = str(repeat)
            except ValueError as error:
                self.close()
                raise NotObserved(f"the kernel's answer is malformed: {error}") from error
            except BaseException:
                self.close()
                raise
        raise NotObserved(f"{reason}, {self._attempts} times")

    def request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """One request, acknowledged: the bodies of the answers. KernelError; NotObserved when the kernel stays silent."""
        try:
            return self._ask(kind, flags, body)
        except KernelError as error:
            if error.errno == errno.ENOBUFS:
                self.close()
            raise
        except _Repeat as repeat:
            self.close()
            raise KernelError(errno.ENOBUFS, str(repeat)) from repeat
        except ValueError as error:
            self.close()
            raise NotObserved(f"the kernel's answer is malformed: {error}") from error
        except BaseException:
            self.close()
            raise

    def batch(self, requests: Sequence[Message | tuple[int, int, bytes]]) -> list[KernelError | None]:
        """Many changes at once: for each its error, or None. After an overflow a chunk is sent a second time, one by one."""
        results: list[KernelError | None] = []
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
            try:
                results += self._chunk(chunk)
            except _Repeat:
                self.close()
                results += [self._one(request) for request in chunk]
            except ValueError as error:
                self.close()
                raise NotObserved(f"the kernel's answer is malformed: {error}") from error
            except BaseException:
                self.close()
                raise
        return results

    # the wire

    def _dump_once(self, kind: int, body: bytes, decode: Callable[[bytes], Row | None], flags: int) -> list[Row]:
        rows: list[Row] = []
        append = rows.append
        expected = self._send(kind, flags | NLM_F_REQUEST | NLM_F_DUMP, body)
        port = self._port
        strays = 0
        while True:
            for type_, flags_, sequence, to, answer in messages(self._receive()):
                if sequence != expected or to != port:
                    strays = _count_stray(strays)
                    continue
                if flags_ & _DUMP_INTR:
                    raise _Repeat("what was being listed changed meanwhile")
                if type_ >= _FIRST_OWN:
                    row = decode(answer)
                    if row is not None:
                        append(row)
                elif type_ in (_DONE, _ERROR):
                    error = _error(answer, flags_, with_request=type_ == _ERROR)
                    if error:
                        raise error
                    return rows
                elif type_ == _OVERRUN:
                    raise _Repeat("messages were lost")

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        answers: list[bytes] = []
        expected = self._send(kind, flags | NLM_F_REQUEST | NLM_F_ACK, body)
        strays = 0
        while True:
            for type_, flags_, sequence, port, answer in messages(self._receive()):
                if sequence != expected or port != self._port:
                    strays = _count_stray(strays)
                elif type_ >= _FIRST_OWN:
                    answers.append(answer)
                elif type_ == _ERROR:
                    error = _error(answer, flags_, with_request=True)
                    if error:
                        raise error
                    return answers

    def _one(self, request: Message | tuple[int, int, bytes]) -> KernelError | None:
        try:
            self.request(*request)
        except KernelError as error:
            return error
        return None

    def _chunk(self, requests: Sequence[Message | tuple[int, int, bytes]]) -> list[KernelError | None]:
        """The last one asks for an acknowledgement; of the others only errors come back, each with its sequence number."""
        count = len(requests)
        first = self._reserve(count)
        last = first + count - 1
        pack = HEADER.pack
        parts: list[bytes] = []
        sequence = first
        for kind, flags, body in requests:
            ack = NLM_F_REQUEST | NLM_F_ACK if sequence == last else NLM_F_REQUEST
            parts += (pack(HEADER_BYTES + len(body), kind, flags | ack, sequence, 0), body)
            sequence += 1
        self._transmit(b"".join(parts))
        results: list[KernelError | None] = [None] * count
        strays = 0
        while True:
            for type_, flags_, sequence, port, answer in messages(self._receive()):
                if type_ != _ERROR or port != self._port or not first <= sequence <= last:
                    strays = _count_stray(strays)
                    continue
                results[sequence - first] = _error(answer, flags_, with_request=True)
                if sequence == last:
                    return results

    def _reserve(self, count: int) -> int:
        """`count` sequence numbers in a row, never 0 (events have 0): the first of them."""
        first = self._sequence + 1
        if first + count > 0x7FFFFFFF:
            first = 1
        self._sequence = first + count - 1
        return first

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        sequence = self._reserve(1)
        self._transmit(HEADER.pack(HEADER_BYTES + len(body), kind, flags, sequence, 0) + body)
        return sequence

    def _transmit(self, datagram: bytes) -> None:
        try:
            self._open().send(datagram)
        except BlockingIOError:
            raise NotObserved(f"the kernel took no request within {self._timeout_s:g} s") from None
        except OSError as error:
            raise KernelError(error.errno or errno.EIO) from error

    def _receive(self) -> bytes:
        """One datagram of the kernel's."""
        for _ in range(_STRAYS):
            try:
                datagram, _, flags, sender = self._open().recvmsg(self._datagram_bytes)
            except BlockingIOError:
                raise NotObserved(f"the kernel gave no answer within {self._timeout_s:g} s") from None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise _Repeat("messages were lost") from error
                raise KernelError(error.errno or errno.EIO) from error
            if flags & socket.MSG_TRUNC:
                self._datagram_bytes = min(self._datagram_bytes * 4, 1 << 24)
                raise _Repeat(f"an answer was longer than {len(datagram)} bytes")
            if sender[0] == 0 and datagram:  # another process can send to our port, too
                return bytes(datagram)
        raise NotObserved("netlink messages came, but not from the kernel")

    def _open(self) -> socket.socket:
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
        self._port = opened.getsockname()[0]
        self._socket = opened
        return opened

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


def _count_stray(strays: int) -> int:
    """Messages that answer no question of ours: a few are late, many mean that we wait for nothing."""
    if strays >= _STRAYS:
        raise NotObserved("netlink messages came, but no answer to the question")
    return strays + 1


def _error(answer: bytes, flags: int, *, with_request: bool) -> KernelError | None:
    """The error of an NLMSG_ERROR (`with_request`: the header of the request follows) or NLMSG_DONE; None: no error."""
    if len(answer) < 4:
        if not with_request:
            return None  # a DONE without a number, as some families send it
        raise ValueError("netlink: an error without a number")
    number = -I32.unpack_from(answer)[0]
    if number <= 0:
        return None
    return KernelError(number, _ext_ack(answer, flags, with_request=with_request))


def _ext_ack(answer: bytes, flags: int, *, with_request: bool) -> str:
    if not flags & _ACK_TLVS:
        return ""
    at = 4
    if with_request:
        if len(answer) < 4 + HEADER_BYTES:
            return ""
        echoed = HEADER.unpack_from(answer, 4)[0]
        at += HEADER_BYTES if flags & _CAPPED else (echoed + 3) & ~3
    try:
        return as_text(attributes(answer, at).get(_EXT_ACK_MSG))
    except ValueError:
        return ""  # the words are a courtesy, the number counts
