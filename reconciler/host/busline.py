"""A line to the system's D-Bus that is listened to and never waited for. `bus` is for calls with an answer."""

from __future__ import annotations

import socket
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_CHUNK = 1 << 16
_BEGIN = b"BEGIN\r\n"


class Said(NamedTuple):
    """One message, as far as it matters."""

    kind: str  # method_call · method_return · error · signal
    member: str
    sender: str
    reply_to: int  # the serial of the question
    body: tuple[Any, ...]


class BusLine:
    """Says hello as soon as it may, then what it was given. OSError whenever the bus is gone, or does not take us."""

    def __init__(self) -> None:
        from jeepney import Parser
        from jeepney.auth import Authenticator
        from jeepney.bus import get_bus

        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._parser, self._serials = Parser(), count(1)
        self._waiting: list[bytes] = []  # until we may speak
        self._authenticator: Any = Authenticator()
        try:
            self._socket.connect(get_bus("SYSTEM"))
            self._say(self._authenticator.data_to_send())
        except BaseException:
            self._socket.close()
            raise
        self.ask(_BUS, "Hello")

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def ask_bus(self, method: str, signature: str = "", body: Sequence[Any] = (), interface: str = _BUS[2]) -> int:
        """As `ask`, of the bus itself."""
        return self.ask((*_BUS[:2], interface), method, signature, body)

    def ask(self, target: tuple[str, str, str], method: str, signature: str = "", body: Sequence[Any] = ()) -> int:
        """A call to (name, object, interface); its answer comes like everything else, with this serial."""
        from jeepney import DBusAddress, new_method_call

        name, path, interface = target
        serial = next(self._serials)
        message = new_method_call(DBusAddress(path, name, interface), method, signature or None, tuple(body))
        content: bytes = message.serialise(serial)
        if self._authenticator is None:
            self._say(content)
        else:
            self._waiting.append(content)
        return serial

    def read(self) -> Iterator[Said]:
        """What has come, without waiting."""
        while True:
            try:
                chunk = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                raise ConnectionResetError("D-Bus closed the connection")
            if self._authenticator is not None:
                self._authenticate(chunk)
                continue
            self._parser.add_data(chunk)
            while (message := self._parser.get_next_message()) is not None:
                yield _said(message)

    def _authenticate(self, chunk: bytes) -> None:
        from jeepney.auth import AuthenticationError

        try:
            self._authenticator.feed(chunk)
        except AuthenticationError as error:
            raise PermissionError(f"D-Bus does not take us: {error}") from error
        if self._authenticator.authenticated:
            self._authenticator = None
            self._say(_BEGIN + b"".join(self._waiting))
            self._waiting = []

    def _say(self, content: bytes) -> None:
        """It is little, and a bus that does not take it in is none."""
        if self._socket.send(content) != len(content):
            raise BlockingIOError("D-Bus does not read")


def _said(message: Any) -> Said:
    from jeepney import HeaderFields

    fields = message.header.fields
    return Said(
        message.header.message_type.name, str(fields.get(HeaderFields.member, "")), str(fields.get(HeaderFields.sender, "")),
        int(fields.get(HeaderFields.reply_serial, 0)), tuple(message.body),
    )  # fmt: skip
