"""Endpoint names looked up by the C library of a host: its hosts file, and a name server that never answers."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.netns.world import Host

ASK = """
import json, sys, time
from reconciler.host.resolve import resolve
from reconciler.model.facts import Unknown
from reconciler.model.prefix import ntop
begun = time.monotonic()
found = resolve(sys.argv[2:], timeout_s=float(sys.argv[1]))
told = {name: answer.reason if isinstance(answer, Unknown) else [ntop(one) for one in answer] for name, answer in found.items()}
print(json.dumps([told, time.monotonic() - begun]), flush=True)
import os
os._exit(0)
"""


def ask(host: Host, timeout_s: float, *names: str) -> tuple[dict[str, Any], float]:
    told, seconds = json.loads(host.run([sys.executable, "-c", ASK, str(timeout_s), *names]).stdout)
    return told, seconds


def test_both_families_sorted(host: Host) -> None:
    host.write_etc("hosts", "192.0.2.2 vpn\n2001:db8::2 vpn\n192.0.2.1 vpn\n2001:db8::1 vpn\n")
    host.write_etc("nsswitch.conf", "hosts: files\n")
    told, _ = ask(host, 3, "vpn", "none")
    assert told["vpn"] == ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]
    assert isinstance(told["none"], str)


def test_all_at_once_and_bounded(host: Host) -> None:
    """A name server that swallows every question: a TUN that nobody reads."""
    host.ip("tuntap add hole mode tun")
    host.ip("addr add 192.0.2.1/24 dev hole")
    host.ip("link set hole up")
    host.write_etc("resolv.conf", "nameserver 192.0.2.53\noptions timeout:5 attempts:3\n")
    host.write_etc("nsswitch.conf", "hosts: files dns\n")
    host.write_etc("hosts", "192.0.2.9 quick\n")
    told, seconds = ask(host, 0.5, *(f"slow{n}.example" for n in range(20)), "quick")
    assert told["slow0.example"] == "no answer within 0.5 s"
    assert told["quick"] == ["192.0.2.9"]
    assert seconds < 5, "one after the other they would take ten seconds"
