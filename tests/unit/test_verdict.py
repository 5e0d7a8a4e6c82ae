"""Verdicts and their reasons, as a table: intent, what is found, what is left to do."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Address, Peer
from reconciler.kinds.route import Route
from reconciler.model.facts import Facts
from reconciler.model.found import Unobserved
from reconciler.model.intent import Intent, Progress
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Conflict, Plan, Step
from reconciler.model.prefix import parse_network, pton
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Endpoint, PeerSettings, Tun, Tunnel, WireGuard
from reconciler.model.verdict import Judgement, Verdict
from reconciler.verdict import Evidence, judge, worst

NAME, DEV = TunnelName("demo"), IfName("tun-demo")
NOW_S = 1_800_000_000
FACTS = Facts(boot_id="boot", now_us=NOW_S * 1_000_000)
TUNNEL = Tunnel(NAME, "tun", DEV, tun=Tun())
INTENT = Intent(TUNNEL, Mark(NAME, "0000", "0000"), 1, "s", 1, progress=Progress("up", 1, 1, worked=True))
WANTED = Link(NAME, DEV, "tun", 1420, up=True, alias="tunctl:demo:00000000", group=20000)
LINK = WANTED._replace(ifindex=5, carrier=True)
ROUTE = Route(NAME, *parse_network("10.20.0.0/16"), 254, 0, "unicast", DEV)
OWNER = Owner(NAME, INTENT.mark, DEV, ("/bin/vpn",), pid=4711, start_ticks=5)
NEW = INTENT._replace(progress=Progress())
KEY = "k" * 43 + "="


def left(*steps: Step, conflicts: tuple[Conflict, ...] = ()) -> Plan:
    return Plan(steps, conflicts)


def change(found: Link, *fields: str) -> Step:
    return Step(Verb.CHANGE, WANTED, found, NAME, fields)


MISSING = Step(Verb.CREATE, ROUTE, None, NAME)
CREATE = Step(Verb.CREATE, WANTED, None, NAME)
FOREIGN = Conflict(NAME, WANTED, LINK._replace(tunnel=None), "link tun-demo exists but is not owned by tunctl")
RESIDUE = Step(Verb.DELETE, ROUTE, ROUTE, NAME)

CASES: dict[str, tuple[Intent, tuple[Any, ...], Plan, Verdict, str]] = {
    "all is well": (INTENT, (LINK,), left(), Verdict.CONNECTED, ""),
    "no process": (INTENT, (LINK._replace(carrier=False),), left(), Verdict.DEGRADED, "no process attached"),
    "route gone": (INTENT, (LINK,), left(MISSING), Verdict.DEGRADED, "route 10.20.0.0/16 dev tun-demo missing"),
    "mtu": (INTENT, (LINK,), left(change(LINK._replace(mtu=1300), "mtu")), Verdict.DEGRADED, "mtu 1300 != 1420"),
    "down": (INTENT, (LINK._replace(up=False, carrier=False),), left(change(LINK, "up")), Verdict.DEGRADED, "admin down"),
    "renamed": (
        INTENT,
        (LINK,),
        left(change(LINK._replace(name=IfName("tun-zz")), "name")),
        Verdict.DEGRADED,
        "interface renamed to tun-zz",
    ),
    "gone": (INTENT, (), left(CREATE), Verdict.STALE, "interface no longer present"),
    "gone, something stayed": (INTENT, (), left(CREATE, RESIDUE), Verdict.STALE, "left over: route 10.20.0.0/16 dev tun-demo"),
    "not up yet": (NEW, (), left(CREATE), Verdict.NOT_CONNECTED, "not up yet"),
    "coming up": (NEW, (LINK,), left(MISSING), Verdict.NOT_CONNECTED, "still coming up for the first time"),
    "failed once": (
        NEW._replace(progress=Progress("waiting", 1, attempt=1, error="busy")), (), left(CREATE), Verdict.NOT_CONNECTED, "busy",
    ),
    "gave up": (
        NEW._replace(progress=Progress("failed", 1, attempt=3, error="busy")), (), left(CREATE), Verdict.FAILED, "busy",
    ),
    "nobody reads, though it runs": (
        INTENT, (LINK._replace(carrier=False), OWNER), left(), Verdict.DEGRADED, "owner pid 4711 runs and has not opened it",
    ),
    "exited": (
        INTENT, (LINK._replace(carrier=False),), left(Step(Verb.CREATE, OWNER, None, NAME)), Verdict.DEGRADED,
        "owner not running",
    ),
    "the device is gone, its program is not": (
        INTENT, (OWNER,), left(CREATE), Verdict.STALE, "owner pid 4711 lives on without it",
    ),
    "holds it and answers nothing": (
        INTENT, (LINK, OWNER), left(Step(Verb.REPLACE, OWNER, OWNER, NAME, ("condemned",))), Verdict.DEGRADED,
        "holds its device and answers nothing, it is to be started anew",
    ),
    "foreign": (INTENT, (), left(conflicts=(FOREIGN,)), Verdict.FAILED, "foreign: link tun-demo exists but is not owned"),
    "held": (INTENT._replace(held=True), (), left(), Verdict.NOT_CONNECTED, "held down"),
    "held, but there": (
        INTENT._replace(held=True), (LINK,), left(Step(Verb.DELETE, LINK, LINK, NAME)), Verdict.DEGRADED, "not down",
    ),
    "disabled": (
        INTENT._replace(tunnel=TUNNEL._replace(enabled=False)), (), left(), Verdict.NOT_CONNECTED, "disabled",
    ),
    "not started in this boot": (
        INTENT._replace(tunnel=TUNNEL._replace(autostart=False), started_boot="before"),
        (),
        left(),
        Verdict.NOT_CONNECTED,
        "not started",
    ),
    "started in this boot": (
        INTENT._replace(tunnel=TUNNEL._replace(autostart=False), started_boot="boot"), (LINK,), left(), Verdict.CONNECTED, "",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("intent", "found", "plan", "verdict", "reason"), CASES.values(), ids=CASES)
def test_verdicts(intent: Intent, found: tuple[Any, ...], plan: Plan, verdict: Verdict, reason: str) -> None:
    judgement = judge(intent, Evidence(found, plan, (), FACTS))
    assert judgement.verdict is verdict
    assert reason in "; ".join(judgement.reasons)


def test_many_differences_are_counted() -> None:
    judgement = judge(INTENT, Evidence((LINK,), left(*[MISSING] * 50), (), FACTS))
    assert judgement.reasons[-1] == "and 38 more differences"


def test_a_failed_look_is_unknown_and_never_gone() -> None:
    judgement = judge(INTENT, Evidence((), left(), (Unobserved(None, "link", "timed out"),), FACTS))
    assert judgement == Judgement(Verdict.UNKNOWN, ("link could not be read: timed out",))


def test_what_only_root_sees_is_left_out_of_the_verdict() -> None:
    blind = (Unobserved(None, "owner", "needs root", privilege=True), Unobserved(TunnelName("other"), "peer", "timeout"))
    judgement = judge(INTENT, Evidence((LINK,), left(), blind, FACTS))
    assert judgement.verdict is Verdict.CONNECTED
    assert judgement.unobserved == ("owner: needs root",)


def test_an_engine_that_does_not_answer_root_is_unknown() -> None:
    blind = (Unobserved(NAME, "wireguard", "engine does not answer"),)
    assert judge(INTENT, Evidence((LINK,), left(), blind, FACTS)).verdict is Verdict.UNKNOWN


def wireguard(up_for_s: int, keepalive_s: int | None = 25) -> Intent:
    peers = (PeerSettings(KEY, name="berlin", endpoint=Endpoint("vpn.example.com", 51820), keepalive_s=keepalive_s),)
    tunnel = Tunnel(NAME, "wireguard", DEV, wireguard=WireGuard("k", peers=peers))
    return INTENT._replace(tunnel=tunnel, progress=Progress("up", 1, (NOW_S - up_for_s) * 1_000_000, worked=True))


def peer(age_s: int | None, *, resolved: bool = True) -> Peer:
    endpoints = (Address(pton("192.0.2.1"), 51820),) if resolved else None
    return Peer(NAME, DEV, KEY, (), 25, endpoints, "", latest_handshake_s=None if age_s is None else NOW_S - age_s)


PEERS: dict[str, tuple[Intent, Peer, Verdict, str]] = {
    "fresh": (wireguard(999), peer(20), Verdict.CONNECTED, ""),
    "at the limit": (wireguard(999), peer(179), Verdict.CONNECTED, ""),
    "old": (wireguard(999), peer(180), Verdict.DEGRADED, "peer berlin: last handshake 180 s ago"),
    "of a clock that was set back since": (wireguard(-9999), peer(-600), Verdict.DEGRADED, "the clock was set back"),
    "a moment younger than the look": (wireguard(999), peer(-1), Verdict.CONNECTED, ""),
    "never": (wireguard(999), peer(None), Verdict.DEGRADED, "peer berlin: no handshake yet"),
    "grace": (wireguard(14), peer(None), Verdict.CONNECTED, ""),
    "no keepalive, no expectation": (wireguard(999, None), peer(None), Verdict.CONNECTED, ""),
    "unresolved": (
        wireguard(999),
        peer(None, resolved=False),
        Verdict.DEGRADED,
        "endpoint vpn.example.com:51820 could not be resolved",
    ),
}


@pytest.mark.parametrize(("intent", "found", "verdict", "reason"), PEERS.values(), ids=PEERS)
def test_handshakes(intent: Intent, found: Peer, verdict: Verdict, reason: str) -> None:
    judgement = judge(intent, Evidence((LINK, found), left(), (), FACTS))
    assert judgement.verdict is verdict
    assert reason in "; ".join(judgement.reasons)


def test_the_exit_code_is_the_highest_that_counts() -> None:
    down = Judgement(Verdict.NOT_CONNECTED, counts=False)
    assert worst([], named=False) == 0
    assert worst([down], named=False) == 0
    assert worst([down], named=True) == 1
    assert worst([down, Judgement(Verdict.DEGRADED), Judgement(Verdict.STALE)], named=False) == 3
    assert [verdict.exit_code for verdict in Verdict] == [0, 1, 2, 3, 4, 5]


def test_what_could_not_be_looked_up_is_no_failure() -> None:
    """Guarantee 13: a name service that does not answer in time says nothing about the tunnel."""
    judgement = judge(INTENT, Evidence((LINK,), left(), (), FACTS, "user 'x' could not be read within 0.2 s", (), unsure=True))
    assert judgement.verdict is Verdict.UNKNOWN
    assert judge(INTENT, Evidence((LINK,), left(), (), FACTS, "no such user")).verdict is Verdict.FAILED
