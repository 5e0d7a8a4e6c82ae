"""A command's end of the control socket. Standard library only, and nothing that a command without a daemon does not load."""

from __future__ import annotations

import _socket as socket  # the half of it in C, as in nl_wire
import fcntl
import os
import stat
import struct
import sys
import time
from io import BytesIO, TextIOWrapper

from reconciler.daemon.protocol import REQUEST_BYTES, SOCKET, Request, Told, encode
from reconciler.errors import InvalidFile, NotConverged
from reconciler.host.jsontext import loads
from reconciler.host.privilege import asking_uid
from reconciler.model.order import Order
from reconciler.report.paint import painted
from reconciler.typed import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reconciler.loop.orders import Voice

_PATIENCE = struct.pack("@ll", 2, 0)  # seconds, microseconds: until it takes us in, and what we ask
_TAKE_S, _POLL_S = 1.0, 0.0003  # until that was read; a daemon that has nothing else to do needs half of a poll
_SIOCOUTQ, _UNREAD = 0x5411, struct.Struct("=i")  # bytes that the other end has not read yet
_CHUNK = 1 << 16
_CREDENTIALS = struct.Struct("=iII")  # ucred: pid, uid, gid

_silent: list[str | Path] = []  # run directories of a daemon that took nothing: it is asked once a command


class Asking(NamedTuple):
    """Whom to ask, and for whom."""

    state_dir: str | Path
    run_dir: str | Path
    lock_timeout_s: float = 2.0
    as_json: bool = False
    debug: bool = False


def ask(asking: Asking, order: Order, voice: Voice) -> int | None:
    """Has the daemon carry it out: the exit code. None: there is none to ask. Told: what the daemon said no with."""
    connection = _connect(os.path.join(asking.run_dir, SOCKET)) if asking.run_dir not in _silent else None
    if connection is None:
        return None
    try:
        request = _request(asking, order)
        if not _is_taken(connection, encode(request)):
            _silent.append(asking.run_dir)
            if request.stdin is not None:  # for whoever reads it next
                sys.stdin = TextIOWrapper(BytesIO(request.stdin))
            return None
        return _told(connection, voice)  # the daemon has its own bounds; Ctrl-C ends us, not the work
    except OSError as error:
        raise _lost(error.strerror or "no answer") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _lost("its answer is malformed") from error
    finally:
        connection.close()


def _told(connection: socket.socket, voice: Voice) -> int:
    """Everything that it says, to the exit code."""
    for frame in _frames(connection):
        if "step" in frame:
            lines = str(frame["step"]["text"]).split("\n")
            voice.data((painted(text, voice.paint) for text in lines) if voice.paint.on else lines)
        elif "log" in frame:
            log = frame["log"]
            voice.note(str(log["level"]), str(log["message"]), log["tunnel"])
        elif "error" in frame:
            raise Told(frame["error"])
        elif "result" in frame:
            return _result(frame["result"], voice)
    raise _lost("the connection ended")


def _connect(path: str) -> socket.socket | None:
    """None when nobody listens there, or somebody whom we do not trust, or who is stopped and would never answer."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return None
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)  # one that does not block is told "try again"
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        if uid in (0, os.geteuid()) and not _is_stopped(pid):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _is_stopped(pid: int) -> bool:
    """proc_pid_stat(5): by a signal, or by a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False


def _is_taken(connection: socket.socket, request: bytes) -> bool:
    """Hands the request over. Its end, which makes it one, is sent when the rest was read: of a daemon that is wedged, or
    throws us out, nothing is asked, also not later, and we can do it ourselves."""
    try:
        connection.sendall(request[:-1])
        deadline_s = time.monotonic() + _TAKE_S
        while _UNREAD.unpack(fcntl.ioctl(connection.fileno(), _SIOCOUTQ, bytes(_UNREAD.size)))[0]:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(_POLL_S)
        connection.sendall(request[-1:])
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return False
    return True


def _request(asking: Asking, order: Order) -> Request:
    stdin = None
    if order.command == "apply" and order.file == "-":
        stdin = sys.stdin.buffer.read(REQUEST_BYTES // 2 + 1)
        if len(stdin) > REQUEST_BYTES // 2:
            raise InvalidFile("<stdin>: too long")
    try:
        directory = os.getcwd()
    except OSError:  # it was removed
        directory = ""
    return Request(
        order, str(asking.state_dir), directory, stdin, asking_uid(), asking.as_json, asking.debug, asking.lock_timeout_s
    )  # fmt: skip


def _frames(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Lines; a last one without an end is none."""
    rest = b""
    while chunk := connection.recv(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for text in lines:
            frame = loads(text.decode())
            if not isinstance(frame, dict):
                raise TypeError("a frame is an object")
            yield frame


def _result(result: dict[str, Any], voice: Voice) -> int:
    if result["document"] is not None:
        voice.document(lambda: dict(result["document"]))
    return int(result["exit_code"])


def _lost(why: str) -> NotConverged:
    """Whoever worked for us was killed, before or after he stored what we asked for; or he is done, and we did not read."""
    goes_on = "a daemon goes on with what was stored, and the same order may be given again"
    return NotConverged(f"the daemon did not say how it went: {why}", hint=f"tunctl status tells; {goes_on}")
