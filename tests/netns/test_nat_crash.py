"""Killed before and after every step of a plan with NAT, accepts in a foreign chain, and every kind of switch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.netns import site as sites
from tests.netns.faults import difference, fault, state, was_killed
from tests.netns.site import LAN4, LAN6, Site, nat, nat_tunnel
from tests.netns.test_forward import DOCKER, chains, wall
from tests.netns.warm import Warm
from tests.netns.world import Host

pytestmark = pytest.mark.bound(400)

MOST_STEPS = 90


class Bench(NamedTuple):
    """A host behind a wall like Docker's, and its file: one tunnel with single switches, one with the global one."""

    site: Site
    tunctl: Warm
    file: Path
    before: str

    def looks(self) -> str:
        return state(self.site.cl) + "\n\n" + chains(self.site.cl)


@pytest.fixture
def bench(hosts: Callable[[str], Host]) -> Iterator[Bench]:
    site = sites.build(hosts)
    wall(site.cl, "iptables-legacy", DOCKER)
    site.cl.sysctl("net/ipv4/conf/lo/forwarding", 1)
    site.cl.sysctl("net/ipv4/conf/cl0/rp_filter", 1)
    site.cl.run(["nft", "table ip other { chain d { type nat hook prerouting priority dstnat; }; }"])
    far = nat_tunnel("far", nat("10.80.0.0/24"), address="10.9.0.3/32")
    full = nat_tunnel("full", nat(LAN6), address="10.9.0.4/32") + '[[tunnels.full.routes]]\nto = "0.0.0.0/0"\n'
    with Warm(site.cl) as tunctl:
        made = Bench(site, tunctl, site.file(nat_tunnel("near", nat(LAN4)), far, full), "")
        yield made._replace(before=made.looks())


@pytest.mark.parametrize(
    ("command", "follow_up", "when", "first"),  # every other step each: all states in between are seen by one of them
    [
        ("apply", "apply", "kill-before", 1),
        ("apply", "reconcile", "kill-after", 1),
        ("apply", "down", "kill-after", 2),
        ("down", "reconcile", "kill-before", 1),
        ("down", "down", "kill-after", 1),
    ],
)
def test_killed_at_every_step(bench: Bench, command: str, follow_up: str, when: str, first: int) -> None:
    tunctl = bench.tunctl
    tunctl.run("apply", bench.file)
    whole = bench.looks()
    words = ("apply", str(bench.file)) if command == "apply" else ("down", "--all")
    next_ = {"apply": ("apply", str(bench.file)), "reconcile": ("reconcile",), "down": ("down", "--all")}[follow_up]
    step = 0
    for step in itertools.count(first, 2):
        assert step < MOST_STEPS
        tunctl.run(*(("forget", "--all") if command == "apply" else ("apply", str(bench.file))))
        if command == "apply":
            assert bench.looks() == bench.before, difference(bench.before, bench.looks())
        done = tunctl.run(*words, env=fault(f"{when}:{step}"), expect=None)
        if not was_killed(done):
            break
        done = tunctl.run(*next_, expect=None)
        assert done.returncode == 0, (step, done.stdout, done.stderr)
        gone = follow_up == "down" or (command == "down" and follow_up == "reconcile")
        wanted = bench.before if gone else whole
        assert bench.looks() == wanted, f"step {step}\n{difference(wanted, bench.looks())}"
        assert "no changes" in tunctl.run(*next_, expect=None).stdout
    assert step > 15
