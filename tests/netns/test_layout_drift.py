"""The host's own routes and rules are part of the truth about a tunnel, and of its first bring-up."""

from __future__ import annotations

import pytest

from tests.netns.layouts import BYPASS, OUTSIDE, apply, is_settled, tun, way
from tests.netns.world import Uplink

FULL = tun("f", "0.0.0.0/0", lines=f'{BYPASS}\naddresses = ["10.66.0.1/32"]')


@pytest.mark.parametrize("words", ["rule del priority 20500", "rule del priority 20030", "route flush table 20000"])
def test_status_says_what_of_the_host_is_missing(uplink: Uplink, words: str) -> None:
    """With these gone everything goes past the tunnel, or the LAN into it: nobody may call that connected."""
    cl = uplink.cl
    apply(cl, FULL + tun("other", "10.20.0.0/16"))
    assert "missing" not in cl.tunctl("status", "f", expect=None).stdout
    cl.ip(words)
    status = cl.json("status", "f", expect=3)["tunnels"][0]
    assert status["verdict"] == "degraded"
    assert any("missing" in reason for reason in status["reasons"])
    others = cl.json("status", "other", expect=None)["tunnels"][0]["reasons"]
    assert any("missing" in reason for reason in others) is ("20500" not in words)  # that rule is for one tunnel only
    cl.tunctl("reconcile")
    assert is_settled(cl)


@pytest.mark.parametrize("number", range(1, 20))
def test_a_first_bring_up_that_fails_leaves_nothing(uplink: Uplink, number: int) -> None:
    """Guarantee 3, whichever step it is that fails."""
    cl = uplink.cl
    before = cl.snapshot()
    done = cl.tunctl(
        "apply", cl.write("d.toml", f"version = 1\n{FULL}"), env={"TUNCTL_FAULT": f"fail:{number}:EINVAL"}, expect=None
    )
    if done.returncode:
        assert "Invalid argument" in done.stderr
        assert cl.snapshot() == before
    cl.tunctl("reconcile")
    assert way(cl, OUTSIDE) == "tun-f"
    assert is_settled(cl)


def test_numbers_that_are_moved_leave_nothing_where_they_were(uplink: Uplink) -> None:
    """There, and back again: what stood at the old numbers goes when what takes its place is there."""
    cl = uplink.cl
    before = cl.snapshot()
    selected = tun("s", "10.20.0.0/16", more='[[tunnels.s.rules]]\nfrom = "192.168.77.0/24"\nlookup = "tunnel"')
    apply(cl, FULL + selected)
    first = cl.snapshot()
    apply(cl, FULL + selected, top="[host]\npriority_base = 10000\ntable_base = 30000\n")
    assert " 20" not in cl.ip("rule")
    assert "\n20" not in cl.ip("rule")
    assert "lookup 30000" in cl.ip("rule")
    assert way(cl, OUTSIDE) == "tun-f"
    assert is_settled(cl)
    apply(cl, FULL + selected)
    assert cl.snapshot() == first
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before
