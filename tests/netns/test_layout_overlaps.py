"""Prefixes of one tunnel inside another's: the longest decides, whichever table and whoever else is up."""

from __future__ import annotations

from itertools import product

import pytest

from tests.netns.layouts import BYPASS, OUTSIDE, apply, is_settled, is_unreachable, tun, way
from tests.netns.test_full_tunnel import ENDPOINT, Ends, answers, ends
from tests.netns.world import Host, Uplink

__all__ = ["ends"]

FULL = tun("full", "0.0.0.0/0", lines=BYPASS)
FAR = '[[tunnels.{0}.split.direct]]\ncidr = "198.18.0.0/24"'  # gives a split tunnel a table of its own


def split(name: str, prefixes: str, *, own: bool) -> str:
    return tun(name, prefixes, more=FAR.format(name) if own else "")


def ways(host: Host) -> list[str]:
    return [way(host, address) for address in ("10.9.9.9", "10.20.9.9", "10.20.30.9")]


@pytest.mark.parametrize(
    ("wide_own", "long_own", "is_full"), list(product((False, True), repeat=3)), ids=lambda value: "yes" if value else "no"
)
def test_the_longest_prefix_decides(uplink: Uplink, wide_own: bool, long_own: bool, is_full: bool) -> None:
    """`wide` has a prefix that is longer than the one of `long`, too."""
    cl = uplink.cl
    before = cl.snapshot()
    wide = split("wide", "10.0.0.0/8 10.20.30.0/24", own=wide_own)
    done = apply(cl, wide + split("long", "10.20.0.0/16", own=long_own) + (FULL if is_full else ""))
    assert ways(cl) == ["tun-wide", "tun-long", "tun-wide"]
    assert is_settled(cl)
    if cl.ip("route show table 20999", check=False):
        assert "(longest prefix)" in done.stdout
    cl.tunctl("down", "long")
    assert ways(cl) == ["tun-wide"] * 3
    assert cl.ip("route show table 20999", check=False) == ""
    cl.tunctl("up", "long")
    assert ways(cl) == ["tun-wide", "tun-long", "tun-wide"]
    cl.tunctl("down", "wide")
    assert way(cl, "10.20.30.9") == "tun-long"
    assert way(cl, "10.9.9.9") == ("tun-full" if is_full else "cl0")
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before


@pytest.mark.parametrize("is_full", [False, True])
def test_a_dead_tunnel_gives_its_prefix_back_to_the_wider_one_unless_it_blocks(uplink: Uplink, is_full: bool) -> None:
    """The copy dies with the device; what blocks stands beside it."""
    cl = uplink.cl
    for lines, expected in ((BYPASS, "tun-wide"), ('on_failure = "block"', "")):
        long = tun("long", "10.20.0.0/16", lines=lines)
        apply(cl, split("wide", "10.0.0.0/8", own=True) + long + (FULL if is_full else ""))
        cl.ip("link del tun-long")
        if expected:
            assert way(cl, "10.20.9.9") == expected
        else:
            assert is_unreachable(cl, "10.20.9.9")
        cl.tunctl("reconcile")
        assert is_settled(cl)


def test_a_longer_prefix_of_a_full_tunnel_wins_over_a_split_one(uplink: Uplink) -> None:
    cl = uplink.cl
    apply(cl, tun("full", "0.0.0.0/0 10.20.0.0/16") + tun("wide", "10.0.0.0/8"))
    assert [way(cl, address) for address in ("10.9.9.9", "10.20.9.9", OUTSIDE)] == ["tun-wide", "tun-full", "tun-full"]
    assert is_settled(cl)
    cl.tunctl("down", "wide")
    assert way(cl, "10.9.9.9") == "tun-full"
    assert cl.ip("route show table 20999", check=False) == ""


@pytest.mark.parametrize("own", [False, True])
def test_a_longer_prefix_wins_over_a_direct_one_of_another_tunnel(uplink: Uplink, own: bool) -> None:
    cl = uplink.cl
    before = cl.snapshot()
    full = tun("full", "0.0.0.0/0", more='[[tunnels.full.split.direct]]\ncidr = ["10.1.0.0/16", "10.1.2.128/25"]')
    apply(cl, full + split("branch", "10.1.2.0/24", own=own))
    expected = {"10.1.9.9": "cl0", "10.1.2.1": "tun-branch", "10.1.2.200": "cl0", OUTSIDE: "tun-full", "192.168.50.1": "cl0"}
    assert {address: way(cl, address) for address in expected} == expected
    assert is_settled(cl)
    cl.ip("link del tun-branch")
    assert way(cl, "10.1.2.1") == "cl0"  # never into the full one
    cl.tunctl("reconcile")
    assert {address: way(cl, address) for address in expected} == expected
    cl.tunctl("down", "--all")
    assert cl.snapshot() == before


def test_ipv6_too(uplink: Uplink) -> None:
    cl = uplink.cl
    wide = tun("wide", "fd10::/16 10.0.0.0/8", more=FAR.format("wide"), lines=f'{BYPASS}\naddresses = ["fd66::1/128"]')
    apply(cl, wide + tun("long", "fd10:1::/32", lines=f'{BYPASS}\naddresses = ["fd66::2/128"]'))
    assert [way(cl, address) for address in ("fd10:2::1", "fd10:1::1")] == ["tun-wide", "tun-long"]
    assert is_settled(cl)


def test_the_way_back_comes_before_it(ends: Ends) -> None:
    """Guarantee 15: an answer to a client inside the longer prefix leaves by the uplink."""
    apply(ends.cl, split("wide", "8.0.0.0/8", own=True) + tun("long", "8.8.8.0/24"))
    assert way(ends.cl, OUTSIDE) == "tun-long"
    assert way(ends.cl, OUTSIDE, "from", "192.168.50.2") == "cl0"
    assert answers(ends, OUTSIDE)
    assert way(ends.cl, ENDPOINT) == "cl0"
