"""A command's end of the control socket. Standard library only, and nothing that a command without a daemon does not load."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from typing import Any

from reconciler.daemon.protocol import REQUEST_BYTES, SOCKET, Request, Told, encode
from reconciler.errors import InvalidFile, NotConverged
from reconciler.loop.commands import Session, asking_uid
from reconciler.loop.orders import Order, Voice
from reconciler.report.changes import painted

_CONNECT_S = 2.0
_CREDENTIALS = struct.Struct("=iII")  # ucred: pid, uid, gid


def ask(session: Session, order: Order, voice: Voice) -> int | None:
    """Has the daemon carry it out: the exit code. None: there is none to ask. Told: what the daemon said no with."""
    connection = _connect(os.path.join(session.run_dir, SOCKET))
    if connection is None:
        return None
    with connection:
        try:
            connection.sendall(encode(_request(session, order, voice)))
            connection.settimeout(None)  # the daemon has its own bounds; Ctrl-C ends us, not the work
            for frame in _frames(connection):
                if "step" in frame:
                    voice.data([painted(str(frame["step"]["text"]), voice.paint)])
                elif "log" in frame:
                    log = frame["log"]
                    voice.note(str(log["level"]), str(log["message"]), log["tunnel"])
                elif "error" in frame:
                    raise Told(frame["error"])
                elif "result" in frame:
                    return _result(frame["result"], voice)
        except OSError as error:
            raise _lost(error.strerror or "no answer") from error
        except (ValueError, KeyError, TypeError) as error:
            raise _lost("its answer is malformed") from error
    raise _lost("it ended before it was done")


def _connect(path: str) -> socket.socket | None:
    """None when nobody listens there, or somebody whom we do not trust."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return None
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_S)
        connection.connect(path)
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        if _CREDENTIALS.unpack(credentials)[1] in (0, os.geteuid()):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _request(session: Session, order: Order, voice: Voice) -> Request:
    stdin = None
    if order.command == "apply" and order.file == "-":
        stdin = sys.stdin.buffer.read(REQUEST_BYTES // 2 + 1)
        if len(stdin) > REQUEST_BYTES // 2:
            raise InvalidFile("<stdin>: too long")
    as_json, debug = bool(getattr(voice, "as_json", False)), bool(getattr(voice, "debug", False))
    return Request(
        order, str(session.state_dir), os.getcwd(), stdin, asking_uid(), as_json, debug, session.lock_timeout_s
    )  # fmt: skip


def _frames(connection: socket.socket) -> Iterator[dict[str, Any]]:
    with connection.makefile("rb") as lines:
        for text in lines:
            frame = json.loads(text)
            if not isinstance(frame, dict):
                raise TypeError("a frame is an object")
            yield frame


def _result(result: dict[str, Any], voice: Voice) -> int:
    if result["document"] is not None:
        voice.document(lambda: dict(result["document"]))
    return int(result["exit_code"])


def _lost(why: str) -> NotConverged:
    return NotConverged(f"the daemon did not say how it went: {why}", hint="tunctl status tells; the daemon goes on with it")
