"""The entry point, whatever stands behind its descriptors."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


def _run(tmp_path: Path, line: str) -> subprocess.CompletedProcess[str]:
    """`tunctl` in a line of shell, with nothing declared."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    environment |= {"TUNCTL_STATE_DIR": str(tmp_path / "state"), "TUNCTL_RUN_DIR": str(tmp_path / "run")}
    script = f"tunctl() {{ '{sys.executable}' -m reconciler \"$@\"; }}; {line}"
    return subprocess.run(["sh", "-c", script], env=environment, cwd=tmp_path, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("words", ["status", "version", "check desired.toml", "history --json"])
@pytest.mark.parametrize("behind", [">&-", "<&-", ">&- 2>&-", "2>/dev/full"])
def test_streams_that_are_closed_change_no_exit_code(tmp_path: Path, words: str, behind: str) -> None:
    (tmp_path / "desired.toml").write_text("version = 1\n")
    done = _run(tmp_path, f"tunctl {words} {behind}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [
        "status", "version", "check desired.toml", "history --json", "metrics", "schema", "key generate --type x25519",
        "--help", "apply --help",
    ],
)  # fmt: skip
def test_what_a_full_disk_has_swallowed_is_not_taken_for_the_whole(tmp_path: Path, words: str) -> None:
    (tmp_path / "desired.toml").write_text("version = 1\n")
    done = _run(tmp_path, f"tunctl {words} >/dev/full")
    assert (done.returncode, done.stderr) == (74, "error: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize("words", ["status", "version"])
def test_reader_that_went_away_is_no_error(tmp_path: Path, words: str) -> None:
    done = _run(tmp_path, f"{{ sleep 0.2; tunctl {words}; echo $? >code; }} | true; cat code")
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_closed_streams_are_no_place_for_the_store(tmp_path: Path) -> None:
    """What is opened next would be descriptor 1 and 2, and words would be written into it."""
    done = _run(tmp_path, "tunctl check absent.toml >&- 2>&-; echo $?; tunctl check absent.toml")
    assert done.stdout == "65\n"
    assert done.stderr == "error: absent.toml: no such file or directory\n"


def test_ctrl_c_is_no_traceback(tmp_path: Path) -> None:
    """`status` waits for a store that somebody has locked; it ends as any program does."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    with sqlite3.connect(state / "intent.db", isolation_level=None) as locked:
        locked.execute("CREATE TABLE some (thing)")
        locked.execute("BEGIN EXCLUSIVE")
        assert _interrupted(state, tmp_path / "run") == (-signal.SIGINT, "")


def _interrupted(state: Path, run: Path) -> tuple[int, str]:
    """Ctrl-C while `status` waits for the store: its exit code, and what it said."""
    words = [sys.executable, "-m", "reconciler", "status", "--state-dir", str(state), "--run-dir", str(run)]
    argv = ["env", "--default-signal=INT", *words]  # who runs in the background of a shell ignores it
    process = subprocess.Popen(argv, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 10
    while process.poll() is None and "sqlite" not in _maps(process.pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    return process.returncode, out + err


def _maps(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/maps").read_text()
    return ""


@pytest.mark.parametrize("words", ["", "key"])
def test_without_a_command_it_helps(tmp_path: Path, words: str) -> None:
    done = _run(tmp_path, f"tunctl {words}")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("Usage: tunctl")
