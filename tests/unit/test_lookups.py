"""When the daemon looks names up again: beside what passes do, and never in a circle."""

from __future__ import annotations

from reconciler.daemon.lookups import APART_S, Answers, Lookups
from reconciler.host.resolve import NOT_NOW
from reconciler.model.facts import Unknown

NAME, OLD, NEW = "vpn.example.com", (b"\xc0\x00\x02\x01",), (b"\xc0\x00\x02\x02",)


def after_the_first_pass() -> Lookups:
    lookups = Lookups()
    lookups.know({NAME: OLD}, 100.0, is_news=False)
    return lookups


def test_the_first_pass_has_looked_itself() -> None:
    lookups = after_the_first_pass()
    assert (lookups.names, lookups.due_s) == ({NAME: OLD}, None)


def test_after_another_pass_and_not_too_often() -> None:
    lookups = after_the_first_pass()
    lookups.know({NAME: OLD}, 100.5, is_news=False)
    assert lookups.due_s == 100.0 + APART_S
    lookups.know({NAME: OLD}, 200.0, is_news=False)
    assert lookups.due_s == 200.0


def test_an_answer_that_is_another_each_time_is_no_circle() -> None:
    lookups = after_the_first_pass()
    lookups.know({NAME: OLD}, 200.0, is_news=False)
    lookups.begun(200.0)
    assert lookups.due_s is None, "one at a time"
    assert lookups.made(Answers({NAME: NEW}))
    lookups.ended(200.1, has_reported=True)
    lookups.know({NAME: NEW}, 200.2, is_news=True)
    assert (lookups.names, lookups.due_s) == ({NAME: NEW}, None)


def test_the_same_is_no_news_and_no_answer_is() -> None:
    lookups = after_the_first_pass()
    assert not lookups.made(Answers({NAME: OLD, "other.example.com": NEW}))
    assert not lookups.made(Answers()), "a look-up that could not even begin"
    assert lookups.made(Answers({NAME: Unknown("no answer within 3 s")}))


def test_a_new_name_is_looked_up_and_an_old_one_forgotten() -> None:
    lookups = after_the_first_pass()
    lookups.know({"other.example.com": NOT_NOW}, 200.0, is_news=True)
    assert (lookups.names, lookups.due_s) == ({"other.example.com": NOT_NOW}, 200.0)


def test_one_that_died_is_followed_by_another() -> None:
    lookups = after_the_first_pass()
    lookups.begun(200.0)
    lookups.ended(201.0, has_reported=False)
    assert lookups.due_s == 201.0 + APART_S


def test_without_names_there_is_nothing_to_do() -> None:
    lookups = Lookups()
    for now_s in (100.0, 200.0):
        lookups.know({}, now_s, is_news=False)
        assert lookups.due_s is None
