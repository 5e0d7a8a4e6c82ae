"""A daemon that may open few files, with more programs to watch than that: it neither ends nor spins."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.netns.faults import PYTHON, write_programs
from tests.netns.test_daemon import SOON_S
from tests.netns.world import Host, wait_until

pytestmark = pytest.mark.bound(240)
PROGRAMS = 4


def tunnel(host: Host, number: int) -> str:
    command = f'["{PYTHON}", "{host.dir}/holder.py", "{{interface}}"]'
    settings = f'exec = {{ command = {command}, stop_grace = "1s" }}'
    return f'[tunnels.p{number}]\ndriver = "exec"\ninterface = "tun-p{number}"\n{settings}\n'


def start(host: Host, limits: str) -> subprocess.Popen[bytes]:
    daemon = host.start(["prlimit", f"--nofile={limits}", *host.tunctl_argv("daemon")], log="daemon.log")
    wait_until(lambda: host.json("status", expect=None)["daemon"]["running"], SOON_S, (host.dir / "daemon.log").read_text)
    return daemon


def owner(host: Host, name: str = "p0") -> int | None:
    (told,) = host.json("status", name, expect=None)["tunnels"]
    return (told["owner"] or {}).get("pid")


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("limits", ["190:190", "64:4096"], ids=["none can be watched", "only as given"])
def test_it_goes_on(host: Host, limits: str) -> None:
    write_programs(host)
    file = host.write("d.toml", "version = 1\n" + "".join(tunnel(host, number) for number in range(PROGRAMS)))
    daemon = start(host, limits)
    host.tunctl("apply", file)
    before = owner(host)
    assert before
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: owner(host) not in (None, before), SOON_S, (host.dir / "daemon.log").read_text)
    begun_s = processor_s(daemon.pid)
    time.sleep(2)
    assert processor_s(daemon.pid) - begun_s < 1, "it spins"
    programs_limits = Path(f"/proc/{owner(host)}/limits").read_text()
    line = next(line for line in programs_limits.splitlines() if line.startswith("Max open files"))
    assert line.split()[3:5] == limits.split(":"), "what it was given itself"
    daemon.terminate()
    assert daemon.wait(10) == 0, (host.dir / "daemon.log").read_text()
