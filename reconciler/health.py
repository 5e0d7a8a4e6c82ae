"""One more round of a health check: before, seen → after. Pure: does a tunnel that is there also work?

Several signs, none of which decides at once. An answer through the tunnel is the best; who never gave one proves nothing by
his silence (a wrong address would cut a good tunnel off). A WireGuard peer with `keepalive` has a young handshake, and answers
data that it is sent, if only with an empty packet. Data that comes in by itself says that the tunnel works, whoever does not
answer. After `failures` rounds in a row one way or the other the tunnel is dead, or works again. What says nothing (a look that
failed, a ping that could not be sent) changes nothing.
"""

from __future__ import annotations

from reconciler.kinds.peer import Peer
from reconciler.model.intent import Intent
from reconciler.model.pulse import Ping, Pulse, Talk, is_silent
from reconciler.model.tunnel import HANDSHAKE_GRACE_S, HANDSHAKE_MAX_AGE_S, Health, PeerSettings
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEEPALIVE_BYTES = 32  # of a keepalive: header and tag of a message without content
DATA_PER_S = 1.0  # packets; WireGuard in the kernel counts its own among them, which are fewer


class Seen(NamedTuple):
    """What this round has found."""

    now_us: int
    boot_id: str
    ifindex: int
    carrier: bool
    rx_packets: int
    answers: Mapping[bytes, str | None]  # who was asked: "" answered, None did not; else why he could not be asked
    peers: tuple[Peer, ...] | None = None  # None: the engine could not be asked, or there is none
    owner: tuple[int, int] | None = None  # pid and start ticks
    is_online: bool = True  # some link of the host carries anything at all
    boot_us: int = 0  # the same moment since the machine started: a clock that nobody sets


def after(before: Pulse | None, intent: Intent, seen: Seen) -> Pulse:
    """The pulse with this round in it."""
    settings = intent.tunnel.health or Health()
    last = _continued(before and before.by_clock(seen.now_us, seen.boot_us), intent, seen)
    pings = tuple(_pinged(last, target, seen) for target in settings.ping)
    talks = tuple(_talked(last, intent, peer, seen) for peer in seen.peers) if seen.peers is not None else last.talks
    now = last._replace(
        at_us=seen.now_us, boot_us=seen.boot_us, pings=pings, talks=talks, rx_packets=seen.rx_packets,
        hears=_hears(last, intent, seen),
    )  # fmt: skip
    return _restarted(_counted(now, settings, works=_works(now, intent, seen)), intent, seen)


def _continued(before: Pulse | None, intent: Intent, seen: Seen) -> Pulse:
    """What goes on from the round before. On a new interface everything begins again, but for who has ever answered and how
    often its program was started; one that we started anew is dead until it proves otherwise."""
    fresh = Pulse(
        intent.mark.id, seen.boot_id, seen.ifindex, intent.generation, seen.now_us, seen.now_us, rx_packets=seen.rx_packets
    )
    if before is None or (before.id, before.boot_id) != (fresh.id, fresh.boot_id) or before.at_us > seen.now_us:
        return fresh
    if before.generation != intent.generation:
        before = before._replace(generation=intent.generation, restarts=0, restarted_us=None, condemned=None, bad=0)
    if before.ifindex == seen.ifindex:
        return before
    known = tuple(ping._replace(missed=0, problem="") for ping in before.pings)
    fresh = fresh._replace(pings=known, restarts=before.restarts, restarted_us=before.restarted_us)
    return fresh._replace(dead_since_us=before.dead_since_us) if before.condemned else fresh


def _pinged(last: Pulse, target: bytes, seen: Seen) -> Ping:
    known = next((ping for ping in last.pings if ping.target == target), Ping(target))
    answer = seen.answers.get(target, "it was not asked")
    if answer is None:
        return known._replace(missed=known.missed + 1, problem="")
    if answer:
        return known._replace(problem=answer)
    return known._replace(answered_us=seen.now_us, missed=0, problem="")


def _talked(last: Pulse, intent: Intent, peer: Peer, seen: Seen) -> Talk:
    """Sent is what is more than keepalives: these nobody answers."""
    known = next((talk for talk in last.talks if talk.public_key == peer.public_key), None)
    handshake_us = peer.latest_handshake_s * 1_000_000 if peer.latest_handshake_s else None
    if known is not None and known.handshake_s == peer.told_handshake_s:
        handshake_us = known.handshake_us
    talk = Talk(peer.public_key, peer.rx_bytes, peer.tx_bytes, None, peer.told_handshake_s, handshake_us)
    if known is None or peer.rx_bytes != known.rx_bytes or peer.tx_bytes < known.tx_bytes:
        return talk
    passed_s = (seen.now_us - last.at_us) / 1e6
    keepalives = passed_s // peer.keepalive_s + 1 if peer.keepalive_s else 0
    sent = peer.tx_bytes - known.tx_bytes > keepalives * KEEPALIVE_BYTES
    return talk._replace(silent_since_us=known.silent_since_us or (last.at_us if sent else None))


def _hears(last: Pulse, intent: Intent, seen: Seen) -> bool:
    passed_s = (seen.now_us - last.at_us) / 1e6
    peers = len(intent.tunnel.wireguard.peers) if intent.tunnel.wireguard else 0
    return seen.rx_packets - last.rx_packets > passed_s * DATA_PER_S * max(1, peers)


def _works(now: Pulse, intent: Intent, seen: Seen) -> bool | None:
    """By this round alone; None: it says nothing."""
    if not seen.carrier:
        return False
    for sign in (_answered(now.pings), _peers(now, intent, seen)):
        if sign is not None:
            return sign or now.hears
    return True if now.hears else None


def _answered(pings: Iterable[Ping]) -> bool | None:
    asked = [ping for ping in pings if not ping.problem]
    if any(ping.answers for ping in asked):
        return True
    return False if any(ping.answered_us is not None for ping in asked) else None


def _peers(now: Pulse, intent: Intent, seen: Seen) -> bool | None:
    """One that works is enough. One without `keepalive` is silent for good once nobody sends: it cannot be seen to recover."""
    settings = intent.tunnel.wireguard
    there = {peer.public_key: peer for peer in seen.peers or ()}
    peers = [one for one in settings.peers if one.endpoint or one.manifest] if settings else []
    signs = {_peer(now, intent, one, there[one.public_key]) for one in peers if one.public_key in there}
    return True if True in signs else False if False in signs else None


def _peer(now: Pulse, intent: Intent, settings: PeerSettings, found: Peer) -> bool | None:
    health = intent.tunnel.health or Health()
    talk = next((talk for talk in now.talks if talk.public_key == found.public_key), None)
    age_s = (now.at_us - ((talk and talk.handshake_us) or 0)) / 1e6
    if age_s < (health.handshake_max_age_s or HANDSHAKE_MAX_AGE_S) and not (talk and is_silent(talk, now.at_us)):
        return True
    begun_s = (now.at_us - now.begun_us) / 1e6
    return False if settings.keepalive_s and begun_s >= HANDSHAKE_GRACE_S else None


def _counted(now: Pulse, settings: Health, *, works: bool | None) -> Pulse:
    if works is None:
        return now
    good, bad = (now.good + 1, 0) if works else (0, now.bad + 1)
    dead_since_us = now.dead_since_us
    if good >= settings.failures:
        dead_since_us = None
    elif bad >= settings.failures and dead_since_us is None:
        dead_since_us = now.at_us
    return now._replace(good=good, bad=bad, dead_since_us=dead_since_us)


def _restarted(now: Pulse, intent: Intent, seen: Seen) -> Pulse:
    """A restart can help where there is a program of ours, and a host that is connected to anything. The first one comes at
    once, the next ones only after `failures` more rounds and the delay of `[restart]`."""
    settings, restart = intent.tunnel.health or Health(), intent.tunnel.restart
    if now.condemned is not None:
        if now.condemned == seen.owner or seen.owner is None:
            return now
        now = now._replace(condemned=None, bad=0)  # another one is at work: it has its chance
    if not now.is_dead:
        rested = now.restarted_us is not None and now.at_us - now.restarted_us > restart.max_s * 1e6
        return now._replace(restarts=0, restarted_us=None) if rested else now
    due = now.bad >= settings.failures and now.at_us >= now.next_restart_us(restart)
    allowed = settings.action == "restart" and not now.gave_up(intent.tunnel)
    if not (due and allowed and seen.owner and seen.is_online):
        return now
    return now._replace(condemned=seen.owner, restarts=now.restarts + 1, restarted_us=now.at_us)
