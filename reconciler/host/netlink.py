"""A netlink request socket of any family: ask, dump, and send many changes at once. Knows no family's messages.

Every receive has a bound; every doubt about an answer throws the socket away, so that the next question starts clean.
Not for two threads at once. The socket belongs to the network namespace in which it was first used.
"""

from __future__ import annotations

import errno
import time
from _operator import add
from itertools import repeat

from reconciler.errors import NotObserved
from reconciler.host.nl_codec import HEADER, HEADER_BYTES, alike, messages
from reconciler.host.nl_error import KernelError, error_in
from reconciler.host.nl_wire import STRAYS, Repeat, Wire, Witness
from reconciler.typed import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    # A datagram → the rows of its first messages, whose headers say the same but for the length, and where the others begin.
    First = Callable[[bytes], tuple[Sequence["Row"], int] | None]

__all__ = ["KernelError", "Netlink"]

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_DUMP_INTR = 0x10  # of answers
_NOOP, _ERROR, _DONE, _OVERRUN, _FIRST_OWN = 1, 2, 3, 4, 16  # NLMSG_*; below 16 the types are netlink's own
_CHANGED = "what was being listed changed meanwhile"

TIMEOUT_S = 2.0
RECEIVE_BYTES = 8 << 20  # only a limit, nothing is reserved
CHUNK = 256  # messages a send: more gain nothing, and their errors fit in the default receive buffer of 208 KiB
ATTEMPTS = 8  # of a dump that is interrupted: each further one is rarer

Row = TypeVar("Row")


class Netlink:
    """A request socket; opened when first used, reopened after trouble."""

    def __init__(
        self, protocol: int, *, timeout_s: float = TIMEOUT_S, receive_bytes: int = RECEIVE_BYTES, attempts: int = ATTEMPTS
    ) -> None:
        self._protocol = protocol
        self._attempts = attempts
        self._wire = Wire(protocol, timeout_s, receive_bytes)

    @property
    def port(self) -> int:
        """Our port id, as events of our changes carry it. Another one after trouble."""
        self._wire.open()
        return self._wire.port

    def close(self) -> None:
        """Closes the socket; the next use opens a new one."""
        self._wire.close()

    def dump(
        self,
        kind: int,
        body: bytes,
        decode: Callable[[bytes], Row | None],
        *,
        flags: int = 0,
        witness: int = 0,
        first: First[Row] | None = None,
    ) -> list[Row]:
        """Everything the kernel lists, decoded; rows that decode to None are left out.

        `decode` gets the body of each message and raises ValueError on one that is malformed. Before that `first` may take the
        first messages of a datagram together, or leave them (None). KernelError when the kernel refuses; NotObserved when it
        stays silent, is malformed, or the list changed under us every time.
        `witness`: the multicast group that tells of changes, for lists of which the kernel does not say so itself (a
        list of IPv6 routes silently leaves out some that stay when others before them go: 18 of 3000 were seen missing).
        """
        reason = ""
        for attempt in range(self._attempts):
            if attempt > 1:
                time.sleep(0.002 * attempt)
            try:
                with _Clean(self), Witness(self._protocol, witness) as changes:
                    return self._dump_once(kind, flags, body, decode, first, changes)
            except Repeat as again:
                reason = str(again)
        raise NotObserved(f"{reason}, {self._attempts} times")

    def request(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """One request, acknowledged: the bodies of the answers. KernelError; NotObserved when the kernel stays silent."""
        try:
            with _Clean(self):
                return self._ask(kind, flags, body)
        except Repeat as lost:
            raise KernelError(errno.ENOBUFS, str(lost)) from lost

    def batch(self, kind: int, flags: int, bodies: Sequence[bytes]) -> list[KernelError | None]:
        """Many changes of one type at once: for each its error, or None. After an overflow a chunk is sent a second time, one
        by one."""
        results: list[KernelError | None] = []
        for start in range(0, len(bodies), CHUNK):
            chunk = bodies[start : start + CHUNK]
            try:
                with _Clean(self):
                    results += self._chunk(kind, flags, chunk)
            except Repeat:
                results += [self._one(kind, flags, body) for body in chunk]
        return results

    def in_turn(self, kind: int, flags: int, bodies: Iterable[bytes]) -> list[KernelError | None]:
        """As `batch`, of at most `CHUNK` changes: but each is done before the next body is asked for. Whoever makes them asks
        nothing else here meanwhile: what the kernel said is read at the end. KernelError when some of that was lost."""
        try:
            with _Clean(self):
                pack, transmit = HEADER.pack, self._wire.transmit
                first = end = self._wire.reserve(CHUNK + 1)
                for body in bodies:
                    transmit(pack(HEADER_BYTES + len(body), kind, flags | NLM_F_REQUEST, end, 0) + body)
                    end += 1
                transmit(pack(HEADER_BYTES, _NOOP, NLM_F_REQUEST | NLM_F_ACK, end, 0))
                return self._outcomes(range(first, end + 1))[:-1]
        except Repeat as lost:
            raise KernelError(errno.ENOBUFS, str(lost)) from lost

    def _dump_once(
        self,
        kind: int,
        flags: int,
        body: bytes,
        decode: Callable[[bytes], Row | None],
        first: First[Row] | None,
        changes: Witness,
    ) -> list[Row]:
        rows: list[Row] = []
        append = rows.append
        expected = self._wire.send(kind, flags | NLM_F_REQUEST | NLM_F_DUMP, body)
        port = self._wire.port
        strays = parts = 0
        while True:
            datagram = self._wire.receive()
            at, of_ours = 0, int(_is_list(datagram, expected, port))
            if of_ours:  # that is said of its first message, and of those that say the same
                taken = first(datagram) if first else None
                several, at = taken or _one_by_one(datagram, decode)
                rows += several
            for type_, flags_, sequence, to, answer in messages(datagram, at):
                if sequence != expected or to != port:
                    strays = _count_stray(strays)
                    continue
                if flags_ & _DUMP_INTR or type_ == _OVERRUN:
                    raise Repeat(_CHANGED)
                if type_ >= _FIRST_OWN:
                    of_ours = 1
                    row = decode(answer)
                    if row is not None:
                        append(row)
                elif type_ in (_DONE, _ERROR):
                    _raise_refusal(type_, flags_, answer)
                    if parts + of_ours > 1 and changes.heard():  # one part is made in one go
                        raise Repeat(_CHANGED)
                    return rows
            parts += of_ours

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        answers: list[bytes] = []
        expected = self._wire.send(kind, flags | NLM_F_REQUEST | NLM_F_ACK, body)
        port = self._wire.port
        strays = 0
        while True:
            for type_, flags_, sequence, to, answer in messages(self._wire.receive()):
                if sequence != expected or to != port:
                    strays = _count_stray(strays)
                elif type_ >= _FIRST_OWN:
                    answers.append(answer)
                elif type_ == _ERROR:
                    error = error_in(answer, flags_, with_request=True)
                    if error:
                        raise error
                    return answers

    def _one(self, kind: int, flags: int, body: bytes) -> KernelError | None:
        try:
            self.request(kind, flags, body)
        except KernelError as error:
            return error
        return None

    def _chunk(self, kind: int, flags: int, bodies: Sequence[bytes]) -> list[KernelError | None]:
        """The last one asks for an acknowledgement; of the others only errors come back, each with its sequence number."""
        first = self._wire.reserve(len(bodies))
        sequences = range(first, first + len(bodies))
        sizes = map(add, map(len, bodies), repeat(HEADER_BYTES))
        asked = [flags | NLM_F_REQUEST] * len(bodies)
        asked[-1] |= NLM_F_ACK
        headers = map(HEADER.pack, sizes, repeat(kind), asked, sequences, repeat(0))
        self._wire.transmit(b"".join(map(add, headers, bodies)))
        return self._outcomes(sequences)

    def _outcomes(self, sequences: Sequence[int]) -> list[KernelError | None]:
        """What became of the messages with these numbers, of which the last one is acknowledged."""
        results: dict[int, KernelError | None] = dict.fromkeys(sequences)
        port = self._wire.port
        strays = 0
        while True:
            for type_, flags, sequence, to, answer in messages(self._wire.receive()):
                if type_ != _ERROR or to != port or sequence not in results:
                    strays = _count_stray(strays)
                    continue
                results[sequence] = error_in(answer, flags, with_request=True)
                if sequence == sequences[-1]:
                    return list(results.values())


def _raise_refusal(type_: int, flags: int, answer: bytes) -> None:
    """KernelError when the last message of a list says that it could not be made."""
    error = error_in(answer, flags, with_request=type_ == _ERROR)
    if error:
        raise error


def _is_list(datagram: bytes, expected: int, port: int) -> bool:
    """True when its first message is a part of the list that was asked for."""
    if len(datagram) < HEADER_BYTES:
        return False
    _, type_, flags, sequence, to = HEADER.unpack_from(datagram)
    return type_ >= _FIRST_OWN and not flags & _DUMP_INTR and sequence == expected and to == port


def _one_by_one(datagram: bytes, decode: Callable[[bytes], Row | None]) -> tuple[list[Row], int]:
    bodies, at = alike(datagram)
    return [row for row in map(decode, bodies) if row is not None], at


def _count_stray(strays: int) -> int:
    """Messages that answer no question of ours: a few are late, many mean that we wait for nothing."""
    if strays >= STRAYS:
        raise NotObserved("netlink messages came, but no answer to the question")
    return strays + 1


class _Clean:
    """Nothing of an exchange that went wrong is left for the next one."""

    def __init__(self, connection: Netlink) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        self._connection.close()
        if isinstance(error, ValueError):
            raise NotObserved(f"the kernel's answer is malformed: {error}") from error
