"""What goes over the control socket: lines of JSON. The client sends one request; it gets any number of ``{"log":…}`` and
``{"step":…}``, then exactly one ``{"result":…}`` or ``{"error":…}``."""

from __future__ import annotations

import os

from reconciler.errors import Problem, TunctlError, Unavailable, UsageError
from reconciler.host.jsontext import dumps, loads
from reconciler.model.order import COMMANDS, ApplyOptions, Order
from reconciler.typed import Any, NamedTuple, TypeVar

SOCKET, VERSION = "control.sock", 1
T = TypeVar("T")
_LONGEST_S = 86_400.0
_NO_UID = 0xFFFFFFFF  # (uid_t) -1
REQUEST_BYTES = 64 << 20  # a desired file on standard input, in base64


class Request(NamedTuple):
    """One order, and what else the daemon must know of whoever gives it."""

    order: Order
    state_dir: str
    directory: str  # in which paths are relative
    stdin: bytes | None = None  # what `-` stands for
    sudo_uid: int | None = None  # believed of root only
    as_json: bool = False
    debug: bool = False
    lock_timeout_s: float = 2.0


def encode(request: Request) -> bytes:
    """The line."""
    document = {**request._asdict(), "version": VERSION, "order": {**request.order._asdict()}}
    document["order"]["options"] = request.order.options._asdict()
    if request.stdin is not None:
        from base64 import b64encode

        document["stdin"] = b64encode(request.stdin).decode()
    return line(document)


def decode(text: bytes) -> Request:
    """UsageError when it is none; Unavailable when it is of another version of tunctl."""
    try:
        document = loads(text.decode())
        version = document.pop("version")
        if version != VERSION:
            words = f"the daemon speaks version {VERSION} of the protocol, the command version {version}"
            raise Unavailable(words, hint="restart the daemon: systemctl restart tunctl")
        order = document.pop("order")
        options = _checked(ApplyOptions, order.pop("options"))
        order["names"] = tuple(str(name) for name in order["names"])
        if order["command"] not in COMMANDS:
            raise UsageError(f"the daemon carries out no {order['command']!r}")
        stdin = _stdin(document.pop("stdin"))
        order = _checked(Order, {**order, "options": options})
        return _possible(_checked(Request, {**document, "order": order, "stdin": stdin}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"this is no request of tunctl: {error}") from error


def _stdin(text: str | None) -> bytes | None:
    if text is None:
        return None
    from base64 import b64decode

    return b64decode(text)


def _checked(kind: type[T], fields: dict[str, Any]) -> T:
    """A named tuple whose fields have the types of its defaults, where it has any."""
    made = kind(**fields)
    for name, default in kind._field_defaults.items():  # type: ignore[attr-defined]
        value = getattr(made, name)
        if default is not None and not isinstance(value, int | float if isinstance(default, float) else type(default)):
            raise TypeError(f"{name} is {type(value).__name__}")
    return made


def _possible(request: Request) -> Request:
    """As a command line would have it: paths that can be paths, times of a day at most, a uid that can be one."""
    order = request.order
    for path in (request.state_dir, request.directory, order.file, order.source or ""):
        if b"\0" in os.fsencode(path):
            raise ValueError("a path has a null byte")
    if not all(0 <= seconds <= _LONGEST_S for seconds in (order.timeout_s, request.lock_timeout_s)):
        raise ValueError("a time is none")
    if request.sudo_uid is not None and not 0 <= request.sudo_uid < _NO_UID:
        raise ValueError("sudo_uid is none")
    return request


def line(frame: dict[str, Any]) -> bytes:
    return dumps(frame).encode() + b"\n"


def error_frame(error: TunctlError) -> dict[str, Any]:
    details = [[d.file, d.line, d.key, d.message] for d in error.details]
    return {"error": {"code": error.exit_code, "message": error.message, "hint": error.hint, "details": details}}


class Told(TunctlError):
    """An error that the daemon told us of."""

    def __init__(self, frame: dict[str, Any]) -> None:
        details = tuple(Problem(str(f), int(n), str(k), str(m)) for f, n, k, m in frame["details"])
        super().__init__(str(frame["message"]), hint=str(frame["hint"]), details=details)
        self.exit_code = int(frame["code"])
