"""Faults of the store and of the places where tunctl keeps things: locked, cut off, damaged, full, read-only, planted."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.engines import kill
from tests.netns.faults import Case, assert_clean, cases, marked, state, tun_file
from tests.netns.warm import Warm
from tests.netns.world import Host, wait_until

# Begins a change so big that it reaches the file, and dies: a hot journal stays.
_CUT_OFF = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE intent SET held = 1")
connection.execute("CREATE TABLE padding (text)")
for _ in range(300):
    connection.execute("INSERT INTO padding VALUES (?)", ("x" * 4000,))
os.kill(os.getpid(), signal.SIGKILL)
"""
_LOCKS = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def tunctl(host: Host) -> Iterator[Warm]:
    with Warm(host) as warm:
        yield warm


@pytest.fixture
def case(host: Host) -> Iterator[Case]:
    with cases(host, "tunctl") as made:
        yield made


def _database(host: Host) -> Path:
    return host.state_dir / "intent.db"


def test_a_store_that_somebody_has_locked(case: Case) -> None:
    host = case.host
    locker = host.start([sys.executable, "-c", _LOCKS, str(_database(host))], log="locker.log")
    wait_until(lambda: (host.dir / "locker.log").read_text() == "locked\n")
    more = tun_file(host, "other", source="more")
    for words in (("apply", more), ("down", "demo"), ("reconcile",), ("status",), ("plan",), ("forget", "demo")):
        begun = time.monotonic()
        done = case.tunctl.run(*words, expect=74)
        assert time.monotonic() - begun < 4, words
        assert str(_database(host)) in done.stderr
        assert f"pid {locker.pid}" in done.stderr, "its holder is named"
        assert state(host) == case.wanted, words
    host.kill(locker)
    case.tunctl.run("apply", more)
    case.tunctl.run("down", "--all")
    assert_clean(host, case.before)


def test_a_writer_that_was_killed_in_the_middle_of_a_change(case: Case) -> None:
    host = case.host
    done = subprocess.run([sys.executable, "-c", _CUT_OFF, str(_database(host))], check=False)
    assert done.returncode == -signal.SIGKILL
    assert _database(host).with_name("intent.db-journal").stat().st_size > 0
    status = case.tunctl.run("status", expect=None)
    assert status.returncode == 74 or '"held": true' not in status.stdout, status
    assert "no changes" in case.tunctl.run("reconcile").stdout, "the last committed wish counts"
    assert (state(host), len(marked(host))) == (case.wanted, 1)
    (tunnel,) = case.tunctl.json("status", "demo")["tunnels"]
    assert not tunnel["held"]
    with sqlite3.connect(f"file:{_database(host)}?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def _spoil(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("x")
    elif how == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif how == "pages":
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
    elif how == "foreign":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
    elif how == "directory":
        path.unlink()
        path.mkdir()
    elif how == "symlink":
        path.rename(path.with_name("elsewhere.db"))
        path.symlink_to("elsewhere.db")


@pytest.mark.parametrize("how", ["text", "cut", "pages", "foreign", "directory", "symlink"])
def test_a_damaged_store(case: Case, how: str) -> None:
    host, path = case.host, _database(case.host)
    _spoil(path, how)
    for words in (
        ("status",),
        ("plan",),
        ("reconcile",),
        ("apply", case.file),
        ("down", "demo"),
        ("forget", "--all"),
        ("show", "demo"),
    ):
        done = case.tunctl.run(*words, expect=74)
        assert str(path) in done.stderr, words
        assert state(host) == case.wanted, f"{words}: the kernel stays untouched"
    done = case.tunctl.run("down", "--all", expect=74)
    assert "cannot be given back" in done.stderr
    assert state(host) == case.before
    shutil.rmtree(host.state_dir)
    assert_clean(host, case.before)
    case.tunctl.run("apply", case.file)
    assert state(host) == case.wanted


def test_the_store_is_lost_and_the_same_file_applied_again(case: Case) -> None:
    """Another store, so what is there is an orphan: named, left alone, adopted on request."""
    host = case.host
    shutil.rmtree(host.state_dir)
    owners_before = host.pids()
    status = case.tunctl.json("status")
    assert [o["interface"] for o in status["orphans"]] == ["tun-demo"], status
    done = case.tunctl.run("apply", case.file, expect=73)
    assert "tun-demo" in done.stdout + done.stderr
    assert state(host) == case.wanted
    case.tunctl.run("apply", case.file, "--adopt")
    case.tunctl.run("status", "demo")
    assert len(host.pids()) == len(owners_before)
    case.tunctl.run("down", "--all")
    assert_clean(host, case.before)


def test_orphans_are_removed_on_request(case: Case) -> None:
    host = case.host
    shutil.rmtree(host.state_dir)
    case.tunctl.run("down", "--orphans")
    assert "tun-demo" not in host.ip("link")
    assert host.pids() == []
    case.tunctl.run("down", "--orphans")
    assert state(host) == case.before, "routes and rules too"


def _small(host: Host, directory: Path, options: str) -> list[str]:
    """The beginning of a command line for which `directory` is on a file system of its own."""
    directory.mkdir(exist_ok=True)
    keeper = host.start(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o {options} tmpfs {directory} && echo ready && exec sleep 300"],
        log="keeper.log",
    )
    wait_until(lambda: "ready" in (host.dir / "keeper.log").read_text())
    return ["nsenter", "-t", str(keeper.pid), "-m"]


@pytest.mark.parametrize("which", ["state", "run"])
@pytest.mark.parametrize("room", [0, 8, 64])
def test_a_full_disk(host: Host, which: str, room: int) -> None:
    """With `room` KiB left: all or nothing, never a tunnel that the store does not know."""
    before = state(host)
    directory = host.state_dir if which == "state" else host.run_dir
    inside = _small(host, directory, "size=600k,mode=755")
    file = tun_file(host, "demo", "two")
    fill = f'dd if=/dev/zero of={directory}/lost+found bs=1024 count={600 - room} 2>/dev/null; exec "$@"'
    done = host.run([*inside, "sh", "-c", fill, "sh", *host.tunctl_argv("apply", file)], check=False)
    assert "Traceback" not in done.stderr
    if done.returncode != 0:
        assert done.returncode in ((74,) if which == "state" else (1, 69, 74)), done
        assert "space" in done.stderr.lower() or "full" in done.stderr.lower(), done
    if which == "state" and done.returncode:
        assert state(host) == before, "stopped before anything was changed"
    down = host.run([*inside, *host.tunctl_argv("down", "--all")], check=False)
    assert state(host) == before, down
    host.run([*inside, "sh", "-c", f"rm {directory}/lost+found"])
    host.run([*inside, *host.tunctl_argv("apply", file)])
    host.run([*inside, *host.tunctl_argv("plan")])
    host.run([*inside, *host.tunctl_argv("down", "--all")])
    assert state(host) == before


def test_a_read_only_state_directory(case: Case) -> None:
    host = case.host
    mount = f'mount --bind {host.state_dir} {host.state_dir} && mount -o remount,ro,bind {host.state_dir} && exec "$@"'
    read_only = ["unshare", "-m", "sh", "-c", mount, "sh"]
    more = tun_file(host, "other", source="more")
    assert host.run([*read_only, *host.tunctl_argv("reconcile")]).stdout == "no changes\n", "nothing to do, nothing to write"
    host.ip("route del 10.9.128.0/20")
    broken = state(host)
    for words in (("apply", more), ("reconcile",), ("down", "demo"), ("forget", "--all")):
        done = host.run([*read_only, *host.tunctl_argv(*words)], check=False)
        assert done.returncode == 74, (words, done)
        assert str(host.state_dir) in done.stderr
        assert state(host) == broken, words
    assert host.run([*read_only, *host.tunctl_argv("status", "demo")], check=False).returncode == 3
    assert host.run([*read_only, *host.tunctl_argv("plan")], check=False).returncode == 2


def test_what_was_planted_in_the_run_directory(host: Host, tunctl: Warm) -> None:
    """Symlinks and FIFOs under the names that tunctl writes: not followed, not waited for, replaced or refused."""
    victim = host.write("victim", "precious")
    place = host.run_dir / "tunnels" / "demo"
    place.mkdir(parents=True)
    (place / "handles.json").symlink_to(victim)
    (place / "owner.log").symlink_to(victim)
    with cases(host, "tunctl") as case:
        assert victim.read_text() == "precious"
        assert not (place / "handles.json").is_symlink()
        case.tunctl.run("down", "demo")
        assert victim.read_text() == "precious"
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(host.dir / "elsewhere")
        (host.dir / "elsewhere").mkdir(exist_ok=True)
        (host.dir / "elsewhere" / "handles.json").write_text("{}")
        case.tunctl.run("up", "demo", expect=None)
        case.tunctl.run("down", "demo", expect=None)
        assert (host.dir / "elsewhere" / "handles.json").read_text() == "{}", "what is outside stays"


@pytest.mark.parametrize("which", ["state", "run"])
@pytest.mark.parametrize("how", ["world-writable", "of another user"])
def test_a_directory_that_others_can_write(host: Host, tunctl: Warm, which: str, how: str) -> None:
    before = state(host)
    directory = host.state_dir if which == "state" else host.run_dir
    directory.mkdir()
    if how == "world-writable":
        directory.chmod(0o777)
    else:
        os.chown(directory, 65534, 65534)
    done = tunctl.run("apply", tun_file(host, "demo"), expect=None)
    assert done.returncode in (73, 74), done
    assert str(directory) in done.stderr
    assert state(host) == before


def test_a_lock_that_is_a_symlink(host: Host, tunctl: Warm) -> None:
    victim = host.write("victim", "precious")
    host.run_dir.mkdir()
    (host.run_dir / "lock").symlink_to(victim)
    tunctl.run("apply", tun_file(host, "demo"), expect=73)
    assert victim.read_text() == "precious"
    assert "tun-demo" not in host.ip("link")


def test_a_desired_file_that_everybody_can_write(host: Host, tunctl: Warm) -> None:
    file = tun_file(host, "demo")
    file.chmod(0o666)
    tunctl.run("apply", file, expect=65)
    assert "tun-demo" not in host.ip("link")


@pytest.mark.parametrize("shift_s", [86_400, -86_400])
def test_the_clock_jumped(case: Case, shift_s: int) -> None:
    """The store was written by a clock that was a day ahead, or behind: no verdict, and no pass, depends on it."""
    with sqlite3.connect(_database(case.host)) as connection:
        connection.execute(
            "UPDATE intent SET since_us = since_us + ?, up_since_us = up_since_us + ?", (shift_s * 1_000_000,) * 2
        )
    (tunnel,) = case.tunctl.json("status", "demo")["tunnels"]
    assert tunnel["verdict"] == "connected"
    assert tunnel["duration_seconds"] >= 0
    text = case.tunctl.run("status", "demo").stdout
    assert ("just now" in text) if shift_s > 0 else ("1 day" in text), text
    assert "-" not in text.split("Status:")[1].split(";")[1].split("\n")[0]
    assert "no changes" in case.tunctl.run("reconcile").stdout
    kill(int(marked(case.host)[0].split()[-1]))
    case.tunctl.run("reconcile")
    assert case.tunctl.json("status", "demo")["tunnels"][0]["verdict"] == "connected"
