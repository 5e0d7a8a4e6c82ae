"""The short way, where it does not come far."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reconciler.cli.short import directory, run_short
from reconciler.errors import UsageError


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that was removed."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # nothing of what is loaded here is for commands


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("words", ["apply /d.toml", "reconcile", "up demo", "down demo", "status", "plan /d.toml"])
def test_a_directory_that_is_relative_to_nothing(capfd: pytest.CaptureFixture[str], words: str) -> None:
    assert run_short([*words.split(), "--run-dir", "run", "--state-dir", "state"]) == 64
    assert "state: the working directory is gone" in capfd.readouterr().err


@pytest.mark.usefixtures("nowhere")
def test_one_that_is_not_relative_does_not_care(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNCTL_RUN_DIR", "run")
    assert directory("/there", "RUN") == "/there"
    with pytest.raises(UsageError, match="run: the working directory is gone"):
        directory("", "RUN")
