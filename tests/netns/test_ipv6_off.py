"""A host that has IPv6 switched off, and tunnels that carry it: of their own devices they need no permission."""

from __future__ import annotations

import pytest

from tests.netns.layouts import is_settled, way
from tests.netns.test_full_tunnel import ENDPOINT, OUTSIDE, Ends, can_reach, desired, dev_of, ends

__all__ = ["ends"]

BOTH = '"0.0.0.0/0", "::/0"'


@pytest.mark.parametrize("address", ['"10.8.0.2/32", "fd08::2/128"', '"10.8.0.2/32"'], ids=["with an address", "without one"])
@pytest.mark.parametrize("uplink_has_it", [False, True])
def test_a_full_tunnel_with_ipv6(ends: Ends, address: str, uplink_has_it: bool) -> None:
    """As switched off for all, and as only for devices to come."""
    cl = ends.cl
    cl.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
    if not uplink_has_it:
        cl.sysctl("net/ipv6/conf/all/disable_ipv6", 1)
    before = cl.snapshot()
    cl.write("d.toml", desired(ends, BOTH).replace('"10.8.0.2/32"', address))
    cl.tunctl("apply", "d.toml")
    can_reach(ends, OUTSIDE)
    if "fd08" in address:
        can_reach(ends, "fd08::1")
    assert (dev_of(cl, OUTSIDE), way(cl, "2001:db8::1")) == ("wg-full", "wg-full")
    assert dev_of(cl, ENDPOINT, "mark", "0x3174") == "cl0"
    assert cl.sysctl("net/ipv6/conf/cl0/disable_ipv6") == ("0" if uplink_has_it else "1")
    assert is_settled(cl)
    cl.sysctl("net/ipv6/conf/wg-full/disable_ipv6", 1)
    cl.tunctl("reconcile")
    assert is_settled(cl)
    assert way(cl, "2001:db8::1") == "wg-full"
    cl.tunctl("down", "full")
    assert cl.snapshot() == before
