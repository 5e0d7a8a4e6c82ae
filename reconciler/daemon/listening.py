"""All that may wake the loop besides its own passes. What comes in is judged by what the last pass knew."""

from __future__ import annotations

import os
import selectors
import signal
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from reconciler.daemon import notify
from reconciler.daemon.busears import BusEars
from reconciler.daemon.culprits import Culprits
from reconciler.daemon.protocol import SOCKET
from reconciler.daemon.report import Report
from reconciler.host import events, process
from reconciler.host.board import LOCK
from reconciler.host.clock import ClockSet
from reconciler.host.events import Event, Events
from reconciler.host.inotify import GONE, Inotify
from reconciler.loop import watch
from reconciler.loop.watch import Due, Known
from reconciler.model.nameservice import PATH
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_KINDS = {16: "link", 17: "link", 20: "address", 21: "address", 24: "route", 25: "route", 32: "rule", 33: "rule"}  # RTM_*

_RETIRED_S = 1.0  # events are read within a few milliseconds; a pid is not used again that soon

Heard = Callable[[Due], None]


class Ears:
    """Opened once; `know` after every pass."""

    def __init__(self, selector: selectors.BaseSelector, run_dir: str | Path) -> None:
        self._passes: set[int] = set()  # netlink ports and pids of those that are going on
        self._route: Events | None = None
        self._retired: dict[int, float] = {}  # of passes that ended: what they did may still be told
        self.culprits = Culprits()
        self._selector = selector
        self._ours = [
            os.path.join(run_dir, name) for name in (LOCK, SOCKET)
        ]  # in place of which others would find nobody, or another one
        self._known = Known()
        self._owners: dict[tuple[int, int], int] = {}  # pid and start ticks: pidfd
        self._heard: Heard = lambda _due: None
        self._files: Inotify | None = None
        self._bus = BusEars(selector, self.culprits, self._is_ours)
        self._is_ready = False

    @contextmanager
    def signals(self) -> Iterator[int]:
        """A descriptor from which the numbers of signals can be read. They do nothing else."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)

    def listen(self, heard: Heard) -> None:
        """Opens everything. NotObserved when the kernel does not tell its changes."""
        self._heard = heard
        self._route = Events(events.ROUTE, (*events.LINKS, *events.ADDRESSES, *events.ROUTES, *events.RULES))
        self._selector.register(self._route, selectors.EVENT_READ, self._events)
        self._selector.register(Events(events.NETFILTER, events.RULE_SETS), selectors.EVENT_READ, self._events)
        with suppress(OSError):  # without it the next look is later
            self._selector.register(ClockSet(), selectors.EVENT_READ, self._clock)
        with suppress(OSError):
            self._files = Inotify()
            self._files.watch(_names_configured())  # before the first look: nothing is missed in between
            self._files.watch(self._ours, GONE)
            self._selector.register(self._files, selectors.EVENT_READ, self._file)

    def know(self, report: Report) -> None:
        """What a pass found out: the links, the owners, the manifests, where names are configured."""
        self._known = report.known
        self._bus.listen(self._heard, wanted=report.known.resolves)
        if self._files is not None:
            is_new = self._files.watch(_names_configured() | report.files)
            if self._files.watch(self._ours, GONE) or is_new:
                self._heard(Due.NOW)  # what happened to them between the look and now was told to nobody
        owners = {(pid, ticks) for _, pid, ticks in report.owners}
        for key in self._owners.keys() - owners:
            self._forget(key)
        for key in owners - self._owners.keys():
            self._watch(*key)

    def expect(self, author: int) -> None:
        """A pass of this pid, or with this netlink port, has begun: what it causes is nothing to look at."""
        self._passes.add(author)
        self._pass_over()

    def retire(self, ports: Iterable[int]) -> None:
        """Their passes have ended."""
        now_s = time.monotonic()
        self._retired = {port: until_s for port, until_s in self._retired.items() if until_s > now_s}
        self._retired.update(dict.fromkeys(ports, now_s + _RETIRED_S))
        self._passes.difference_update(ports)
        self._pass_over()

    def _pass_over(self) -> None:
        if self._route is not None:
            self._route.pass_over(self._passes)

    def ready(self) -> None:
        """The first pass is done."""
        if not self._is_ready:
            notify.tell("READY=1")
        self._is_ready = True

    def _watch(self, pid: int, ticks: int) -> None:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._heard(Due.NOW)
            return
        except OSError:  # no descriptor is left: that it ends is seen by the next pass
            return
        if not process.is_alive(pid, ticks):
            os.close(descriptor)
            self._heard(Due.NOW)
            return
        self._owners[pid, ticks] = descriptor
        self._selector.register(descriptor, selectors.EVENT_READ, lambda _: self._owner_ended((pid, ticks)))

    def _owner_ended(self, key: tuple[int, int]) -> None:
        self._forget(key)
        self._heard(Due.NOW)

    def _forget(self, key: tuple[int, int]) -> None:
        descriptor = self._owners.pop(key)
        with suppress(KeyError):  # who ends is deaf already, while passes still report (crew.py)
            self._selector.unregister(descriptor)
        os.close(descriptor)

    def _events(self, source: Events) -> None:
        for event in source.read():
            if event is None:
                self._heard(Due.NOW)
            elif not self._is_ours(watch.author(event)):
                self._judge(event)

    def _is_ours(self, author: int) -> bool:
        return author != 0 and (author in self._passes or self._retired.get(author, 0.0) > time.monotonic())

    def _judge(self, event: Event) -> None:
        try:
            due = watch.judge(event, self._known)
            if due is Due.NOW:
                self.culprits.saw(_KINDS.get(event.kind, "nat"), watch.author(event))
                self._heard(due)
            elif due is Due.SOON:
                self._heard(due)
        except (ValueError, struct.error):
            self._heard(Due.NOW)

    def _clock(self, source: ClockSet) -> None:
        if source.read():
            self._heard(Due.NOW)

    def _file(self, source: Inotify) -> None:
        if source.read():
            self._heard(Due.NOW)


def _names_configured() -> frozenset[str]:
    """The file, and what it is a link to."""
    return frozenset((PATH, os.path.realpath(PATH)))
