"""A call is not waited for longer than wanted, whatever it does."""

from __future__ import annotations

import _thread
import time
from collections.abc import Iterator

import pytest

from reconciler.host.bounded import Call


@pytest.fixture
def no_room() -> Iterator[None]:
    """A stack of half of all addresses is never to be had: what fails is what fails when the limit of tasks is reached."""
    before = _thread.stack_size(1 << 47)
    yield
    _thread.stack_size(before)


def test_what_it_returns_and_raises() -> None:
    assert Call(lambda: 7).result(30) == 7
    with pytest.raises(ZeroDivisionError):
        Call(lambda: 1 // 0).result(30)


def test_in_time_or_not_at_all() -> None:
    with pytest.raises(TimeoutError):
        Call(lambda: time.sleep(30)).result(0.01)


@pytest.mark.usefixtures("no_room")
def test_no_room_for_a_thread() -> None:
    with pytest.raises(TimeoutError):
        Call(lambda: 7).result(30)
