"""Which prefixes cover an address: the same by look-up as by comparing them all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.layout.cover import Cover
from reconciler.model.prefix import Prefix

ADDRESSES = st.sampled_from([4, 16]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
# Few bits, so that prefixes do meet.
NARROW = st.sampled_from([4, 16]).flatmap(lambda size: st.integers(0, 15).map(lambda low: bytes((low << 4,)) + bytes(size - 1)))


def prefix(packed: bytes, length: int) -> Prefix:
    return Prefix(packed, min(length, len(packed) * 8)).network


@given(st.lists(st.builds(prefix, ADDRESSES | NARROW, st.integers(0, 128)), max_size=12), ADDRESSES | NARROW)
def test_covering_prefixes_are_found(networks: list[Prefix], packed: bytes) -> None:
    host = Prefix(packed, len(packed) * 8)
    expected = sorted({network.length for network in networks if network.covers(host)})
    assert Cover(networks).lengths(host) == expected
