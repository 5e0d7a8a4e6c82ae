"""ICMP echoes (RFC 792, RFC 4443) that leave by one device and by no other, whatever the routes say. All at once, bounded."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from reconciler.model.names import IfName
from reconciler.model.prefix import ntop, pton

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ECHO = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence number
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1  # linux/icmp.h, linux/icmpv6.h
_TRIES = 2  # packets may be lost
_IPV4_HEADER_LENGTH = 0x0F  # in words of four bytes


class Family(NamedTuple):
    """What differs between the two."""

    family: int
    protocol: int
    request: int
    reply: int
    filter: tuple[int, int, bytes]  # in the kernel: replies only


FAMILIES = {
    4: Family(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, (_SOL_RAW, _ICMP_FILTER, struct.pack("=I", ~1 & 0xFFFFFFFF))),
    16: Family(
        socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129,
        (socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *([0xFFFFFFFF] * 4), ~2 & 0xFFFFFFFF, *([0xFFFFFFFF] * 3))),
    ),
}  # fmt: skip

Asked = tuple[IfName, bytes]  # by which device, whom (packed)


def ping(asked: Iterable[Asked], timeout_s: float) -> dict[Asked, str | None]:
    """For each of them "" when it has answered, None when it did not within so many seconds, else why it could not be asked."""
    groups: dict[tuple[IfName, int], list[bytes]] = {}
    for dev, target in dict.fromkeys(asked):
        groups.setdefault((dev, len(target)), []).append(target)
    found: dict[Asked, str | None] = {}
    with ExitStack() as stack:
        echoes: dict[int, _Echoes] = {}
        for (dev, size), targets in groups.items():
            try:
                one = _Echoes(dev, FAMILIES[size], targets)
            except OSError as error:
                found |= {(dev, target): _reason(error) for target in targets}
                continue
            stack.callback(one.socket.close)
            echoes[one.socket.fileno()] = one
        _exchange(echoes, timeout_s)
        for one in echoes.values():
            found |= {(one.dev, target): one.outcome(target) for target in one.open | one.answered}
    return found


class _Echoes:
    """Those of one device and family."""

    def __init__(self, dev: IfName, family: Family, targets: Iterable[bytes]) -> None:
        """OSError when there is no such device, or we may not."""
        self.dev, self.family = dev, family
        self.open, self.answered = set(targets), set[bytes]()
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._token = os.urandom(16)
        self._problems: dict[bytes, str] = {}
        self.socket = socket.socket(
            family.family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, family.protocol
        )
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode() + b"\0")
            self.socket.setsockopt(*family.filter)
        except OSError:
            self.socket.close()
            raise

    def send(self, number: int) -> None:
        """To all who have not answered."""
        packet = self._packet(number)
        for target in self.open:
            try:
                self.socket.sendto(packet, (ntop(target), 0))
                self._problems.pop(target, None)
            except OSError as error:
                self._problems[target] = _reason(error)

    def _packet(self, number: int) -> bytes:
        """The kernel fills in the checksum of IPv6."""
        fields = self.family.request, 0, 0, self._identifier, number
        content = _ECHO.pack(*fields) + self._token
        return _ECHO.pack(*fields[:2], _checksum(content), *fields[3:]) + self._token

    def receive(self) -> None:
        """What has come; nothing that is not an answer to what was asked."""
        with suppress(OSError):
            while True:
                message, sender = self.socket.recvfrom(4096)
                if self.family.family == socket.AF_INET and message:
                    message = message[4 * (message[0] & _IPV4_HEADER_LENGTH) :]
                source = pton(str(sender[0]).partition("%")[0])
                if source in self.open and self._is_answer(message):
                    self.open.discard(source)
                    self.answered.add(source)

    def _is_answer(self, message: bytes) -> bool:
        if len(message) < _ECHO.size:
            return False
        kind, _, _, identifier, _ = _ECHO.unpack_from(message)
        return (kind, identifier) == (self.family.reply, self._identifier) and message[_ECHO.size :] == self._token

    @property
    def waits(self) -> bool:
        """An answer may still come."""
        return bool(self.open - self._problems.keys())

    def outcome(self, target: bytes) -> str | None:
        return "" if target in self.answered else self._problems.get(target)


def _exchange(echoes: Mapping[int, _Echoes], timeout_s: float) -> None:
    begun_s = time.monotonic()
    poll = select.poll()
    for descriptor in echoes:
        poll.register(descriptor, select.POLLIN)
    for number in range(1, _TRIES + 1):
        for one in echoes.values():
            one.send(number)
        until_s = begun_s + timeout_s * number / _TRIES
        while (left_s := until_s - time.monotonic()) > 0 and any(one.waits for one in echoes.values()):
            for descriptor, _ in poll.poll(left_s * 1000):
                echoes[descriptor].receive()


def _checksum(content: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f">{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
