"""Questions to one name server over UDP (RFC 1035), with a mark: past the tunnels, whatever resolv.conf says now.

For endpoints only: one name, its addresses. What is cut off (TC) is taken as far as it goes; there is no cache.
"""

from __future__ import annotations

import _socket as socket  # the half of it in C: the other makes enumerations of all constants first
import os
import select
import struct
import time
from contextlib import closing, suppress

from reconciler.model.prefix import ntop
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_HEADER, _QUESTION, _RECORD = struct.Struct(">HHHHHH"), struct.Struct(">HH"), struct.Struct(">HHIH")
_A, _AAAA, _IN = 1, 28, 1
_RECURSE, _ANSWER, _RCODE, _NO_SUCH_NAME = 0x0100, 0x8000, 0x000F, 3
_POINTER = 0xC0
_SO_MARK = 36
_BYTES = {_A: 4, _AAAA: 16}
_MOST_SERVERS = 3  # as the C library
_AGAIN_S = 1.0  # UDP may be lost

Addresses = tuple[bytes, ...]


def ask(servers: Iterable[bytes], name: str, mark: int, timeout_s: float) -> Addresses:
    """The addresses of a name, packed, of both families; none if there is no such name. One server after the other, all of
    them within `timeout_s`. TimeoutError, other OSErrors, UnicodeError (no name)."""
    questions = {kind: _question(name, kind) for kind in _BYTES}
    chosen = tuple(servers)[:_MOST_SERVERS]
    deadline = time.monotonic() + timeout_s
    problem: OSError = TimeoutError("no name server")
    for number, server in enumerate(chosen):
        try:
            share_s = (deadline - time.monotonic()) / (len(chosen) - number)
            return _ask_one(server, questions, mark, time.monotonic() + share_s)
        except OSError as error:
            problem = error
    raise problem


def _ask_one(server: bytes, questions: dict[int, bytes], mark: int, deadline: float) -> Addresses:
    family = socket.AF_INET if len(server) == 4 else socket.AF_INET6
    with closing(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)) as asking:
        with suppress(PermissionError):  # who may not mark goes the way of everybody
            asking.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        asking.connect((ntop(server), 53))
        open_ = dict(questions)
        found: list[bytes] = []
        problem: OSError | None = None
        while open_:
            for question in open_.values():
                asking.send(question)
            for message in _received(asking, min(deadline, time.monotonic() + _AGAIN_S)):
                kind = next((kind for kind, question in open_.items() if message[:2] == question[:2]), None)
                if kind is not None:
                    try:
                        found += _addresses(message, open_.pop(kind), kind)
                    except OSError as error:  # many a server refuses one family and knows the other
                        problem = error
                if not open_:
                    break
            if open_ and time.monotonic() >= deadline:
                problem = TimeoutError(f"{ntop(server)} does not answer")
                break
        if problem and not found:
            raise problem
        return tuple(found)


def _received(asking: socket.socket, until: float) -> Iterable[bytes]:
    while (left_s := until - time.monotonic()) > 0 and select.select([asking], [], [], left_s)[0]:
        with suppress(BlockingIOError):
            yield asking.recv(65535)


def _question(name: str, kind: int) -> bytes:
    labels = name.rstrip(".").encode("idna").split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise UnicodeError(f"{name!r} is no name")
    encoded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return _HEADER.pack(int.from_bytes(os.urandom(2), "big"), _RECURSE, 1, 0, 0, 0) + encoded + _QUESTION.pack(kind, _IN)


def _addresses(message: bytes, question: bytes, kind: int) -> list[bytes]:
    """Those in an answer to this very question. OSError when the server could not find out, or says nonsense."""
    try:
        _, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
        at = _HEADER.size
        if not flags & _ANSWER or questions != 1 or message[at : len(question)].lower() != question[at:].lower():
            raise ValueError("not an answer to this question")
        if flags & _RCODE not in (0, _NO_SUCH_NAME):
            raise OSError(f"the name server says {flags & _RCODE}")
        at, found = len(question), []
        for _ in range(answers):
            at = _behind_name(message, at)
            type_, class_, _, size = _RECORD.unpack_from(message, at)
            at += _RECORD.size
            if (type_, class_, size) == (kind, _IN, _BYTES[kind]):
                found.append(message[at : at + size])
            at += size
    except (struct.error, IndexError, ValueError) as error:
        raise OSError(f"a malformed answer: {error}") from error
    return [packed for packed in found if len(packed) == _BYTES[kind]]


def _behind_name(message: bytes, at: int) -> int:
    while message[at]:
        if message[at] & _POINTER == _POINTER:
            return at + 2
        at += message[at] + 1
    return at + 1
