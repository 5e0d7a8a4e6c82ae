"""Where clients come in. Takes their requests as they come, byte by byte, and hands over those that are whole; who is slow,
or one too many, waits or is forgotten, and nobody else notices."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path

from reconciler.daemon import control
from reconciler.daemon.control import MOST_CLIENTS, REQUEST_S, Client
from reconciler.daemon.protocol import SOCKET
from reconciler.lean import suppress

SHUT_S = 1.0  # when nobody can be taken in, until the next try

Ordered = Callable[[socket.socket, bytes], None]


class Door:
    """The control socket of one run directory."""

    def __init__(self, selector: selectors.BaseSelector, run_dir: str | Path) -> None:
        self._selector = selector
        self._run_dir = Path(run_dir)
        self._listener: socket.socket | None = None
        self._seen: os.stat_result | None = None  # of the socket as it lies there
        self._clients: set[Client] = set()
        self._shut_until_s: float | None = None  # no descriptor is left: they wait outside
        self._ordered: Ordered = lambda _connection, _text: None

    @property
    def is_there(self) -> bool:
        """Whoever connects comes to us."""
        with suppress(OSError):
            return self._seen is not None and os.path.samestat(self._seen, os.lstat(self._run_dir / SOCKET))
        return False

    def open(self, ordered: Ordered) -> None:
        """From now on requests are taken, also when the socket was removed. Unavailable."""
        self._ordered = ordered
        listener = control.listen(self._run_dir)
        with suppress(OSError):
            self._seen = os.lstat(self._run_dir / SOCKET)
        if self._listener is not None:
            if self._shut_until_s is None:
                self._selector.unregister(self._listener)
            self._listener.close()
        self._listener, self._shut_until_s = listener, None
        self._selector.register(self._listener, selectors.EVENT_READ, self._came)

    def close(self) -> None:
        """No more of them; the socket goes."""
        if self._listener is not None:
            if self._shut_until_s is None:
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
            if self.is_there:
                (self._run_dir / SOCKET).unlink(missing_ok=True)
        for client in tuple(self._clients):
            self._forget(client)

    @property
    def deadlines_s(self) -> list[float]:
        """Until when the requests must be there, and when the door opens again."""
        times = [client.deadline_s for client in self._clients]
        return times if self._shut_until_s is None else [*times, self._shut_until_s]

    def forget_the_slow(self, now_s: float) -> None:
        """Those whose time is over. Others may come in again, if nobody could."""
        for client in [client for client in self._clients if client.deadline_s <= now_s]:
            self._forget(client)
        if self._listener is not None and self._shut_until_s is not None and self._shut_until_s <= now_s:
            self._shut_until_s = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._came)

    def _came(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:  # it went away again, or we have no descriptor left
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self._selector.unregister(listener)  # else it would be heard again and again
                self._shut_until_s = time.monotonic() + SHUT_S
            return
        if len(self._clients) >= MOST_CLIENTS:
            self._forget(min(self._clients, key=lambda client: client.deadline_s))
        client = Client(connection, time.monotonic() + REQUEST_S)
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ, self._said)

    def _said(self, client: Client) -> None:
        text = client.read()
        if text is None:
            return
        self._clients.discard(client)
        self._selector.unregister(client)
        if text:
            self._ordered(client.connection, text)
        else:
            client.connection.close()

    def _forget(self, client: Client) -> None:
        self._clients.discard(client)
        self._selector.unregister(client)
        client.connection.close()
