"""Tables of bytes: rows of one length as one string. In order, each row once, they are what many prefixes are made of."""

from __future__ import annotations

from _operator import lt
from itertools import chain, filterfalse, islice
from struct import Struct, iter_unpack

from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_AT_ONCE = 64  # rows that are split at once: four times as fast as each by itself, and more gain nothing
_FEW = 64  # rows of both together: sets are as fast
_TURNS = 64  # so often two tables are compared from where they differ on: after that it is cheaper to look at every row


def split(table: bytes, stride: int) -> list[bytes]:
    """Its rows."""
    size = stride * _AT_ONCE
    whole = len(table) // size * size
    rest = chain.from_iterable(iter_unpack(f"{stride}s", table[whole:]))
    if not whole:
        return list(rest)
    return [*chain.from_iterable(Struct(f"{stride}s" * _AT_ONCE).iter_unpack(table[:whole])), *rest]


def ordered(rows: Iterable[bytes]) -> bytes:
    """The table of these rows, in order, each once. Mostly they are so already, and that is found out in no time."""
    several = list(rows)
    if not all(map(lt, several, islice(several, 1, None))):
        several = sorted(dict.fromkeys(several))
    return b"".join(several)


def place(table: bytes, stride: int, row: bytes, begin: int = 0) -> int:
    """Where this row stands, or would stand, in order: an offset, not before `begin`."""
    if table[-stride:] < row:
        return len(table)
    low, high = begin // stride, len(table) // stride
    while low < high:
        middle = (low + high) // 2
        if table[middle * stride : (middle + 1) * stride] < row:
            low = middle + 1
        else:
            high = middle
    return low * stride


def apart(mine: bytes, theirs: bytes, stride: int) -> tuple[bytes, bytes, bytes]:
    """Two tables in order → the rows that both have, those that only the first has, those that only the second has.

    Two that are nearly the same are compared run by run, at the speed of memory.
    """
    if not mine or not theirs:
        return b"", mine, theirs
    both, here, there = list[bytes](), list[bytes](), list[bytes]()
    at = to = 0
    for _ in range(_TURNS if len(mine) + len(theirs) > _FEW * stride else 0):
        same = _alike(mine[at:], theirs[to:]) // stride * stride
        both.append(mine[at : at + same])
        at, to = at + same, to + same
        if at == len(mine) or to == len(theirs):
            break
        end = place(mine, stride, theirs[to : to + stride], at)
        here.append(mine[at:end])
        at = end
        end = place(theirs, stride, mine[at : at + stride], to) if at < len(mine) else to
        there.append(theirs[to:end])
        to = end
    else:
        ours, others = split(mine[at:], stride), split(theirs[to:], stride)
        in_ours, in_others = set(ours).__contains__, set(others).__contains__
        both += filter(in_others, ours)
        here += filterfalse(in_others, ours)
        there += filterfalse(in_ours, others)
        at, to = len(mine), len(theirs)
    return b"".join(both), b"".join((*here, mine[at:])), b"".join((*there, theirs[to:]))


def _alike(one: bytes, other: bytes) -> int:
    """How many bytes they have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def columns(table: bytes, stride: int, chosen: tuple[int | bytes, ...]) -> bytes:
    """Rows of `stride` bytes → one of these columns: those with a number, or the same byte in each row."""
    rows = len(table) // stride
    out = bytearray(rows * len(chosen))
    for to, column in enumerate(chosen):
        out[to :: len(chosen)] = column * rows if isinstance(column, bytes) else table[column::stride]
    return bytes(out)
