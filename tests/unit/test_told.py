"""What the daemon says of errors: each once, until it is another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.daemon.report import Report
from reconciler.daemon.serve import Daemon
from reconciler.errors import Unavailable
from reconciler.loop.commands import Session
from reconciler.model.names import TunnelName

A, B = TunnelName("a"), TunnelName("b")


@pytest.fixture
def said() -> list[tuple[str, str | None]]:
    return []


@pytest.fixture
def daemon(tmp_path: Path, said: list[tuple[str, str | None]]) -> Daemon:
    return Daemon(Session(tmp_path / "state", tmp_path / "run"), lambda _level, words, tunnel: said.append((words, tunnel)))


def test_once_until_it_is_another_one(daemon: Daemon, said: list[tuple[str, str | None]]) -> None:
    daemon._tell({A: "no device"})
    daemon._tell({A: "no device"})
    daemon._tell({A: "no program"})
    daemon._tell({})
    daemon._tell({A: "no program"})
    assert said == [("no device", A), ("no program", A), ("no program", A)]


def test_of_one_tunnel(daemon: Daemon, said: list[tuple[str, str | None]]) -> None:
    daemon._tell({A: "no device", B: "no program"})
    daemon._tell({}, about=frozenset((B,)))
    daemon._tell({A: "no device", B: "no program"})
    assert said == [("no device", A), ("no program", B), ("no program", B)]


def test_trouble_of_its_own_is_no_reason_to_say_all_again(
    daemon: Daemon, said: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_now_s: float) -> None:
        raise Unavailable("no process for a pass")

    monkeypatch.setattr(daemon, "_start_all", no_room)
    daemon._tell({A: "no device"})
    daemon._start_due()
    daemon._start_due()
    daemon._learn(None, Report(failure="the store is locked"))  # type: ignore[arg-type]
    daemon._tell({A: "no device"})
    assert said == [("no device", A), ("no process for a pass", None), ("the store is locked", None)]
