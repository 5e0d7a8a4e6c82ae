"""Those who work for the loop: what is given to one arrives whole or not at all, and who ends may be late."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.daemon import passes
from reconciler.daemon.annals import Lines
from reconciler.daemon.crew import Crew
from reconciler.daemon.listening import Ears
from reconciler.daemon.report import Report
from reconciler.host import process
from reconciler.loop.commands import Session
from reconciler.model.names import TunnelName
from reconciler.store.stored import Line
from reconciler.store.write import Store
from tests.unit.store_of import put

A = TunnelName("a")
LONG = Lines(tuple(Line(number, A, "repaired", f"{number} {'x' * 400}") for number in range(900)))  # more than a socket takes


class Loop:
    """The loop, as far as its crew is concerned."""

    def __init__(self, directory: Path) -> None:
        self.selector = selectors.DefaultSelector()
        self.session = Session(directory / "state", directory / "run")
        self.ears = Ears(self.selector, self.session.run_dir)
        self.crew = Crew(self.selector, self.ears, self.session, lambda *_: None)

    def turn_until(self, done: Callable[[], bool]) -> bool:
        deadline_s = time.monotonic() + 30
        while not done() and time.monotonic() < deadline_s:
            for key, _ in self.selector.select(0.05):
                key.data(key.fileobj)
        return done()

    def rest(self) -> int:
        """One is warm: its pid."""
        self.crew.keep_one_warm()
        assert self.turn_until(lambda: self.crew._spare is not None and self.crew._spare.is_resting)
        assert self.crew._spare
        return self.crew._spare.pid

    def order(self) -> socket.socket:
        """Something that is no request: the end of the socket on which that is said."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.crew.order(theirs, b"{}", {}, time.monotonic())
        return ours

    def written(self) -> list[str]:
        with Store(self.session.state_dir) as store:
            return [event.cause or "" for event in store.history(A, 1000) if event.event == "repaired"]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    loop = Loop(tmp_path)
    with Store.open(loop.session.state_dir) as store:
        put(store, "a")
    yield loop
    loop.crew.end(Lines())
    loop.selector.close()


def test_more_than_a_pipe_takes_is_written_and_the_next_order_is_not_taken_for_its_end(loop: Loop) -> None:
    loop.crew.keep_one_warm()
    assert loop.crew.have_written(LONG)
    assert loop.crew.have_written(Lines((Line(1000, A, "repaired", "the next"),)))
    assert loop.turn_until(lambda: "the next" in loop.written())
    assert loop.written() == [*(line.cause for line in LONG.lines), "the next"]


def test_the_last_lines_may_be_as_many(loop: Loop) -> None:
    loop.crew.keep_one_warm()
    loop.crew.end(LONG)
    assert loop.written() == [line.cause for line in LONG.lines]


def test_a_program_that_ends_with_the_daemon_is_forgotten_all_the_same(loop: Loop) -> None:
    before = pidfds()
    with subprocess.Popen(["sleep", "60"]) as program:
        found = process.stat(program.pid)
        assert found
        loop.ears.know(Report(owners=((A, found.pid, found.start_ticks),)))
        watched = len(loop.selector.get_map())
        program.kill()
    loop.crew.keep_one_warm()
    loop.crew.end(Lines())
    assert len(loop.selector.get_map()) < watched, "its end was heard by one who listens to nobody any more"
    loop.ears.know(Report())
    assert pidfds() == before


def test_an_order_is_carried_out_by_whoever_rests(loop: Loop) -> None:
    loop.rest()
    before = children()
    with loop.order() as answer:
        assert children() == before
        assert b"this is no request of tunctl" in answer.recv(4096)
        assert loop.turn_until(lambda: loop.crew.is_idle)
        assert answer.recv(4096) == b"", "nobody has it open any more"
    loop.crew.reap()
    assert not loop.crew.have_written(Lines()), "who had a user's rights does nothing else"


def test_two_orders_are_carried_out_side_by_side(loop: Loop) -> None:
    loop.rest()
    before = children()
    with loop.order() as first, loop.order() as second:
        assert len(children() - before) == 1
        assert all(b"this is no request" in answer.recv(4096) for answer in (first, second))


def test_an_order_does_not_wait_for_whoever_is_at_something(loop: Loop) -> None:
    warm = loop.rest()
    os.kill(warm, signal.SIGSTOP)
    assert loop.crew.have_written(Lines())
    with loop.order() as answer:
        answer.settimeout(30)
        assert b"this is no request" in answer.recv(4096)
    os.kill(warm, signal.SIGCONT)


def test_who_was_killed_while_he_rested_holds_up_nothing(loop: Loop) -> None:
    warm = loop.rest()
    os.kill(warm, signal.SIGKILL)
    assert process.stat(warm) is None or loop.turn_until(lambda: process.stat(warm) is None)
    with loop.order() as answer:
        answer.settimeout(30)
        assert b"this is no request" in answer.recv(4096)


def test_whoever_rests_rehearses_once_when_there_is_time(loop: Loop) -> None:
    loop.rest()
    one = loop.crew._spare
    assert one
    assert one.has_rehearsed
    one.has_rehearsed = False  # as of one that has done a pass instead
    loop.crew.keep_one_warm(at_leisure=False)
    assert one.is_resting, "something was repaired just now"
    loop.crew.keep_one_warm()
    assert not one.is_resting, "it is at it, and an order does not wait for that"
    assert loop.turn_until(lambda: one.is_resting)
    loop.crew.keep_one_warm()
    assert one.is_resting


def test_a_pass_does_not_begin_beside_an_order_that_has_only_just_come(loop: Loop) -> None:
    due_s = time.monotonic()
    assert loop.crew.free_from_s(due_s) == due_s
    with loop.order():
        assert due_s < loop.crew.free_from_s(due_s) < due_s + 1
    assert loop.turn_until(lambda: loop.crew.is_idle)
    assert loop.crew.free_from_s(due_s) == due_s


def test_orders_without_end_put_a_pass_off_once(loop: Loop) -> None:
    due_s = time.monotonic()
    with loop.order():
        first_s = loop.crew.free_from_s(due_s)
        time.sleep(0.05)
        with loop.order():
            assert loop.crew.free_from_s(due_s) <= first_s
    loop.turn_until(lambda: loop.crew.is_idle)
    time.sleep(0.2)
    with loop.order():
        assert loop.crew.free_from_s(due_s) <= first_s, "whoever comes later, when it is overdue"


def test_an_order_is_not_lost_with_him_who_had_not_begun_with_it(loop: Loop) -> None:
    """He is ending: what he is given lies in his socket, and nobody reads it."""
    warm = loop.rest()
    os.kill(warm, signal.SIGSTOP)
    with loop.order() as answer:
        answer.settimeout(30)
        assert loop.crew._working.keys() == {warm}, "it looked as if he took it"
        os.kill(warm, signal.SIGKILL)
        assert loop.turn_until(lambda: warm not in loop.crew._working)
        assert b"this is no request" in answer.recv(4096)
        assert answer.recv(4096) == b"", "nobody else has it open"
    assert loop.turn_until(lambda: loop.crew.is_idle)


def test_what_a_user_asked_for_is_told_to_him_when_nobody_listens_to_whoever_does_it(loop: Loop) -> None:
    ours, theirs = socket.socketpair()

    def gone(_message: object) -> None:
        raise BrokenPipeError

    with ours, theirs:
        passes.serve_user(theirs, b"{}", loop.session, gone)
        assert b"this is no request" in ours.recv(4096)


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def pidfds() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the list itself
            count += "pidfd" in os.readlink(f"/proc/self/fd/{name}")
    return count
