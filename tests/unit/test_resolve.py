"""Endpoint names: literals at once, look-ups bounded and in parallel."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from reconciler.host import resolve
from reconciler.model.facts import Unknown
from reconciler.model.prefix import pton


def _answers(monkeypatch: pytest.MonkeyPatch, pause_s: float = 0.0) -> None:
    """The resolver's library call is the machine's: what it gives is decided by its configuration, not by us."""

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        if host.startswith("slow"):
            time.sleep(pause_s)
        if host == "none":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        texts = ["2001:db8::2", "192.0.2.2", "2001:db8::1", "192.0.2.1", "192.0.2.1", "fe80::1%eth0"]
        return [(0, 0, 0, "", (text, 0)) for text in texts]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_literals_need_no_look_up() -> None:
    assert resolve.resolve(["192.0.2.1", "2001:db8::1"], names=False) == {
        "192.0.2.1": (pton("192.0.2.1"),),
        "2001:db8::1": (pton("2001:db8::1"),),
    }


def test_names_are_not_looked_up_when_nobody_asks() -> None:
    assert resolve.resolve(["vpn.example.com"], names=False) == {"vpn.example.com": Unknown("not looked up")}


def test_both_families_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch)
    found = resolve.resolve(["vpn", "none"])
    texts = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "fe80::1"]
    assert found == {"vpn": tuple(map(pton, texts)), "none": Unknown("Name or service not known")}


def test_all_at_once_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    _answers(monkeypatch, 1.0)
    begun = time.monotonic()
    found = resolve.resolve([f"slow{n}" for n in range(20)] + ["quick"], timeout_s=0.2)
    assert time.monotonic() - begun < 0.9
    assert found["slow0"] == Unknown("no answer within 0.2 s")
    assert len(found["quick"]) == 5


def test_names_that_no_resolver_takes() -> None:
    found = resolve.resolve(["a..b", "x" * 70 + ".example"])
    assert all(isinstance(answer, Unknown) for answer in found.values())
