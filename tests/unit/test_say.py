"""The daemon's log: a pipe that nobody reads holds up nothing."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reconciler.cli.output import Output
from reconciler.daemon.say import Log
from reconciler.host.bounded import Call

PAGE = 4096


@contextmanager
def nobody_reads() -> Iterator[int]:
    """Stderr is a pipe in which a single page is free; its other end."""
    reading, writing = os.pipe()
    os.write(writing, b"x" * (fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) - PAGE))
    before = sys.stderr
    try:
        with os.fdopen(writing, "w") as sys.stderr:
            yield reading
    finally:
        sys.stderr = before
        os.close(reading)


@pytest.mark.parametrize("log_json", [False, True])
@pytest.mark.parametrize("letter", ["a", '"', "ß", "\x1b", "𝄞"], ids=ascii)
def test_a_line_longer_than_the_room(letter: str, *, log_json: bool) -> None:
    with nobody_reads() as reader:
        log = Log(Output(log_json=log_json).note)
        Call(lambda: log.say("error", letter * 9000, "a" * 32)).result(20)  # TimeoutError: it waits for a reader
        Call(lambda: log.say("error", "lost")).result(20)
        said = os.read(reader, 1 << 20).lstrip(b"x").decode()
        assert said.endswith("\n"), "the whole line"
        assert "…" in said or "\\u2026" in said
        log.say("info", "short")
        more = os.read(reader, 1 << 20).decode()
        assert "short" in more
        assert "1 lines of the log were lost" in more
