"""Tables of bytes do what sets and lists of their rows do."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.records import apart, columns, ordered, place, split

STRIDES = (5, 17)


def rows(stride: int, most: int = 300) -> st.SearchStrategy[set[bytes]]:
    """Enough of the same ones that two such sets meet, and so many that they are compared run by run."""
    return st.sets(st.integers(0, 400), max_size=most).map(lambda numbers: {n.to_bytes(stride, "big") for n in numbers})


def told_apart(some: set[bytes], others: set[bytes], stride: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    both, here, there = apart(ordered(sorted(some)), ordered(sorted(others)), stride)
    return split(both, stride), split(here, stride), split(there, stride)


def judge_apart(some: set[bytes], others: set[bytes], stride: int) -> None:
    assert told_apart(some, others, stride) == (sorted(some & others), sorted(some - others), sorted(others - some))


@pytest.mark.parametrize("stride", STRIDES)
@given(data=st.data())
def test_any_two(stride: int, data: st.DataObject) -> None:
    judge_apart(data.draw(rows(stride)), data.draw(rows(stride)), stride)


@pytest.mark.parametrize("stride", STRIDES)
@given(data=st.data())
def test_two_that_are_nearly_the_same(stride: int, data: st.DataObject) -> None:
    some = data.draw(rows(stride))
    judge_apart(some, some ^ data.draw(rows(stride, most=6)), stride)


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("differing", [0, 1, 63, 64, 65, 5000])
def test_many(stride: int, differing: int) -> None:
    """On both sides of where it is cheaper to look at every row."""
    chosen = random.Random(differing)
    some = {chosen.randbytes(stride) for _ in range(10_000)}
    others = set(sorted(some)[differing:]) | {chosen.randbytes(stride) for _ in range(differing)}
    judge_apart(some, others, stride)
    judge_apart(some, set(sorted(some)[::2]), stride)
    judge_apart(some, {chosen.randbytes(stride) for _ in range(10_000)}, stride)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 128, 1000])
def test_rows(count: int) -> None:
    several = [n.to_bytes(5, "big") for n in range(count)]
    assert split(b"".join(several), 5) == several
    assert ordered(several) == ordered(reversed([*several, *several])) == ordered(iter(several)) == b"".join(several)


@given(rows(5), st.integers(0, 401), st.integers(0, 300))
def test_place(some: set[bytes], number: int, begin: int) -> None:
    several, row = sorted(some), number.to_bytes(5, "big")
    before = sum(one < row for one in several)
    assert place(b"".join(several), 5, row) == 5 * before
    begin = min(begin, len(several))
    assert place(b"".join(several), 5, row, 5 * begin) == 5 * max(before, begin)


def test_columns() -> None:
    assert columns(b"abcdefghi", 3, (2, b"-", 0)) == b"c-af-di-g"
