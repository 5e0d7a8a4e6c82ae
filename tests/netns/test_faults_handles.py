"""Faults of what is only a hint: handles.json lost, damaged, planted, of another boot; pids that are somebody else's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns.faults import PYTHON, Case, assert_clean, cases, marked, state
from tests.netns.world import Host, wait_until


@pytest.fixture
def case(host: Host) -> Iterator[Case]:
    """A program that opens tun-demo itself, up and connected."""
    with cases(host, "program") as made:
        yield made


def _start_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _damage(path: Path) -> dict[str, Callable[[], object]]:
    good = json.loads(path.read_text())

    def directory() -> None:
        path.unlink()
        (path / "x").mkdir(parents=True)

    def fifo() -> None:
        path.unlink()
        os.mkfifo(path)

    def symlink() -> None:
        path.rename(path.with_name("elsewhere"))
        path.symlink_to("elsewhere")

    def world_writable() -> None:
        path.chmod(0o666)

    return {
        "empty": lambda: path.write_text(""),
        "cut": lambda: path.write_text('{"pid": '),
        "list": lambda: path.write_text("[]"),
        "wrong types": lambda: path.write_text(json.dumps({**good, "pid": "4711", "ifindex": [1]})),
        "negative": lambda: path.write_text(json.dumps({**good, "pid": -1})),
        "other version": lambda: path.write_text(json.dumps({**good, "version": 99})),
        "another tunnel": lambda: path.write_text(json.dumps({**good, "name": "../../etc"})),
        "deep": lambda: path.write_text("[" * 100_000),
        "binary": lambda: path.write_bytes(os.urandom(4096)),
        "huge": lambda: path.write_bytes(b"x" * 2_000_000),
        "directory": directory,
        "fifo": fifo,
        "symlink": symlink,
        "world-writable": world_writable,
    }


KINDS = (
    "empty", "cut", "list", "wrong types", "negative", "other version", "another tunnel", "deep", "binary", "huge", "directory",
    "fifo", "symlink", "world-writable",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_handles_cost_nothing(case: Case, kind: str) -> None:
    path = case.handles
    wanted, owners = state(case.host), marked(case.host)
    _damage(path)[kind]()
    before = path.lstat()
    status = case.tunctl.json("status", "demo")
    assert status["tunnels"][0]["verdict"] == "connected"
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns), "status touched it"
    done = case.tunctl.run("reconcile")
    assert str(path) in done.stderr, f"the next command that writes names it: {done}"
    assert (state(case.host), marked(case.host)) == (wanted, owners), "nothing was started or stopped"
    assert json.loads(path.read_text())["pid"] == int(owners[0].split()[-1]), "rebuilt from the kernel"
    assert path.with_name("handles.json.corrupt").exists() or path.with_name("handles.json.corrupt").is_symlink()
    again = case.tunctl.run("reconcile")
    assert str(path) not in again.stderr
    case.tunctl.run("down", "demo")
    assert_clean(case.host, case.before)


@pytest.mark.parametrize("kind", ["cut", "binary", "fifo", "directory", "symlink"])
def test_down_with_damaged_handles(case: Case, kind: str) -> None:
    _damage(case.handles)[kind]()
    case.tunctl.run("down", "demo")
    assert_clean(case.host, case.before)


@pytest.mark.parametrize("what", ["file", "directory", "run directory"])
def test_missing_handles_cost_nothing(case: Case, what: str) -> None:
    wanted, owners = state(case.host), marked(case.host)
    if what == "file":
        case.handles.unlink()
    else:
        shutil.rmtree(case.handles.parent if what == "directory" else case.host.run_dir)
    assert case.tunctl.json("status", "demo")["tunnels"][0]["verdict"] == "connected"
    assert case.tunctl.run("plan").stderr == ""
    done = case.tunctl.run("apply", case.file)
    assert done.stderr == "", "no noise about it"
    assert "no changes" in done.stdout
    assert (state(case.host), marked(case.host)) == (wanted, owners)
    assert json.loads(case.handles.read_text())["pid"] == int(owners[0].split()[-1])
    shutil.rmtree(case.host.run_dir)
    case.tunctl.run("down", "demo")
    assert_clean(case.host, case.before)


def test_the_recorded_pid_is_dead_but_another_process_of_ours_holds_the_interface(host: Host) -> None:
    with cases(host, "program", words=("background",)) as case:
        handle = json.loads(case.handles.read_text())
        live = int(marked(host)[0].split()[-1])
        case.handles.write_text(json.dumps({**handle, "pid": 999_999, "start_ticks": 1}))
        (tunnel,) = case.tunctl.json("status", "demo")["tunnels"]
        assert (tunnel["verdict"], tunnel["owner"]["pid"], tunnel["owner"]["running"]) == ("connected", live, True)
        assert "999999 (not running)" in case.tunctl.run("status", "demo").stdout
        done = case.tunctl.run("reconcile")
        assert "no changes" in done.stdout
        assert json.loads(case.handles.read_text())["pid"] == live


@pytest.mark.parametrize("ticks", ["wrong", "right"])
@pytest.mark.parametrize("command", ["down", "apply", "forget"])
def test_a_reused_pid_is_never_signalled(case: Case, ticks: str, command: str) -> None:
    innocent = case.host.start(["sleep", "300"])
    wait_until(lambda: Path(f"/proc/{innocent.pid}/comm").read_text() == "sleep\n")
    handle = json.loads(case.handles.read_text())
    start = _start_ticks(innocent.pid) if ticks == "right" else handle["start_ticks"]
    case.handles.write_text(json.dumps({**handle, "pid": innocent.pid, "start_ticks": start}))
    assert case.tunctl.json("status", "demo")["tunnels"][0]["verdict"] == "connected"
    words = {"down": ["down", "demo"], "apply": ["apply", case.file], "forget": ["forget", "demo"]}[command]
    done = case.tunctl.run(*words)
    assert innocent.poll() is None
    assert f"refusing to signal pid {innocent.pid}" in done.stderr
    if command != "apply":
        case.host.kill(innocent)
        assert_clean(case.host, case.before)


def test_handles_of_another_boot_are_ignored_whole(case: Case) -> None:
    innocent = case.host.start(["sleep", "300"])
    wanted, owners = state(case.host), marked(case.host)
    handle = json.loads(case.handles.read_text())
    foreign = {**handle, "boot_id": "0" * 8 + handle["boot_id"][8:], "pid": innocent.pid, "ifindex": 1, "interface": "lo"}
    foreign |= {"start_ticks": _start_ticks(innocent.pid), "fingerprint": "0" * 32}
    case.handles.write_text(json.dumps(foreign))
    assert case.tunctl.json("status", "demo")["tunnels"][0]["verdict"] == "connected"
    done = case.tunctl.run("reconcile")
    assert ("no changes" in done.stdout, done.stderr) == (True, "")
    assert (state(case.host), marked(case.host)) == (wanted, owners)
    case.handles.write_text(json.dumps(foreign))
    case.tunctl.run("down", "demo")
    assert innocent.poll() is None
    case.host.kill(innocent)
    assert_clean(case.host, case.before)


def test_a_program_that_was_replaced_on_disk_is_still_recognised(host: Host) -> None:
    shutil.copy(PYTHON, host.dir / "labvpn")
    with cases(host, "program", command=f'"{host.dir}/labvpn", "{host.dir}/holder.py"') as case:
        owners = marked(host)
        shutil.copy(PYTHON, host.dir / "labvpn.new")
        (host.dir / "labvpn.new").rename(host.dir / "labvpn")
        pid = int(owners[0].split()[-1])
        assert os.readlink(f"/proc/{pid}/exe").endswith("labvpn (deleted)")
        (tunnel,) = case.tunctl.json("status", "demo")["tunnels"]
        assert (tunnel["verdict"], tunnel["owner"]["pid"]) == ("connected", pid)
        case.handles.unlink()
        assert "no changes" in case.tunctl.run("apply", case.file).stdout
        assert marked(host) == owners
        case.tunctl.run("down", "demo")
        assert_clean(host, case.before)


@pytest.mark.parametrize("device", ["program", "tunctl"])
def test_after_a_reboot_only_the_wish_is_left(host: Host, device: str) -> None:
    with cases(host, device) as case:
        for owner in marked(host):
            subprocess.run(["kill", "-9", owner.split()[-1]], check=True)
        host.ip("link del tun-demo", check=False)
        host.ip("route flush proto 115 table all", check=False)
        wait_until(lambda: not marked(host))
        handle = json.loads(case.handles.read_text())
        case.handles.write_text(json.dumps({**handle, "boot_id": "another"}))
        assert case.tunctl.json("status", "demo", expect=2)["tunnels"][0]["verdict"] == "stale"
        case.tunctl.run("reconcile")
        assert case.tunctl.json("status", "demo")["tunnels"][0]["verdict"] == "connected"
        assert state(host) == case.wanted
