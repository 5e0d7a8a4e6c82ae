"""Health of WireGuard in the kernel: no program to ask, none to start anew. `make test-vm` brings a kernel that has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.netns.kernel_ends import End, apply, needs_wireguard, three
from tests.netns.world import Pair, wait_until

pytestmark = [needs_wireguard, pytest.mark.bound(600)]  # in a virtual machine
SOON_S = 240


@pytest.fixture
def ends(pair: Pair) -> Iterator[tuple[End, End, End]]:
    with three(pair) as made:
        yield made


def looked(end: End) -> dict[str, Any]:
    """What status says of the tunnel after a pass, which makes a round of health checks when one is due."""
    end.tunctl.run("reconcile", expect=None, timeout=120)
    return end.status()


@pytest.mark.parametrize("action", ["none", "restart"])
def test_a_cut_way_back_is_degraded_with_evidence(ends: tuple[End, End, End], action: str) -> None:
    a, b, _ = ends
    b.apply(b.peer(a, keepalive=""))
    health = (
        f'[tunnels.wg0.health]\nping = ["{b.address}", "{b.address6}"]\ninterval = "1s"\nfailures = 2\naction = "{action}"\n'
    )
    apply(a.tunctl, a.text(a.peer(b, endpoint=f"192.0.2.2:{b.port}")), health)
    a.ping(b.address)
    wait_until(lambda: looked(a)["verdict"] == "connected", SOON_S, "it is well")
    before = a.settings()
    b.host.run(["nft", "add table inet t; add chain inet t o { type filter hook output priority 0; oifname wg1 drop; }"])
    wait_until(lambda: looked(a)["verdict"] == "degraded", SOON_S, "it is found out")
    assert b.address in "\n".join(a.status(expect=3)["reasons"])
    assert a.settings() == before, "a device of the kernel's has nothing to be started anew"
    b.host.run(["nft", "delete table inet t"])
    wait_until(lambda: looked(a)["verdict"] == "connected", SOON_S, "it is well again")
    a.ping(b.address)
