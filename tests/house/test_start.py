"""`status` is the command that monitoring calls all day: what it imports is its budget."""

from __future__ import annotations

import os
import re
import sys

import pytest

from tests.netns import world

FORBIDDEN = {
    "alembic", "asyncio", "click", "cryptography", "dataclasses", "logging", "psutil", "pydantic", "pyroute2",
    "sqlalchemy", "statemachine", "subprocess", "tomllib", "unittest",
}  # fmt: skip
DESIRED = """
version = 1
source = "start"

[tunnels.demo]
driver = "tun"
interface = "tun-demo"
addresses = ["10.9.0.2/32"]

[[tunnels.demo.routes]]
to = ["10.20.0.0/16"]
"""


def imported(stderr: str) -> set[str]:
    """Top-level names in the output of `-X importtime`."""
    return {name.partition(".")[0] for name in re.findall(r"^import time:.*\| +([\w.]+)$", stderr, re.MULTILINE)}


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root: run it with sudo")
@pytest.mark.parametrize("desired", ["", DESIRED], ids=["nothing declared", "one tunnel"])
def test_status_imports_little(desired: str) -> None:
    with world.new_host("start") as host:
        if desired:
            host.tunctl("apply", host.write("d.toml", desired))
        bare = imported(host.run([sys.executable, "-X", "importtime", "-c", "pass"]).stderr)
        done = host.run([sys.executable, "-X", "importtime", "-m", "reconciler", "status", "--json"], check=False)
    names = imported(done.stderr) - bare
    assert '"tunnels"' in done.stdout, done.stderr
    assert "reconciler" in names
    assert names & FORBIDDEN == set()
