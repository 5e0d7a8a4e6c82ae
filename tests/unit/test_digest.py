"""Digests are those of hashlib: they stand in handles.json, and another one would start every engine anew."""

from __future__ import annotations

import hashlib

import pytest

from reconciler.kinds.owner import Owner, fingerprint
from reconciler.lean import sha256_hex
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName


@pytest.mark.parametrize("content", [b"", b"abc", bytes(range(256)) * 300])
def test_digest_is_that_of_hashlib(content: bytes) -> None:
    assert sha256_hex(content) == hashlib.sha256(content).hexdigest()


def test_fingerprint_is_the_one_that_was_always_recorded() -> None:
    owner = Owner(
        TunnelName("demo"), Mark(TunnelName("demo"), "0011", "2233"), IfName("tun0"), ("/bin/vpn", "--dev", "tun0"),
        (("PROFILE", "a"),), "nobody",
    )  # fmt: skip
    assert fingerprint(owner) == "7e2c0a6efe2addf93a375554289204ae"
