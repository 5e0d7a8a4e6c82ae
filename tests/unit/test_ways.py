"""Uplinks with tables of their own: when there are any, which ones, and by which marks."""

from __future__ import annotations

import pytest

from reconciler.layout.ways import Way, answers, routes, ways
from reconciler.model.facts import Facts, Uplink
from reconciler.model.marks import UPLINKS, Numbers
from reconciler.model.names import IfName
from reconciler.model.prefix import AF_INET, AF_INET6, pton

N = Numbers()


def uplink(dev: str, metric: int = 0, family: int = AF_INET, *, beaten: bool = False) -> Uplink:
    end = pton("192.0.2.2" if family == AF_INET else "2001:db8::2")
    return Uplink(family, IfName(dev), None, metric, (end,), beaten=beaten)


def tables(*uplinks: Uplink, now: dict[str, int] | None = None) -> dict[str, int]:
    found = ways(Facts(uplinks=uplinks, uplink_tables={IfName(dev): n for dev, n in (now or {}).items()}), N)
    return {way.uplink.dev: way.table for way in found}


def test_one_of_each_family_needs_none() -> None:
    assert tables() == {}
    assert tables(uplink("a"), uplink("b", family=AF_INET6)) == {}
    assert tables(uplink("a"), uplink("a", 100)) == {}


def test_several_have_one_each() -> None:
    assert tables(uplink("a"), uplink("b", 100)) == {"a": 20998, "b": 20997}
    assert tables(uplink("a", beaten=True)) == {"a": 20998}


def test_a_device_keeps_what_it_has() -> None:
    assert tables(uplink("b"), uplink("a", 100), now={"a": 0, "b": 1}) == {"a": 20998, "b": 20997}
    assert tables(uplink("c"), uplink("b", 100), now={"b": 1, "gone": 0}) == {"b": 20997, "c": 20998}
    assert tables(uplink("a"), uplink("b", 100), now={"a": 3, "b": 3}) == {"a": 20995, "b": 20998}


def test_there_are_not_more_than_eight() -> None:
    found = tables(*(uplink(f"e{number}", number) for number in range(12)))
    assert sorted(found) == [f"e{number}" for number in range(UPLINKS)]
    assert set(found.values()) == set(range(20991, 20999))


def test_no_tunnel_has_these_tables() -> None:
    reserved = {N.overlaps, *map(N.of_uplink, range(UPLINKS))}
    slots = [N.table(slot) for slot in range(1, 2000)]
    assert len(set(slots)) == len(slots)
    assert reserved.isdisjoint(slots)


@pytest.mark.parametrize(("mark", "mask"), [(0x3174, 0x3FFF), (0x10000, 0xF0000), (0xCA6C, 0xFFFFFFFF), (0x1, 0x1), (0x3, 0x3)])
def test_marks_are_different_and_in_the_same_bits(mark: int, mask: int) -> None:
    numbers = Numbers(fwmark=mark, fwmask=mask)
    found = [one for number in range(UPLINKS) if (one := numbers.mark_of_uplink(number)) is not None]
    assert len({mark, 0, *found}) == len(found) + 2
    assert all(one & ~mask == 0 for one in found)
    assert len(found) == {0x1: 0, 0x3: 2, 0xF0000: 7}.get(mask, UPLINKS)


def test_what_one_of_them_wants() -> None:
    way = Way(uplink("b", 100), 20997, (0x3176, 0x3FFF))
    assert list(map(str, routes(way))) == [
        "route default dev b table 20997",
        "route unreachable default table 20997 metric 4278190080",
    ]
    assert list(map(str, answers(way, N, 20000, is_published=True))) == [
        "rule -4 priority 20040 from 192.0.2.2/32 lookup main suppress_ifgroup 20000 suppress_prefixlength 0",
        "rule -4 priority 20041 from 192.0.2.2/32 lookup 20997",
        "rule -4 priority 20040 from all fwmark 0x3176/0x3fff lookup main suppress_ifgroup 20000 suppress_prefixlength 0",
        "rule -4 priority 20041 from all fwmark 0x3176/0x3fff lookup 20997",
    ]
