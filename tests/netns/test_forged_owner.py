"""Whoever copies a mark is no owner: he is neither asked, nor told a key, nor signalled, nor does anybody wait for him."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.host import process, uapi
from reconciler.host.trees import belonging
from reconciler.host.uapi import UapiError
from reconciler.model.marks import parse_mark
from reconciler.model.names import IfName
from tests.netns.engines import PROGRAMS
from tests.netns.faults import PYTHON
from tests.netns.world import PROJECT, Host, wait_until

DEV = IfName("wg-a")
DESIRED = """
version = 1
[tunnels.demo]
driver = "wireguard"
interface = "wg-a"
addresses = ["10.80.0.2/24"]
[tunnels.demo.wireguard]
private_key_file = "wg.key"
backend = "userspace"
userspace_command = {command}
"""

_PROGRAM = """
version = 1
[tunnels.demo]
driver = "exec"
interface = "wg-a"
exec = {{ command = ["{python}", "{dir}/holder.py", "{{interface}}"], device = "tunctl", stop_grace = "1s" }}
"""
_ATTACH = """
import fcntl, os, struct, sys
descriptor = os.open("/dev/net/tun", os.O_RDWR)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH22x", sys.argv[1].encode(), 0x1001))
except OSError as error:
    print(error.strerror)
else:
    print("attached")
"""


class Forger:
    """He is older than the engine, as anybody can be who waits."""

    def __init__(self, host: Host) -> None:
        programs = host.dir / "programs"
        shutil.copytree(PROJECT / "tests/programs", programs, ignore=shutil.ignore_patterns("__pycache__"))
        alias = host.ip_json(f"link show dev {DEV}")[0]["ifalias"]
        mark = parse_mark(alias)
        assert mark
        self.mark = mark
        host.tunctl("down", "demo")
        argv = [PYTHON, str(programs / "forger.py"), DEV]
        self.process = host.start(argv, env={"TUNCTL_TUNNEL": mark.environment}, log="forger.log", own_run_wireguard=True)
        self._log = host.dir / "forger.log"
        wait_until(lambda: self.said() == "listening\n", 30, "the forger listens")

    def said(self) -> str:
        return self._log.read_text()


@pytest.fixture(params=['["wireguard-go", "-f", "{interface}"]', '["wireguard-go", "{interface}"]'], ids=["stays", "forks"])
def forger(host: Host, request: pytest.FixtureRequest) -> Iterator[Forger]:
    host.write("d.toml", DESIRED.replace("{command}", request.param))
    host.tunctl("key", "generate", "--type", "x25519", "--out", "wg.key")
    host.tunctl("apply", "d.toml")
    yield Forger(host)
    host.tunctl("down", "demo")


def test_whoever_copies_a_mark_is_no_owner(host: Host, forger: Forger) -> None:
    shutil.rmtree(host.run_dir)  # and what was recorded of the owner is lost
    host.tunctl("up", "demo")
    shutil.rmtree(host.run_dir)
    assert host.tunctl("reconcile").stdout == "no changes\n"
    (tunnel,) = host.json("status")["tunnels"]
    assert tunnel["owner"]["pid"] != forger.process.pid
    assert forger.process.poll() is None
    assert forger.said() == "listening\n"


def test_his_device_is_of_another_namespace(host: Host, forger: Forger) -> None:
    assert set(process.held_devices(forger.process.pid)) == {DEV}
    scan = process.find_marked()
    assert forger.process.pid in {one.pid for one in scan.processes}
    found = host.in_netns(belonging, scan, forger.mark, (None, None), DEV)
    assert forger.process.pid not in {one.pid for one in found}


def test_nothing_is_sent_to_the_socket_of_another_user(host: Host, forger: Forger) -> None:
    path = uapi.socket_path(DEV, forger.process.pid)
    assert Path(path).is_socket()
    with pytest.raises(UapiError) as refused:
        uapi.get(path)
    assert "uid 65534" in os.fsdecode(refused.value.strerror or "")
    assert forger.said() == "listening\n"


@pytest.mark.parametrize("desired", [DESIRED.replace("{command}", '["wireguard-go", "-f", "{interface}"]'), _PROGRAM])
def test_the_device_of_a_dead_engine_is_not_for_everybody(host: Host, desired: str) -> None:
    """The kernel lets anybody attach to a TUN without an owner: he would read what is sent into the tunnel."""
    shutil.copy(PROGRAMS / "holder.py", host.dir)
    shutil.copy(PROGRAMS / "tun_device.py", host.dir)
    text = desired.format(python=PYTHON, dir=host.dir) if desired is _PROGRAM else desired
    host.write("d.toml", text)
    host.tunctl("key", "generate", "--type", "x25519", "--out", "wg.key")
    host.tunctl("apply", "d.toml")
    (tunnel,) = host.json("status")["tunnels"]
    os.kill(tunnel["owner"]["pid"], signal.SIGKILL)
    wait_until(lambda: not process.stat(tunnel["owner"]["pid"]), 30, "the engine is dead")
    said = host.run([PYTHON, "-c", _ATTACH, DEV]).stdout
    assert said == "Operation not permitted\n"
    host.tunctl("reconcile")
    assert host.tunctl("apply", "d.toml").stdout == "no changes\n"
    host.tunctl("down", "demo")
