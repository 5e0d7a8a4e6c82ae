"""A WireGuard peer that does not answer: which of its addresses has its turn."""

from __future__ import annotations

import pytest

from reconciler.drivers import wireguard
from reconciler.kinds.peer import Address, Peer
from reconciler.loop.turns import tried
from reconciler.model.facts import Facts, Uplink
from reconciler.model.found import Found
from reconciler.model.intent import Intent, Progress
from reconciler.model.marks import Mark, Numbers
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import AF_INET, AF_INET6, pton
from reconciler.model.pulse import Pulse, Talk, Vital
from reconciler.model.tunnel import Endpoint, PeerSettings, Tunnel, WireGuard

NAME, DEV, KEY = TunnelName("office"), IfName("wg0"), "k" * 43 + "="
NOW_S = 1_800_000_000
FOUR, SIX = pton("192.0.2.1"), pton("2001:db8::1")
BOTH = (AF_INET, AF_INET6)


def wanted(
    handshake_s: int | None,
    *,
    keepalive_s: int | None = 25,
    up_s: int = 1000,
    uplinks: tuple[int, ...] = BOTH,
    silent_s: int = 0,
) -> list[str] | None:
    """The endpoints that will do, of a peer whose last handshake was so long ago."""
    settings = PeerSettings(KEY, endpoint=Endpoint("vpn.example", 51820), keepalive_s=keepalive_s)
    tunnel = Tunnel(NAME, "wireguard", DEV, wireguard=WireGuard("k", backend="userspace", peers=(settings,)))
    since_us = (NOW_S - up_s) * 1_000_000
    of = Intent(tunnel, Mark(NAME, "0000", "0000"), 1, "s", 1, progress=Progress("up", since_us, since_us, worked=True))
    at = None if handshake_s is None else NOW_S - handshake_s
    found = Peer(NAME, DEV, KEY, (), keepalive_s or 0, (Address(FOUR, 51820),), latest_handshake_s=at)
    now_us = NOW_S * 1_000_000
    talk = Talk(KEY, silent_since_us=now_us - silent_s * 1_000_000 if silent_s else None)
    pulse = Pulse("00000000", "boot", 1, 1, 0, now_us, talks=(talk,))
    facts = Facts(
        now_us=now_us,
        resolved={"vpn.example": (FOUR, SIX)},
        uplinks=tuple(Uplink(family, IfName("eth0"), None, 0) for family in uplinks),
        working_endpoints={f"{NAME} {KEY}": "vpn.example:51820"},
        vitals={NAME: Vital(NAME, pulse)},
    )
    facts = tried(facts, Found((found,), {}, {}), {NAME: of})
    (peer,) = (one for one in wireguard.engine(of, facts, Numbers(), DEV) if isinstance(one, Peer))
    return None if peer.endpoints is None else [str(one) for one in peer.endpoints]


A, B = "192.0.2.1:51820", "[2001:db8::1]:51820"


@pytest.mark.parametrize(("handshake_s", "turn"), [(181, A), (209, A), (211, B), (239, B), (241, A)], ids=str)
def test_each_address_has_its_turn(handshake_s: int, turn: str) -> None:
    assert wanted(handshake_s) == [turn]


def test_who_talks_is_left_alone() -> None:
    """It may have roamed."""
    assert wanted(20) is None


def test_who_is_silent_is_looked_up_long_before() -> None:
    assert wanted(20, silent_s=20) == [A]
    assert wanted(20, silent_s=40) == [B]


def test_who_never_talked() -> None:
    assert wanted(None, up_s=10) == [A]
    assert wanted(None, up_s=40) == [B]


def test_silence_says_nothing_where_nobody_sends() -> None:
    assert wanted(500, keepalive_s=None) == [A, B]


def test_the_family_that_has_an_uplink_comes_first() -> None:
    assert wanted(None, up_s=10, uplinks=(AF_INET6,)) == [B]
    assert wanted(500, keepalive_s=None, uplinks=(AF_INET6,)) == [B, A]
