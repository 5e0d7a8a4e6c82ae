"""The loop's end of a process that works: a pass, or a user's order. Nothing it waits for can hold up the loop, and it may
be killed at any instant like any command."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from math import inf
from typing import TYPE_CHECKING, cast

from reconciler.daemon import lookups, passes, rounds
from reconciler.daemon.channel import packed, unpacked
from reconciler.daemon.lookups import LOOK_UP_S
from reconciler.daemon.passes import Asked, Message, Tell
from reconciler.daemon.rounds import ROUND_S
from reconciler.daemon.say import Say
from reconciler.errors import Unavailable
from reconciler.lean import suppress
from reconciler.loop import interrupt
from reconciler.loop.commands import Session
from reconciler.model.names import TunnelName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WORKER_S = 300.0  # a pass that takes longer hangs: it is told to end, and then killed
ORDER_S = 2 * 86400.0  # an order has bounds of its own, which a user may set to a day
_STDERR = 2
_CHUNK = 1 << 18
_ENDS = (signal.SIGTERM, signal.SIGINT)


class Worker:
    """A process, and what it is at."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        """OSError when nothing can be known of it: it is ended."""
        try:
            self.pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # ours, and not waited for: nobody else has this pid
            os.waitpid(pid, 0)
            raise
        self.pid = pid
        self.names: frozenset[TunnelName] | None = frozenset()  # what it works on; None: whatever is due
        self.begun_s, self.deadline_s = 0.0, inf
        self.ports: set[int] = set()
        self.is_told_to_end = self.has_reported = self.is_order = self.is_round = self.is_lookup = False
        self.is_resting = self.has_rehearsed = False  # it would begin at once with what it is given; and quickly
        self.asked: tuple[Asked, socket.socket] | None = None  # what a user asked for, until it has begun with it
        channel.setblocking(False)
        self._channel = channel
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def is_beside(self) -> bool:
        """It is at no tunnel, and may take its time."""
        return self.is_round or self.is_lookup

    def begin(self, names: frozenset[TunnelName] | None, now_s: float) -> None:
        """It has been given a pass."""
        self.names, self.has_reported = names, False
        self.begun_s, self.deadline_s = now_s, now_s + WORKER_S

    def serve(self, now_s: float) -> None:
        """It has been given what a user asked for."""
        self.begin(frozenset(), now_s)
        self.is_order, self.deadline_s = True, now_s + ORDER_S

    def rest(self) -> None:
        """It has done its pass, and waits for the next one."""
        self.names, self.deadline_s, self.is_resting = frozenset(), inf, True

    def give(self, order: object, *connections: int) -> bool:
        """Something to do. False: it is gone, or does not take it in. One that took a part in is given nothing more: it would
        take that for the rest."""
        content, self.is_resting = packed(order), False
        try:
            taken = socket.send_fds(self._channel, [content], connections)
        except OSError:
            return False
        if taken < len(content):
            self.dismiss()
        return taken == len(content)

    def ask(self, asked: Asked, connection: socket.socket) -> bool:
        """What a user asked for. It is kept until it says that it has taken it: it may be ending just now."""
        if not self.give(asked, connection.fileno()):
            return False
        with suppress(OSError):  # no descriptor left to keep it by
            self.asked = asked, connection.dup()
        return True

    def forget_asked(self) -> None:
        if self.asked is not None:
            self.asked[1].close()
            self.asked = None

    def read(self) -> Iterator[Message | None]:
        """What has come; None: nothing more will."""
        try:
            while chunk := self._channel.recv(_CHUNK):
                self._buffer += chunk
                yield from cast("Iterator[Message]", unpacked(self._buffer))
        except BlockingIOError:
            return
        except ConnectionResetError:  # it ended before it had taken in what it was given
            pass
        yield None

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def dismiss(self) -> None:
        """Nothing more will be asked of it: it ends by itself."""
        with suppress(OSError):  # it has ended
            self._channel.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Its process has ended, or is about to: takes leave of it."""
        self.forget_asked()
        self._channel.close()
        os.close(self.pidfd)


def start(session: Session, say: Say, first: object) -> Worker:
    """Forks a process for passes. `first`: what it begins with, without being given it, so it may be of any size. `say`: how
    it tells what it does."""
    return _fork(lambda channel, tell: passes.serve(session, say, channel, tell, first))


def start_order(session: Session, connection: socket.socket, text: bytes, now_s: float) -> Worker:
    """Forks. What a user asked for through the control socket, which the process takes over."""
    one = _fork(lambda _channel, tell: passes.serve_user(connection, text, session, tell), connection.fileno())
    one.serve(now_s)
    return one


def start_round(session: Session, now_s: float) -> Worker:
    """Forks. A round of health checks."""
    one = _fork(lambda _channel, tell: rounds.serve(session, tell))
    one.begin(frozenset(), now_s)
    one.is_round, one.deadline_s = True, now_s + ROUND_S
    return one


def start_lookup(session: Session, now_s: float) -> Worker:
    """Forks. A look-up of the names of endpoints."""
    one = _fork(lambda _channel, tell: lookups.serve(session, tell))
    one.begin(frozenset(), now_s)
    one.is_lookup, one.deadline_s = True, now_s + LOOK_UP_S
    return one


def _fork(work: Callable[[socket.socket, Tell], None], *kept: int) -> Worker:
    """Unavailable when there is no room for one more: descriptors, processes, memory."""
    with ExitStack() as opened:
        try:
            ours, theirs = map(opened.enter_context, socket.socketpair())
            one = Worker(_forked(work, theirs, *kept), ours)
        except OSError as error:
            words = f"no process for a pass: {error.strerror}"
            raise Unavailable(words, hint="raise the limits of the daemon") from error
        theirs.close()
        opened.pop_all()
    return one


def _forked(work: Callable[[socket.socket, Tell], None], channel: socket.socket, *kept: int) -> int:
    """The pid. In the child no way leads back."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # one that comes before the child listens is not lost
    try:
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                interrupt.listen()
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                _close_all_but(channel.fileno(), *kept)
                work(channel, lambda message: channel.sendall(packed(message)))
            except BaseException:  # told to end: the loop sees that nothing came
                os._exit(1)
            os._exit(0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _close_all_but(*kept: int) -> None:
    """What the loop has open is not its children's: a lock would outlive the daemon in them, and a pipe would never end."""
    low = _STDERR
    for descriptor in sorted(kept):
        os.closerange(low + 1, descriptor)
        low = descriptor
    os.closerange(low + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 1 << 20)
