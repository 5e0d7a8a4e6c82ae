"""Fixtures: hosts in network namespaces of their own. `world.py` says what a host can do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.netns import world
from tests.netns.world import Host, Pair, Uplink

RESOLV_CONF = Path("/etc/resolv.conf")  # of the machine


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root there is nothing to test here; everything else that is missing is an error."""
    if os.geteuid() == 0:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="network namespaces need root: run it with sudo"))


@pytest.fixture(scope="session")
def _decoy() -> Iterator[Host]:
    """An empty namespace: what a test does outside of its hosts lands there and not on the machine."""
    world.sweep_left_over()
    with world.new_host("decoy", loopback=False) as decoy:
        yield decoy


@pytest.fixture(autouse=True)
def _outside_is_a_decoy(_decoy: Host) -> Iterator[None]:
    before, names_before = _decoy.glance(), RESOLV_CONF.read_bytes() if RESOLV_CONF.exists() else None
    with _decoy.inside():
        yield
    assert _decoy.glance() == before, "this test changed the network outside of its hosts"
    names_after = RESOLV_CONF.read_bytes() if RESOLV_CONF.exists() else None
    assert names_after == names_before, "the resolv.conf of the machine was changed while this test ran"


@pytest.fixture
def hosts(_outside_is_a_decoy: None) -> Iterator[Callable[[str], Host]]:
    """`hosts("a")` → a new host with lo up; all of them go with the test."""
    with world.Hosts() as made:
        yield made.new


@pytest.fixture
def host(hosts: Callable[[str], Host]) -> Host:
    """One host with lo up and nothing else."""
    return hosts("host")


@pytest.fixture
def pair(hosts: Callable[[str], Host]) -> Pair:
    """Hosts a and b on one wire: dev veth0, 192.0.2.1/24 and .2, 2001:db8::1/64 and ::2."""
    return world.join(hosts("a"), hosts("b"))


@pytest.fixture
def uplink(hosts: Callable[[str], Host]) -> Uplink:
    """The host `cl` behind its gateway `gw`, as tests/SCENARIOS.md has it; 203.0.113.10 is beyond the gateway."""
    return world.uplink(hosts("cl"), hosts("gw"))
