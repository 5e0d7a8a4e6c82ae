"""What is printed: golden lines, times, and JSON that any program can read."""

from __future__ import annotations

import json

import pytest

from reconciler.errors import InvalidFile, Problem
from reconciler.kinds.link import Link
from reconciler.kinds.rule import Rule
from reconciler.model.moment import duration, rfc3339, size
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Conflict, Plan, Step
from reconciler.model.prefix import parse_network
from reconciler.model.resource import Verb
from reconciler.report import changes, plain

A = TunnelName("a")
LINK = Link(A, IfName("tun-a"), "tun", 1400, up=True, alias="tunctl:a:00000000", group=20000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (59, "59s"),
        (61, "1min 1s"),
        (3700, "1h 1min"),
        (172800, "2 days"),
        (90061, "1 day 1h"),
        (-5, "just now"),
        (0, "0s"),
        (3600, "1h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_times() -> None:
    assert rfc3339(None) is None
    assert rfc3339(1_800_000_000_123_456) == "2027-01-15T08:00:00.123456Z"


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1536, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]


def test_a_plan_reads_like_ip() -> None:
    rule = Rule(A, 2, 20100, 20001, parse_network("192.168.50.0/24"), None, "lan0", (0x10, 0xFF), (1000, 2000))
    found = LINK._replace(mtu=1300, ifindex=4)
    plan = Plan(
        (
            Step(Verb.CHANGE, LINK, found, A, ("mtu",)),
            Step(Verb.CREATE, rule, None, A),
            Step(Verb.DELETE, LINK, LINK, A),
        ),
        (Conflict(A, LINK, found, "link tun-a exists but is not owned by tunctl"),),
        ("a word",),
    )
    assert list(changes.plan_text(plan, [TunnelName("b")])) == [
        "~ link tun-a type tun mtu 1400 up  (mtu 1300 → 1400)",
        "+ rule -4 priority 20100 from 192.168.50.0/24 iif lan0 fwmark 0x10/0xff uidrange 1000-2000 lookup 20001",
        "- link tun-a type tun mtu 1400 up",
        "x a: link tun-a exists but is not owned by tunctl",
        "# warning: a word",
        "# b is held down (tunctl up b)",
    ]
    document = json.loads(json.dumps(changes.plan_json(plan, [TunnelName("b")])))
    assert document["changes"] == 3
    assert [step["verb"] for step in document["steps"]] == ["change", "create", "delete"]
    assert document["steps"][1]["wanted"]["from"] == "192.168.50.0/24"
    assert document["steps"][2]["wanted"] is None


def test_nothing_to_do() -> None:
    assert list(changes.plan_text(Plan())) == ["no changes"]


def test_an_error_is_a_document() -> None:
    error = InvalidFile("bad", hint="mend it", details=(Problem("d.toml", 3, "tunnels.x.mtu", "expected an integer"),))
    assert plain.error(error)["error"] == {
        "code": 65,
        "message": "bad",
        "hint": "mend it",
        "details": [{"file": "d.toml", "line": 3, "key": "tunnels.x.mtu", "message": "expected an integer"}],
    }
    assert str(error.details[0]) == "d.toml:3: tunnels.x.mtu: expected an integer"
