"""Those who work for the loop: what is given to one arrives whole or not at all, and who ends may be late."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

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
LONG = Lines(tuple(Line(number, A, "repaired", f"{number} {'x' * 400}") for number in range(400)))  # two pipes full


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


def pidfds() -> int:
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # that of the list itself
            count += "pidfd" in os.readlink(f"/proc/self/fd/{name}")
    return count
