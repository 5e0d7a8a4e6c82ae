"""One pass in a process of its own, and what it reports. Nothing it waits for can hold up the loop, and it may be killed
at any instant like any command."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from reconciler.daemon import control
from reconciler.daemon.tally import measured
from reconciler.errors import Bug, Locked, TunctlError
from reconciler.host.machine import Machine
from reconciler.kinds.nat import Table
from reconciler.loop import commands, interrupt
from reconciler.loop.commands import Session
from reconciler.loop.reconcile import Pass, Request, Watcher
from reconciler.loop.survey import Survey
from reconciler.loop.watch import Known
from reconciler.model.intent import Intent
from reconciler.model.meter import Work
from reconciler.model.names import TunnelName
from reconciler.model.plan import Outcome
from reconciler.model.policy import INTERVAL_S, policy_of
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Restart

_LENGTH = struct.Struct("=I")
WORKER_S = 300.0  # a pass that takes longer hangs: it is told to end, and then killed
ORDER_S = 2 * 86400.0  # an order has bounds of its own, which a user may set to a day

Say = Callable[[str, str, str | None], None]  # level, words, tunnel


class Repaired(NamedTuple):
    """A step that was done."""

    tunnel: TunnelName
    key: Hashable  # kind and identity
    verb: Verb
    text: str


class Report(NamedTuple):
    """What the loop has to know after a pass."""

    steps: tuple[Repaired, ...] = ()
    work: Work = Work()  # the same and what failed, in figures
    errors: tuple[tuple[TunnelName, str], ...] = ()
    notes: tuple[str, ...] = ()
    apart: frozenset[TunnelName] = frozenset()
    known: Known = Known()
    owners: tuple[tuple[TunnelName, int, int], ...] = ()  # name, pid, start ticks
    restarts: tuple[tuple[TunnelName, int, Restart], ...] = ()  # name, generation, how patient
    retry_s: float | None = None  # from now: the next attempt that some tunnel waits for
    interval_s: float = INTERVAL_S
    warnings: tuple[str, ...] = ()  # of manifests, also those that were said before
    files: frozenset[str] = frozenset()  # a change of one of these is a reason to look
    failure: str = ""
    locked: bool = False  # another tunctl was at work


Message = int | frozenset[TunnelName] | Report  # the port of its netlink socket, the tunnels it is about, at the end the report
Tell = Callable[[Message], None]


class Worker:
    """The loop's end of a pass that is going on."""

    def __init__(self, pid: int, reading: int, names: frozenset[TunnelName] | None, begun_s: float) -> None:
        self.pid = pid
        self.names = names  # None: whatever is due
        self.begun_s, self.deadline_s = begun_s, begun_s + WORKER_S
        self.is_told_to_end = False
        self.pidfd = os.pidfd_open(pid)
        self.ports: set[int] = set()
        self.has_reported = False
        self.is_order = False
        self._reading = reading
        self._buffer = bytearray()

    def fileno(self) -> int:
        return self._reading

    def read(self) -> Iterator[Message | None]:
        """What has come; None: nothing more will."""
        with suppress(BlockingIOError):
            while chunk := os.read(self._reading, 1 << 20):
                self._buffer += chunk
                yield from self._whole()
            yield None

    def _whole(self) -> Iterator[Message]:
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            yield pickle.loads(bytes(self._buffer[_LENGTH.size : end]))  # noqa: S301 - of our own child
            del self._buffer[:end]

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Its process has ended, or is about to: takes leave of it."""
        os.close(self._reading)
        os.close(self.pidfd)


def start(session: Session, request: Request, say: Say, begun_s: float) -> Worker:
    """Forks. `say`: how the pass tells, in its own process, what it does: level, words, tunnel."""
    return _fork(lambda tell: _pass(session, request, say, tell), request.scope, begun_s)


def start_order(session: Session, connection: socket.socket, text: bytes, begun_s: float) -> Worker:
    """Forks. What a user asked for through the control socket, which the process takes over."""
    one = _fork(lambda tell: control.serve(connection, text, session, tell), frozenset(), begun_s)
    one.is_order, one.deadline_s = True, begun_s + ORDER_S
    return one


def _fork(work: Callable[[Tell], None], names: frozenset[TunnelName] | None, begun_s: float) -> Worker:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            interrupt.listen()
            os.close(reading)
            work(lambda message: _tell(writing, message))
        except BaseException:  # told to end: the loop sees that nothing came
            os._exit(1)
        os._exit(0)
    os.close(writing)
    return Worker(pid, reading, names, begun_s)


def _tell(writing: int, message: Message) -> None:
    content = pickle.dumps(message)
    view = memoryview(_LENGTH.pack(len(content)) + content)
    while view:
        view = view[os.write(writing, view) :]


def _pass(session: Session, request: Request, say: Say, tell: Tell) -> None:
    def opened(machine: Machine) -> None:
        tell(machine.rtnl.port)

    def done(outcome: Outcome) -> None:
        if not outcome.error and not outcome.skipped:
            say("info", str(outcome.step), outcome.step.tunnel or None)

    watch = Watcher(done=done, about=tell)
    try:
        tell(_report(commands.keep(session, request, watch, opened)))
    except Locked as error:
        tell(Report(failure=error.message, locked=True))
    except TunctlError as error:
        tell(Report(failure=error.message))
    except Exception as error:
        tell(Report(failure=Bug.of(error).message))


def _report(passed: Pass) -> Report:
    seen = passed.after
    stored = seen.stored
    up = [intent for intent in stored.intents if intent.is_wanted_up(seen.facts.boot_id)]
    retries = [i.progress.next_retry_us for i in up if i.progress.state == "waiting" and i.progress.next_retry_us]
    links = {one.ifindex: name for name in seen.found_by_tunnel if (one := seen.link_of(name)) is not None and one.ifindex}
    owners = [(name, own.pid, own.start_ticks) for name in seen.found_by_tunnel if (own := seen.owner_of(name)) is not None]
    return Report(
        tuple(
            Repaired(o.step.tunnel, (o.step.resource.kind, o.step.resource.key), o.step.verb, str(o.step.resource))
            for o in passed.outcomes
            if not o.error and not o.skipped
        ),
        measured(passed.outcomes),
        tuple((name, error.message) for name, error in passed.errors),
        passed.warnings,
        passed.apart,
        Known(
            links,
            frozenset(i.tunnel.interface for i in up if i.tunnel.interface),
            seen.numbers,
            any(isinstance(one, Table) for one in seen.found.resources),
        ),
        tuple((name, pid, ticks) for name, pid, ticks in owners if pid and ticks),
        tuple((i.name, i.generation, i.tunnel.restart) for i in up),
        (min(retries) - seen.facts.now_us) / 1e6 if retries else None,
        min((policy_of(source.host for source in stored.sources).interval_s, *_refreshes_s(up))),
        _warnings(seen),
        _files(up),
    )


def _refreshes_s(up: Iterable[Intent]) -> Iterator[float]:
    """How often manifests are read again, whether their files tell of a change or not."""
    return (one.refresh_s for intent in up for one in intent.tunnel.manifests.values())


def _warnings(seen: Survey) -> tuple[str, ...]:
    if not seen.facts.whereabouts:
        return ()
    from reconciler.layout import whereabouts

    intents = seen.stored.intents
    expired = (f"{name}: {reason}" for name, reason in whereabouts.expired(intents, seen.facts))
    return (*whereabouts.warnings(intents, seen.facts), *expired)


def _files(up: list[Intent]) -> frozenset[str]:
    if not any(intent.tunnel.manifests for intent in up):
        return frozenset()
    from reconciler.observe import manifest

    return manifest.paths(up)
