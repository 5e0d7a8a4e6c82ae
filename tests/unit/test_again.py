"""When the daemon makes the next pass, by what the last one reported."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconciler.daemon.report import Report
from reconciler.daemon.serve import Daemon
from reconciler.loop.commands import Session
from reconciler.model.names import TunnelName

A, B = TunnelName("a"), TunnelName("b")


@pytest.mark.parametrize(
    ("retries", "apart", "at_once"),
    [
        ((), (), False),
        (((A, 0.0),), (), True),
        (((A, 20.0),), (), False),
        (((A, 0.0),), (A,), False),
        (((A, 0.0), (B, 0.0)), (A,), True),
    ],
    ids=["nobody waits", "its time has come", "not yet", "it gets a pass of its own", "another one does"],
)
def test_who_waits(
    tmp_path: Path, retries: tuple[tuple[TunnelName, float], ...], apart: tuple[TunnelName, ...], at_once: bool
) -> None:
    daemon = Daemon(Session(tmp_path / "state", tmp_path / "run"), lambda *_: None)
    daemon._due.begun(time.monotonic())
    whole = SimpleNamespace(names=None, begun_s=time.monotonic())
    daemon._learn(whole, Report(retries=retries, apart=frozenset(apart)))  # type: ignore[arg-type]
    assert daemon._due.next_s is not None
    assert (daemon._due.next_s < time.monotonic() + 10) is at_once
