"""Any order of up and down, and tunnels that are dead."""

from __future__ import annotations

from itertools import permutations

import pytest

from tests.netns.layouts import BYPASS, HEAD, OUTSIDE, apply, is_settled, is_unreachable, tun, way
from tests.netns.scenario import settled
from tests.netns.test_full_tunnel import ENDPOINT, Ends, can_reach, desired, ends
from tests.netns.world import Uplink

__all__ = ["ends"]


@pytest.mark.parametrize("order", list(permutations("abs")), ids="".join)
def test_two_full_tunnels_and_a_split_one(uplink: Uplink, order: tuple[str, ...]) -> None:
    cl = uplink.cl
    before = cl.snapshot()
    apply(cl, tun("a", "0.0.0.0/0") + tun("b", "0.0.0.0/0 ::/0") + tun("s", "10.20.0.0/16 2001:db8::/32"))
    for name in order:
        cl.tunctl("down", name)
        assert way(cl, "192.168.50.1") == "cl0"
    assert cl.snapshot() == before
    for name in order:
        cl.tunctl("up", name)
        assert way(cl, "192.168.50.1") == "cl0"
        assert way(cl, ENDPOINT, "mark", "0x3174") == "cl0"
    assert way(cl, OUTSIDE) == "tun-a"
    assert way(cl, "10.20.1.1") == "tun-s"
    assert is_settled(cl)


@pytest.mark.bound(180)
def test_one_that_fails_to_come_up_before_another_one_takes_nothing_of_it(uplink: Uplink) -> None:
    """Whichever step of it fails: its rule would come first, so that of the one that is up has moved already, or is to."""
    cl = uplink.cl
    addresses = 'addresses = ["10.66.0.{}/32"]'
    first = tun("a", "0.0.0.0/0", lines=f"{BYPASS}\nmetric = 9\n{addresses.format(1)}")
    both = first + tun("b", "0.0.0.0/0", lines=f"{BYPASS}\n{addresses.format(2)}")
    cl.write("both.toml", HEAD + both)
    apply(cl, first)
    before = settled(cl)
    for number in range(1, 30):
        done = cl.tunctl("apply", "both.toml", expect=None, env={"TUNCTL_FAULT": f"fail:{number}:EINVAL"})
        is_there = "tun-b" in cl.ip("link")
        assert way(cl, OUTSIDE) in {"tun-a", "tun-b" if is_there else ""}, (number, done.stdout)
        if not done.returncode:
            break
        assert is_there or settled(cl) == before, number
        apply(cl, first)
        assert settled(cl) == before, number
    else:
        pytest.fail("it never came up")
    assert number > 4


def test_a_split_tunnel_that_blocks(ends: Ends) -> None:
    """Gone, then with a foreign device in its place, then back; down ends it."""
    cl = ends.cl
    before = cl.snapshot()
    cl.tunctl("apply", cl.write("d.toml", desired(ends, '"8.8.8.0/24"', 'on_failure = "block"')))
    can_reach(ends, OUTSIDE)
    assert is_settled(cl)
    cl.ip("link del wg-full")
    assert is_unreachable(cl, OUTSIDE)
    cl.ip("link add wg-full type bridge")
    cl.tunctl("reconcile", expect=73)
    assert is_unreachable(cl, OUTSIDE)
    cl.ip("link del wg-full")
    cl.tunctl("reconcile")
    can_reach(ends, OUTSIDE)
    cl.tunctl("down", "full")
    assert cl.snapshot() == before
