"""Where things are measured: a network namespace that goes with the process, directories, and a clock for commands."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000  # linux/sched.h
LONGEST_S = 120


class Sample(NamedTuple):
    """One run of one command: from before the fork until it has been waited for."""

    seconds: float
    cpu_s: float
    rss_mb: float  # the most it had at once; 10^6 bytes
    code: int


class Stand:
    """A host of its own: state and run directory, and commands in them."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        self._env = {
            "PATH": path,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(PROJECT),
            "TUNCTL_STATE_DIR": str(directory / "state"),
            "TUNCTL_RUN_DIR": f"/run/{directory.name}",  # in memory, as on any host
            "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go",
        }

    def write(self, name: str, text: str) -> Path:
        path = self.dir / name
        path.write_text(text)
        return path

    def time(self, argv: Sequence[str | Path], *, expect: int = 0) -> Sample:
        """Runs a command. RuntimeError (with what it said) when its exit code is not as expected."""
        with tempfile.TemporaryFile() as said:
            begun = time.perf_counter()
            process = subprocess.Popen(
                [os.fspath(word) for word in argv], cwd=self.dir, env=self._env,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - begun
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode != expect:
                said.seek(0)
                words = " ".join(map(str, argv))
                raise RuntimeError(f"{words}: exit code {process.returncode}: {said.read(2000).decode(errors='replace')}")
        return Sample(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, process.returncode)

    def start(self, command: str, log: BinaryIO) -> subprocess.Popen[bytes]:
        """A command that goes on; what it says goes into `log`."""
        return subprocess.Popen(
            [*TUNCTL, command], cwd=self.dir, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        argv = [*TUNCTL, "status", "--json"]
        done = subprocess.run(argv, cwd=self.dir, env=self._env, check=False, capture_output=True, timeout=LONGEST_S)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def has_daemon(self) -> bool:
        return bool(self.status()["daemon"]["running"])

    def owner(self, tunnel: str) -> int:
        """The pid of its program."""
        return int(next(one["owner"]["pid"] for one in self.status()["tunnels"] if one["name"] == tunnel))

    @property
    def run_dir(self) -> Path:
        return Path(self._env["TUNCTL_RUN_DIR"])

    def tunctl(self, *words: str | Path, expect: int = 0) -> Sample:
        return self.time([*TUNCTL, *words], expect=expect)

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """One that is ready for requests, with its first pass behind it; commands go through it until it ends."""
        with open(self.dir / "daemon.log", "wb") as log:
            process = self.start("daemon", log)
            try:
                deadline = time.monotonic() + LONGEST_S
                while not (self.run_dir / "control.sock").exists() or not self.has_daemon():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError((self.dir / "daemon.log").read_text(errors="replace"))
                    time.sleep(0.02)
                time.sleep(1.0)  # its first pass, and what it prepares for the next one
                yield Daemon(self, process.pid)
            finally:
                process.terminate()
                process.wait(LONGEST_S)


class Daemon:
    """A daemon at work: what it uses for a command counts for that."""

    def __init__(self, at: Stand, pid: int) -> None:
        self._at = at
        self.pid = pid

    def tunctl(self, *words: str | Path) -> Sample:
        before = self.cpu_s()
        sample = self._at.tunctl(*words)
        time.sleep(0.3)  # until the process that carried it out has been waited for
        return sample._replace(cpu_s=sample.cpu_s + self.cpu_s() - before)

    def cpu_s(self) -> float:
        """Its own and that of the processes it had and has."""
        return _cpu_s(self.pid)

    def rss_mb(self) -> float:
        """Of the daemon itself; 10^6 bytes."""
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("VmRSS"))


def _cpu_s(pid: int) -> float:
    """proc(5): stat, fields 14 to 17; children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") + sum(_cpu_s(int(child)) for child in children)


def _tunctl() -> list[str]:
    """The command as it is installed beside this Python, else the package run by it."""
    script = Path(sys.executable).with_name("tunctl")
    return [str(script)] if script.exists() else [sys.executable, "-m", "reconciler"]


TUNCTL = _tunctl()


def leave_the_machine() -> None:
    """From here on this process and all it starts are in an empty network namespace, and have a /run of their own in memory:
    what stands in the machine's (names of network namespaces, sockets of engines) is out of their reach."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWNS):
        raise SystemExit(f"no namespaces of its own ({os.strerror(ctypes.get_errno())}): run it as root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tunctl-bench", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def stand() -> Iterator[Stand]:
    """A fresh one. At its end everything of tunctl's is taken down."""
    directory = Path(tempfile.mkdtemp(prefix="tunctl-bench-"))
    made = Stand(directory)
    try:
        yield made
    finally:
        made.tunctl("down", "--all")
        for used in (directory, made.run_dir):
            shutil.rmtree(used, ignore_errors=True)


def machine() -> dict[str, str | int]:
    """What the numbers belong to."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) // 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model or platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_mib": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "iproute2": _first_line(["ip", "-V"]),
        "commit": _first_line(["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"]),
        "command": " ".join(TUNCTL),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text(errors="replace").splitlines()


def _first_line(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=10)
    except OSError:
        return ""
    return (done.stdout.splitlines() or [""])[0]
