"""Whoever copies a mark is no owner: he is neither asked, nor told a key, nor signalled, nor does anybody wait for him."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.host import process, uapi
from reconciler.host.trees import belonging
from reconciler.host.uapi import UapiError
from reconciler.model.marks import parse_mark
from reconciler.model.names import IfName
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
        wait_until(lambda: self.said() == "listening\n", 5, "the forger listens")

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
