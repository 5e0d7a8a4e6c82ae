"""The control group of a program, while others take empty ones away."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading

import pytest

from reconciler.host import cgroup
from reconciler.model.marks import Mark
from reconciler.model.names import TunnelName

NAME = TunnelName("swept")


def test_a_group_that_is_swept_under_us_is_entered_all_the_same() -> None:
    """By another store that has a tunnel of this name: to move a process there takes longer than that."""
    if not cgroup.made(Mark(NAME, "0000", "0000")):
        pytest.skip("there is no cgroup v2 here, or it may not be written")
    cgroup.sweep(NAME)
    ended = threading.Event()
    marks = [Mark(NAME, f"{os.getpid() & 0xFFFF:04x}", f"{number:04x}") for number in range(40)]
    paths = [path for mark in marks if (path := cgroup.path_of(mark))]

    def sweep() -> None:
        while not ended.is_set():
            for path in paths:
                with contextlib.suppress(OSError):
                    os.rmdir(path)

    sweeping = threading.Thread(target=sweep)
    with contextlib.ExitStack() as after:
        after.callback(sweeping.join)
        after.callback(ended.set)
        sweeping.start()
        for mark in marks:
            program = subprocess.Popen(["sleep", "60"])
            after.callback(cgroup.remove, mark)
            after.callback(program.wait)
            after.callback(program.kill)
            cgroup.enter(mark, program.pid)
            assert program.pid in cgroup.members(mark)
