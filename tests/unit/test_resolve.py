"""Endpoint names that need no resolver: literals, and names that none would take. Look-ups: netns/test_resolve.py."""

from __future__ import annotations

from reconciler.host import resolve
from reconciler.model.facts import Unknown
from reconciler.model.prefix import pton


def test_literals_need_no_look_up() -> None:
    assert resolve.resolve(["192.0.2.1", "2001:db8::1"], timeout_s=0) == {
        "192.0.2.1": (pton("192.0.2.1"),),
        "2001:db8::1": (pton("2001:db8::1"),),
    }


def test_names_are_not_looked_up_when_nobody_asks() -> None:
    assert resolve.resolve(["vpn.example.com"], timeout_s=0) == {"vpn.example.com": Unknown("not looked up")}


def test_names_that_no_resolver_takes() -> None:
    found = resolve.resolve(["a..b", "x" * 70 + ".example"])
    assert all(isinstance(answer, Unknown) for answer in found.values())
