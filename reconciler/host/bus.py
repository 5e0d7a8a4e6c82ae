"""The system's D-Bus, as far as it is needed: calls with a bound. jeepney puts the messages into bytes and back."""

from __future__ import annotations

import os
import time
from itertools import count

from reconciler.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

TIMEOUT_S = 1.0
_DEFAULT = "/var/run/dbus/system_bus_socket"
_CHUNK = 65536


class BusError(Exception):
    """An answer that is an error: its D-Bus name, and the other side's words."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(words or name)
        self.name = name


def is_there() -> bool:
    """Is there a system bus at all? Asked first: most that makes up its cost is loading what speaks to it."""
    return "DBUS_SYSTEM_BUS_ADDRESS" in os.environ or os.path.exists(_DEFAULT)


def load() -> None:
    """Does now what the first connection would have to wait for."""
    import jeepney.io.blocking  # noqa: F401


class Bus:
    """One connection. TimeoutError when an answer takes longer than `timeout_s`, other OSErrors when nobody is there."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        from jeepney import Parser
        from jeepney.bus import get_bus
        from jeepney.io.blocking import prep_socket

        self._timeout_s = timeout_s
        self._socket: socket.socket = prep_socket(get_bus("SYSTEM"), timeout=timeout_s)
        self._parser = Parser()
        self._serials = count(1)
        try:
            self.ask_bus("Hello")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask_bus(self, method: str, signature: str = "", body: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """A call to the bus itself."""
        name = "org.freedesktop.DBus"
        return self.call((name, "/org/freedesktop/DBus", name), method, signature, body)

    def call(
        self, target: tuple[str, str, str], method: str, signature: str = "", body: tuple[Any, ...] = ()
    ) -> tuple[Any, ...]:
        """A call to (name, object, interface) → what it returns. Nothing is ever started by it. BusError, OSError."""
        from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, new_method_call

        name, path, interface = target
        message = new_method_call(DBusAddress(path, name, interface), method, signature or None, body)
        message.header.flags |= MessageFlag.no_auto_start
        serial = next(self._serials)
        deadline = time.monotonic() + self._timeout_s
        self._socket.settimeout(self._timeout_s)
        self._socket.sendall(message.serialise(serial))
        while True:
            answer = self._receive(deadline)
            if answer.header.fields.get(HeaderFields.reply_serial) != serial:
                continue
            if answer.header.message_type is MessageType.error:
                words = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
                raise BusError(answer.header.fields.get(HeaderFields.error_name, ""), words)
            return tuple(answer.body)

    def _receive(self, deadline: float) -> Any:
        while True:
            message = self._parser.get_next_message()
            if message is not None:
                return message
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer on D-Bus")
            self._socket.settimeout(left_s)
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                raise ConnectionResetError("D-Bus closed the connection")
            self._parser.add_data(chunk)
