"""The daemon's end of the control socket: who may ask, and the carrying out of what was asked, in a process of its own.

The loop only takes requests in, never waits for a client, and forgets those that are slow.
"""

from __future__ import annotations

import io
import os
import select
import socket
import struct
import sys
import time
import traceback
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.daemon import protocol
from reconciler.daemon.protocol import REQUEST_BYTES, SOCKET, Request
from reconciler.errors import Bug, InvalidFile, Locked, NotConverged, NotPermitted, TunctlError, Unavailable
from reconciler.host import accounts
from reconciler.loop import orders
from reconciler.loop.commands import Session
from reconciler.loop.interrupt import Interrupted, TimeIsUp
from reconciler.model.names import TunnelName
from reconciler.report.paint import PLAIN, Paint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

MOST_CLIENTS = 32
REQUEST_S = 10.0  # until a request must be there
GROUP = "tunctl"
_LINES = 256  # of steps in one frame
_SEND_S = 2.0  # a client that reads nothing for so long is written to no more …
_DRAIN_S = 30.0  # … nor is one that is not done so long after the work
_CHUNK = 1 << 18
_NAME_S = 1.0
_CREDENTIALS = struct.Struct("=iII")  # ucred: pid, uid, gid


class Peer(NamedTuple):
    """Who asks, as the kernel says."""

    pid: int
    uid: int
    gid: int


class Client:
    """A connection of which the request is not yet whole."""

    def __init__(self, connection: socket.socket, deadline_s: float) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.deadline_s = deadline_s
        self.content = bytearray()

    def fileno(self) -> int:
        return self.connection.fileno()

    def read(self) -> bytes | None:
        """The request once it is whole, b"" when there will be none; None: not yet."""
        try:
            chunk = self.connection.recv(_CHUNK)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        self.content += chunk
        if chunk and b"\n" not in chunk and len(self.content) <= REQUEST_BYTES:
            return None
        content, self.content = self.content, bytearray()  # who waits for events still knows this client
        return bytes(content.partition(b"\n")[0]) if b"\n" in chunk else b""


def listen(run_dir: Path) -> socket.socket:
    """The socket; what an earlier daemon left there is removed (the caller has the daemon's lock). Unavailable."""
    path, begun = run_dir / SOCKET, run_dir / f".{SOCKET}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        begun.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            listener.bind(os.fspath(begun))
        finally:
            os.umask(before)
        with suppress(TimeoutError):
            gid = accounts.group(GROUP, _NAME_S)
            if gid is not None:
                os.chown(begun, -1, gid)
        os.chmod(begun, 0o660)
        listener.listen(MOST_CLIENTS)
        begun.rename(path)  # whoever sees it can connect
    except OSError as error:
        listener.close()
        raise Unavailable(f"{path}: {error.strerror}") from error
    return listener


def serve(connection: socket.socket, text: bytes, session: Session, about: Callable[[frozenset[TunnelName]], None]) -> None:
    """In a process of its own: carries out the request and tells the client."""
    connection.setblocking(False)
    voice = Frames(connection)
    try:
        request = protocol.decode(text)
        voice.as_json, voice.debug = request.as_json, request.debug
        code = _carried_out(request, peer_of(connection), session, voice, about)
        voice.send({"result": {"exit_code": code, "document": voice.made}})
    except TimeIsUp as late:
        voice.fail(NotConverged(f"not done within {late.timeout_s:g} s", hint="the daemon goes on with what was stored"))
    except Interrupted:
        voice.fail(NotConverged("the daemon was told to end", hint="the next one goes on with what was stored"))
    except TunctlError as error:
        voice.fail(error)
    except Exception as error:
        voice.fail(Bug.of(error))
    if voice.has_unread:
        about(frozenset())  # the work is done: others may have these tunnels
        voice.drain()


def refuse(connection: socket.socket, why: TunctlError | None = None) -> None:
    """One client too many, or there is nothing to serve him with. Does not wait for him."""
    error = why or Locked(f"{MOST_CLIENTS} others are being served", hint="try again when one of them is done")
    with suppress(OSError):
        connection.send(protocol.line(protocol.error_frame(error)))
    connection.close()


def peer_of(connection: socket.socket) -> Peer:
    """SO_PEERCRED: as it was when it connected."""
    return Peer(*_CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def _carried_out(
    request: Request, peer: Peer, session: Session, voice: Frames, about: Callable[[frozenset[TunnelName]], None]
) -> int:
    groups = _authorised(peer)
    if request.state_dir != str(session.state_dir):
        raise Unavailable(f"the daemon of {session.run_dir} keeps the store in {session.state_dir}, not in {request.state_dir}")
    uid = request.sudo_uid if peer.uid == 0 and request.sudo_uid is not None else peer.uid
    session = session._replace(uid=uid, lock_timeout_s=request.lock_timeout_s)
    if request.stdin is not None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(request.stdin))
    _enter(request, lambda: _as_client(peer, groups))
    if peer.uid not in (0, os.geteuid()):
        session = session._replace(reads_as=lambda: _as_client(peer, groups))
    return orders.carry_out(session, request.order, voice, about)


def _enter(request: Request, rights: Callable[[], AbstractContextManager[None]]) -> None:
    """Where the client is. Only a file with a relative path, or with such paths in it, needs that: it may be a directory that
    the daemon may not see, or one that was removed. InvalidFile."""
    try:
        with rights():
            os.chdir(request.directory)
    except OSError as error:
        if request.order.command == "apply" and not os.path.isabs(request.order.file):
            if not request.directory:  # in the words of a command without a daemon
                raise InvalidFile(f"{request.order.file}: the working directory is gone (no such file or directory)") from error
            raise InvalidFile(f"{request.directory}: {error.strerror}", hint="name the file by its absolute path") from error


def _authorised(peer: Peer) -> tuple[int, ...]:
    """Root, our own user, and members of the group `tunctl`: all they could do with sudo. Their groups; NotPermitted."""
    if peer.uid in (0, os.geteuid()):
        return ()
    try:
        name = accounts.name_of(peer.uid, _NAME_S)
        groups = accounts.groups_of(name, peer.gid, _NAME_S) if name else (peer.gid,)
        wanted = accounts.group(GROUP, _NAME_S)
    except TimeoutError:
        raise NotPermitted(f"uid {peer.uid}: the name service of this machine does not answer") from None
    if wanted is None or wanted not in groups:
        raise NotPermitted(f"uid {peer.uid} may not change tunnels", hint=f"run it as root, or join the group {GROUP}")
    return tuple(groups)


@contextmanager
def _as_client(peer: Peer, groups: tuple[int, ...]) -> Iterator[None]:
    """Files are opened with the rights of whoever named them."""
    us = os.geteuid()
    if peer.uid in (0, us):
        yield
        return
    ours, gid = os.getgroups(), os.getegid()
    os.setgroups(groups)
    os.setegid(peer.gid)
    os.seteuid(peer.uid)
    try:
        yield
    finally:
        os.seteuid(us)
        os.setegid(gid)
        os.setgroups(ours)


class Frames:
    """A voice that speaks into the socket. The work never waits for the client: what he has not read yet is kept (a plan of
    100 000 routes has 10 MB), and he may read it when all is done. One that went away, or does not listen, changes nothing."""

    paint: Paint = PLAIN

    def __init__(self, connection: socket.socket) -> None:
        self._connection: socket.socket | None = connection
        self._unread = bytearray()
        self.as_json = self.debug = False
        self.made: dict[str, Any] | None = None

    def data(self, lines: Iterable[str]) -> None:
        waiting = iter(lines)
        while block := list(islice(waiting, _LINES)):
            self.send({"step": {"text": "\n".join(block)}})

    def document(self, make: Callable[[], dict[str, Any]]) -> None:
        if self.as_json:
            self.made = make()

    def note(self, level: str, message: str, tunnel: str | None = None) -> None:
        self.send({"log": {"level": level, "message": message, "tunnel": tunnel}})

    def fail(self, error: TunctlError) -> None:
        """The last word; with --debug what led to it goes before."""
        cause = error.__cause__
        if self.debug and cause is not None:
            self.note("debug", "".join(traceback.format_exception(cause)))
        self.send(protocol.error_frame(error))

    def send(self, frame: dict[str, Any]) -> None:
        if self._connection is not None:
            self._unread += protocol.line(frame)
            self._push()

    @property
    def has_unread(self) -> bool:
        """He has not read all of it."""
        return self._connection is not None and bool(self._unread)

    def drain(self) -> None:
        """All that he has not read yet, as long as he reads."""
        deadline_s, poll = time.monotonic() + _DRAIN_S, select.poll()  # not select(2): descriptors may be high
        if self._connection is not None:
            poll.register(self._connection, select.POLLOUT)
        while self._connection is not None and self._unread:
            patience_s = min(_SEND_S, deadline_s - time.monotonic())
            if patience_s <= 0 or not poll.poll(patience_s * 1000):
                return
            self._push()

    def _push(self) -> None:
        """As much as he takes now."""
        try:
            while self._connection is not None and self._unread:
                del self._unread[: self._connection.send(memoryview(self._unread)[:_CHUNK])]
        except BlockingIOError:
            return
        except OSError:
            self._connection = None
