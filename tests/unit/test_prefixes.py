"""Many prefixes as one value are what a set of prefixes is."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, pack, parse_network, unpack
from reconciler.model.prefixes import Prefixes, records_of


def networks(near: int = 255) -> st.SearchStrategy[Prefix]:
    """Of both families; few enough different ones that they meet."""

    def made(parts: tuple[int, int, int]) -> Prefix:
        size, value, length = parts
        packed = (
            value.to_bytes(2, "big").ljust(size, b"\0") if size == 4 else b"\xfd" + value.to_bytes(2, "big").ljust(15, b"\0")
        )
        return Prefix(packed, min(length, size * 8)).network

    return st.tuples(st.sampled_from((4, 16)), st.integers(0, near), st.integers(0, 40)).map(made)


sets = st.sets(networks(), max_size=40)


def in_order(prefixes: set[Prefix]) -> list[Prefix]:
    return sorted(prefixes, key=lambda prefix: (len(prefix.packed), prefix))


@given(sets)
def test_is_what_was_put_in(prefixes: set[Prefix]) -> None:
    many = Prefixes.of(prefixes)
    assert list(many) == in_order(prefixes)
    assert list(many.briefs()) == [prefix.brief for prefix in many]
    assert many.briefs("to ", " dev x") == [f"to {prefix.brief} dev x" for prefix in many]
    assert len(many) == len(prefixes)
    assert bool(many) == bool(prefixes)
    assert many == Prefixes.of([*prefixes, *prefixes])
    assert hash(many) == hash(Prefixes.of(reversed(in_order(prefixes))))
    assert pickle.loads(pickle.dumps(many)) == many
    assert many.families == {prefix.family for prefix in prefixes}
    assert many.of_size(4) | many.of_size(16) == many
    assert Prefixes.of(many) is many
    assert many != prefixes


@given(sets, st.randoms(use_true_random=False))
def test_stored_form_is_that_of_single_prefixes(prefixes: set[Prefix], random: object) -> None:
    many = Prefixes.of(prefixes)
    assert many.packed == pack(many)
    assert Prefixes.unpack(many.packed) == many
    mixed = list(prefixes)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert Prefixes.unpack(pack(mixed)) == many


@given(st.binary(max_size=60))
def test_a_damaged_blob_is_an_error_or_a_list(blob: bytes) -> None:
    try:
        expected = set(unpack(blob))
    except ValueError:
        with pytest.raises(ValueError, match="damaged"):
            Prefixes.unpack(blob)
    else:
        assert set(Prefixes.unpack(blob)) == expected


@given(sets, sets)
def test_algebra(some: set[Prefix], others: set[Prefix]) -> None:
    one, two = Prefixes.of(some), Prefixes.of(others)
    assert one | two == Prefixes.of(some | others)
    assert one & two == Prefixes.of(some & others)
    assert one - two == Prefixes.of(some - others)
    assert one - one == Prefixes()
    assert (one == two) is (some == others)


@given(sets, networks())
def test_looking_for_one(prefixes: set[Prefix], other: Prefix) -> None:
    many = Prefixes.of(prefixes)
    assert (other in many) is (other in prefixes)
    assert list(many.inside(other)) == in_order({prefix for prefix in prefixes if other.covers(prefix)})
    assert many.around(other) == sorted(prefix.length for prefix in prefixes if prefix.covers(other))


COVERING = {
    "whole": (["0.0.0.0/0"], AF_INET, True),
    "halves": (["0.0.0.0/1", "128.0.0.0/1"], AF_INET, True),
    "one half": (["0.0.0.0/1"], AF_INET, False),
    "quarters and more": (["0.0.0.0/2", "64.0.0.0/2", "128.0.0.0/1", "10.0.0.0/8"], AF_INET, True),
    "a gap": (["0.0.0.0/2", "128.0.0.0/1"], AF_INET, False),
    "the other family": (["::/0"], AF_INET, False),
    "ipv6": (["::/1", "8000::/1"], AF_INET6, True),
    "nothing": ([], AF_INET, False),
}


@pytest.mark.parametrize(("texts", "family", "expected"), COVERING.values(), ids=COVERING)
def test_whole_families(texts: list[str], family: int, expected: bool) -> None:
    assert (family in Prefixes.of(map(parse_network, texts)).whole()) == expected


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 8)), max_size=12))
def test_whole_families_as_counting_finds(parts: list[tuple[int, int]]) -> None:
    """Prefixes of at most eight bits: count the 256 first bytes that they take."""
    prefixes = [parse_network(f"{first >> (8 - length) << (8 - length)}.0.0.0/{length}") for first, length in parts]
    taken = {
        byte for prefix in prefixes for byte in range(256) if Prefix(bytes((byte, 0, 0, 0)), prefix.length).network == prefix
    }
    assert Prefixes.of(prefixes).whole() == (frozenset((AF_INET,)) if len(taken) == 256 else frozenset())


def test_says_what_it_holds() -> None:
    assert repr(Prefixes.of(map(parse_network, ("fd00::/8", "10.0.0.0/8")))) == "Prefixes.of([10.0.0.0/8, fd00::/8])"


@given(sets, sets, st.sampled_from((4, 16)))
def test_records_of_several_are_those_of_each(some: set[Prefix], others: set[Prefix], size: int) -> None:
    several = [Prefixes.of(some), Prefixes.of(others)]
    assert records_of(several, size) == [record for one in several for record in one.records(size)]
