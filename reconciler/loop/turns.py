"""Which endpoints work, and how long others have been tried in vain. Pure: only looks at what was found."""

from __future__ import annotations

from reconciler.kinds.peer import Peer
from reconciler.model.facts import Facts
from reconciler.model.found import Found
from reconciler.model.intent import Intent
from reconciler.model.names import TunnelName
from reconciler.model.tunnel import HANDSHAKE_MAX_AGE_S
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

TURN_S = 30  # for one of several addresses: WireGuard tries every five seconds


def tried(facts: Facts, found: Found, intents: Mapping[TunnelName, Intent]) -> Facts:
    """Of the endpoints that were set, those whose peer has talked to us lately: it may have roamed, leave it alone. Of the
    others how many turns they had."""
    working: dict[str, str] = {}
    turns: dict[str, int] = {}
    for peer in found.of(Peer):
        if not peer.endpoints or not peer.tunnel:
            continue
        key = f"{peer.tunnel} {peer.public_key}"
        since_us = _since_us(peer, facts, intents.get(peer.tunnel))
        if since_us is not None:
            turns[key] = max(0, facts.now_us - since_us) // (TURN_S * 1_000_000)
        elif key in facts.working_endpoints and peer.latest_handshake_s:
            working[key] = facts.working_endpoints[key]
    return facts._replace(working_endpoints=working, turns=turns)


def _since_us(peer: Peer, facts: Facts, intent: Intent | None) -> int | None:
    """Since when it does not answer: its handshake is too old, or it is sent data and nothing comes back. None: it answers."""
    silent_us = _silent_since_us(peer, facts)
    if silent_us is not None:
        return silent_us
    if peer.latest_handshake_s:
        stale_us = (peer.latest_handshake_s + HANDSHAKE_MAX_AGE_S) * 1_000_000
        return stale_us if facts.now_us >= stale_us else None
    return (intent.progress.up_since_us if intent else None) or facts.now_us


def _silent_since_us(peer: Peer, facts: Facts) -> int | None:
    pulse = facts.pulse(peer.tunnel) if peer.tunnel else None
    if pulse is None:
        return None
    from reconciler.model.pulse import is_silent

    talks = (talk for talk in pulse.talks if talk.public_key == peer.public_key and talk.rx_bytes == peer.rx_bytes)
    return next((talk.silent_since_us for talk in talks if is_silent(talk, pulse.at_us)), None)
