"""What the loop and a process of its own tell each other: pickles with their length, and with some an open connection."""

from __future__ import annotations

import pickle
import socket
import struct

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LENGTH = struct.Struct("=I")
_CHUNK = 1 << 16


def packed(message: object) -> bytes:
    """A message on its way."""
    content = pickle.dumps(message)
    return LENGTH.pack(len(content)) + content


def unpacked(buffer: bytearray) -> Iterator[object]:
    """Takes the messages off that are whole."""
    while len(buffer) >= LENGTH.size:
        end = LENGTH.size + LENGTH.unpack_from(buffer)[0]
        if len(buffer) < end:
            return
        content = bytes(buffer[LENGTH.size : end])
        del buffer[:end]
        yield pickle.loads(content)  # noqa: S301 - between us and our own child


class Inbox:
    """The end of a process that waits for orders; `connections`: those that came along and were not taken yet."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self.connections: list[int] = []

    def __iter__(self) -> Iterator[object]:
        """Until the other end is closed. What came with a message is here before it is."""
        buffer = bytearray()
        while True:
            chunk, came, _flags, _address = socket.recv_fds(self._channel, _CHUNK, 1, socket.MSG_CMSG_CLOEXEC)
            self.connections += came
            if not chunk:
                return
            buffer += chunk
            yield from unpacked(buffer)
