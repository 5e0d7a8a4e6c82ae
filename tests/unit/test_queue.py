"""When the daemon looks, what it leaves alone until when, and whom it blames."""

from __future__ import annotations

import pytest

from reconciler.host.board import Fight
from reconciler.loop.queue import APART_S, SETTLE_S, SOON_S, Repairs, Rest, Restarts, Timetable
from reconciler.loop.watch import Due
from reconciler.model.tunnel import Restart

KEY = ("route", "10.0.0.0/8")
FIGHT = Fight("demo", "route 10.0.0.0/8", "pid 7 (/usr/bin/other)")


def test_a_batch_settles_and_then_at_once() -> None:
    due = Timetable(0.0)
    assert due.next_s == 0.0, "the first look is due at the start"
    due.begun(0.0)
    assert due.next_s is None
    due.mark(Due.NOT, 10.0)
    assert due.next_s is None
    for n in range(100):
        due.mark(Due.NOW, 10.0 + n / 1000)
    assert due.next_s == 10.0 + SETTLE_S, "whoever goes on making events does not put it off"


def test_the_host_around_the_tunnels_waits_a_little() -> None:
    due = Timetable(0.0)
    due.begun(10.0)
    due.mark(Due.SOON, 10.0)
    assert due.next_s == 10.0 + APART_S
    due.begun(20.0)
    due.mark(Due.SOON, 30.0)
    assert due.next_s == 30.0 + SOON_S
    due.mark(Due.NOW, 30.0)
    assert due.next_s == 30.0 + SETTLE_S, "the earlier time counts"


def repaired(repairs: Repairs, now_s: float) -> bool:
    """True when it was said that it is contested."""
    return repairs.add(KEY, now_s) and repairs.fight(KEY, FIGHT)


@pytest.mark.parametrize("apart_s", [0.0, 0.1, 6.6])
def test_ten_at_once_then_one_in_five_seconds(apart_s: float) -> None:
    repairs = Repairs()
    for n in range(9):
        assert not repaired(repairs, n * apart_s)
        assert repairs.withheld(n * apart_s) == {}, f"repair {n + 1} is done at once"
    last_s = 9 * apart_s
    assert repaired(repairs, last_s), "the tenth within a minute"
    assert repairs.contested(last_s) == [FIGHT]
    for _ in range(5):
        assert repairs.withheld(last_s + 4.9) == {KEY: last_s + 5}
        assert repairs.withheld(last_s + 5) == {}
        last_s += 5
        assert not repaired(repairs, last_s), "said once"
    assert repairs.contested(last_s + 59) == [FIGHT]
    assert repairs.contested(last_s + 61) == [], "left in peace for a minute"
    assert not repaired(repairs, last_s + 61)
    assert repairs.withheld(last_s + 61) == {}


def test_ten_in_more_than_a_minute_are_no_fight() -> None:
    repairs = Repairs()
    assert not any(repaired(repairs, n * 6.8) for n in range(100))


def test_another_object_is_not_meant() -> None:
    repairs = Repairs()
    for n in range(11):
        repaired(repairs, n)
    assert not repairs.add(("route", "10.1.0.0/16"), 11.0)
    assert set(repairs.withheld(11.0)) == {KEY}


def test_who_it_is_may_be_known_later() -> None:
    repairs = Repairs()
    for n in range(10):
        repairs.add(KEY, n)
    unknown = FIGHT._replace(by="")
    assert repairs.fight(KEY, unknown)
    assert not repairs.fight(KEY, unknown)
    assert repairs.fight(KEY, FIGHT), "now it can be named"
    assert not repairs.fight(KEY, FIGHT)
    assert not repairs.fight(KEY, unknown), "and is not forgotten"
    assert repairs.contested(10.0) == [FIGHT]
    assert not repairs.fight(KEY, FIGHT._replace(by="pid 8")), "a new pid of the same is no news"
    assert repairs.contested(10.0)[0].by == "pid 8"


def test_a_program_that_ends_again_and_again() -> None:
    """S74: the first time at once, then 5, 10, 20, 40, 60, 60 s; what ran longer than the longest pause begins anew."""
    restarts, restart = Restarts(), Restart(base_s=5.0, factor=2.0, max_s=60.0)
    now_s, pauses = 0.0, []
    for number in range(8):
        found = restarts.rest("demo", restart, now_s)
        pauses.append(found.for_s if found else 0.0)
        assert found is None or found.attempt == number - 1
        now_s += pauses[-1]
        restarts.add("demo", now_s)
    assert pauses == [0.0, 0.0, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert restarts.rest("demo", restart, now_s + 61) is None


def test_a_users_word_ends_its_rest() -> None:
    restarts, restart = Restarts(), Restart(base_s=5.0)
    for _ in range(3):
        restarts.add("demo", 0.0)
    assert restarts.rest("demo", restart, 0.0) == Rest(2, 10.0)
    restarts.forget(["demo", "other"])
    assert restarts.rest("demo", restart, 0.0) is None
