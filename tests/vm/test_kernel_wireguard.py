"""The tests of tests/netns that need WireGuard in the kernel, run in a machine whose kernel has it.

One takes ten seconds of emulation there. Always run are those that go through all that is written to the kernel and read
from it; `make test-vm WHOLE=1` runs all of them.
"""

from __future__ import annotations

import os
import re

import pytest

from tests.vm.machine import Machine

pytestmark = [pytest.mark.bound(7200), pytest.mark.xdist_group("vm")]
FILES = tuple(f"tests/netns/test_kernel_wireguard{part}.py" for part in ("", "_faults", "_ports", "_health"))
ALWAYS = (
    f"{FILES[0]}::test_up_looked_at_twice_and_down[kernel]",
    f"{FILES[0]}::test_one_peer_changes_and_the_session_of_the_other_stays",
    f"{FILES[0]}::test_without_rights_peers_are_unobserved",
    f"{FILES[1]}::test_drift_is_seen_and_repaired[prefix stolen]",
    f"{FILES[1]}::test_cut_off_between_link_and_mark",
    f"{FILES[2]}::test_the_next_free_port_and_back",
    f"{FILES[3]}::test_a_cut_way_back_is_degraded_with_evidence[restart]",
)


def test_with_wireguard_in_the_kernel(machine: Machine) -> None:
    if machine.is_off:
        machine.power_on()
        machine.booted()
    chosen = FILES if os.environ.get("WHOLE") else ALWAYS
    argv = ["env", "-C", "/srv/tunctl", "TT_PATIENCE=10", "/opt/tunctl/bin/python", "-m", "pytest", "--durations=0", *chosen]
    done = machine.run(argv, check=False, timeout=7000)
    said = f"{done.stdout}\n{done.stderr}"
    print(said)
    assert done.returncode == 0, said
    last = done.stdout.strip().splitlines()[-1]
    assert re.search(r"\d+ passed", last), said
    assert "skipped" not in last, said
