"""What the kernel tells of changes, and what it need not tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.host import events, nl_route
from reconciler.host.events import Events
from reconciler.host.netlink import NLM_F_CREATE, NLM_F_EXCL
from reconciler.host.rtnl import Rtnl
from reconciler.model.prefix import AF_INET
from tests.netns.world import Host


@pytest.fixture
def heard(host: Host) -> Iterator[Events]:
    with host.inside():
        made = Events(events.ROUTE, events.ROUTES)
        yield made
        made.close()


@pytest.fixture
def both(host: Host) -> Iterator[tuple[Rtnl, Rtnl]]:
    """Two that change routes."""
    with host.inside():
        ours, others = Rtnl(), Rtnl()
        yield ours, others
        ours.close()
        others.close()


def blackhole(by: Rtnl, number: int) -> None:
    head = nl_route.head(254, 7, "blackhole", None, None, family=AF_INET, protocol=115, scope=0)
    bodies = nl_route.bodies(head, 0, b"\x20", [(0x0A000000 + number).to_bytes(4, "big")])
    assert by.batch(nl_route.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, [*bodies]) == [None]


def authors(heard: Events) -> list[int]:
    return [event.port for event in heard.read() if event]


def test_what_some_cause_is_left_out_by_the_kernel(heard: Events, both: tuple[Rtnl, Rtnl]) -> None:
    ours, others = both
    blackhole(ours, 1)
    blackhole(others, 2)
    assert authors(heard) == [ours.port, others.port]
    heard.pass_over({ours.port})
    blackhole(ours, 3)
    blackhole(others, 4)
    assert authors(heard) == [others.port]
    heard.pass_over({1, ours.port, others.port, 0xFFFFFFF0})
    blackhole(ours, 5)
    blackhole(others, 6)
    assert authors(heard) == []
    heard.pass_over(())
    blackhole(ours, 7)
    assert authors(heard) == [ours.port]


@pytest.mark.parametrize("count", [199, 200, 5000])
def test_of_very_many_some_are_told(heard: Events, both: tuple[Rtnl, Rtnl], count: int) -> None:
    """The kernel's programs are short. Whoever reads passes over the rest."""
    ours, others = both
    heard.pass_over({ours.port, *range(1 << 30, (1 << 30) + count)} - {others.port})
    blackhole(others, 1)
    assert others.port in authors(heard)
    lowest = sorted({ours.port, *range(1 << 30, (1 << 30) + count)})[: events._MOST_PORTS]
    blackhole(ours, 2)
    assert (ours.port in authors(heard)) is (ours.port not in lowest)


def test_ten_thousand_of_ours_wake_nobody(heard: Events, both: tuple[Rtnl, Rtnl]) -> None:
    ours, _ = both
    heard.pass_over({ours.port})
    head = nl_route.head(254, 7, "blackhole", None, None, family=AF_INET, protocol=115, scope=0)
    addresses = [(0x0A000000 + number).to_bytes(4, "big") for number in range(10_000)]
    bodies = nl_route.bodies(head, 0, b"\x20" * len(addresses), addresses)
    assert not any(ours.batch(nl_route.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, [*bodies]))
    assert list(heard.read()) == []
