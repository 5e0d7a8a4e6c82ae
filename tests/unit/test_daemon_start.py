"""A daemon's passes read files with the rights of whoever named them. He need not be able to read Python's, nor ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.host import keyfile
from tests.unit.config_of import EXEC, KEY, PEER, TUN, WG, write

MANIFEST = '[tunnels.office.wireguard.peers.endpoint_manifest]\nfile = "m"\npublic_key_file = "PUB"\n'
ROUTES = '[[tunnels.t.routes]]\nto_file = "FILE"\n'
FILES = {
    "a manifest": WG + PEER + MANIFEST,
    "a manifest with another key": WG + PEER + MANIFEST.replace("PUB", "k"),
    "prefixes": TUN + ROUTES,
    "prefixes with faults": TUN + ROUTES.replace("FILE", "k"),
    "a key that others read": WG.replace('"k"', '"open"'),
    "digests and a user": EXEC + 'restart_on = ["k"]\nuser = "no such user"\n',
    "unknown keys": TUN + '"a b" = 1\nadresses = []\n',
    "no TOML": "a =",
}
SCRIPT = """
import sys
from reconciler.daemon import start
start.load()
there = set(sys.modules)
from reconciler.config.load import load
from reconciler.errors import TunctlError
try:
    load(sys.argv[1])
except TunctlError as error:
    str(error), [str(one) for one in error.details]
print(*sorted(set(sys.modules) - there))
"""
PLANNED = """
import sys
from reconciler.daemon import start
start.load()
there = set(sys.modules)
from reconciler.plan import plan
from tests.unit.test_plan import WG, WG_THERE
assert plan(WG, ()).steps and plan((), WG_THERE).steps
print(*sorted(name for name in set(sys.modules) - there if name.startswith("reconciler.")))
"""


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_what_files_need_is_loaded_before(tmp_path: Path, text: str) -> None:
    (tmp_path / "PUB").write_bytes(keyfile.public_of(keyfile.manifest_key()))
    (tmp_path / "FILE").write_text("10.0.0.0/8\n")
    (tmp_path / "open").write_text(KEY + "\n")
    (tmp_path / "open").chmod(0o666)
    argv = [sys.executable, "-c", SCRIPT, write(tmp_path, text)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""


def test_what_plans_is_loaded_before() -> None:
    """Though nothing that is rehearsed plans a step: a rehearsal may fail."""
    done = subprocess.run([sys.executable, "-c", PLANNED], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
