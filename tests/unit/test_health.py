"""Rounds of health checks: what each of them finds, and what follows after several."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from reconciler.health import Seen, after
from reconciler.host import pulses
from reconciler.kinds.peer import Address, Peer
from reconciler.model.intent import Intent
from reconciler.model.marks import Mark
from reconciler.model.names import IfName, TunnelName
from reconciler.model.prefix import pton
from reconciler.model.pulse import Pulse
from reconciler.model.timeline import Setting, Timeline
from reconciler.model.tunnel import Endpoint, Exec, Health, PeerSettings, Restart, Tun, Tunnel, WireGuard

NAME, DEV = TunnelName("demo"), IfName("tun-demo")
ONE, TWO = pton("10.0.0.1"), pton("fd00::1")
KEY = "k" * 43 + "="
NOW_S = 1_800_000_000
EVERY_S = 10
BOOT_US = 300_000_000  # the machine is up for so long in round 0


def intent(tunnel: Tunnel, **fields: Any) -> Intent:
    return Intent(tunnel, Mark(NAME, "0000", "0001"), 1, "s", 1)._replace(**fields)


def pinging(action: str = "none", restart: Restart | None = None) -> Intent:
    settings = Health(None, (ONE, TWO), EVERY_S, 3, action)
    return intent(Tunnel(NAME, "exec", DEV, exec_=Exec(("/bin/x",)), health=settings, restart=restart or Restart()))


def talking(keepalive_s: int | None) -> Intent:
    peer = PeerSettings(KEY, name="berlin", endpoint=Endpoint("192.0.2.1", 1), keepalive_s=keepalive_s)
    return intent(Tunnel(NAME, "wireguard", DEV, wireguard=WireGuard("k", peers=(peer,)), health=Health(180, (), EVERY_S, 3)))


def seen(number: int, *answers: str | None, **fields: Any) -> Seen:
    """Round number so and so."""
    given = dict(zip((ONE, TWO), answers, strict=False))
    at_us = number * EVERY_S * 1_000_000
    return Seen(NOW_S * 1_000_000 + at_us, "boot", 7, True, 0, given, boot_us=BOOT_US + at_us)._replace(**fields)


def rounds(of: Intent, *each: Seen, before: Pulse | None = None) -> Pulse:
    for one in each:
        before = after(before, of, one)
    assert before is not None
    return before


def said(pulse: Pulse, of: Intent) -> str:
    return "\n".join(pulse.reasons(of.tunnel, pulse.at_us, blocks=True))


def peer(handshake_s: int | None, rx: int = 0, tx: int = 0) -> tuple[Peer, ...]:
    place, at = (Address(pton("192.0.2.1"), 1),), handshake_s
    return (Peer(NAME, DEV, KEY, (), 25, place, latest_handshake_s=at, told_handshake_s=at, rx_bytes=rx, tx_bytes=tx),)


GOOD, BAD = ("", None), (None, None)


def test_one_answer_is_enough() -> None:
    pulse = rounds(pinging(), *(seen(n, *GOOD) for n in range(5)))
    assert (pulse.is_dead, pulse.works, said(pulse, pinging())) == (False, True, "")


def test_several_in_a_row_and_as_many_back() -> None:
    of = pinging()
    pulse = rounds(of, seen(0, *GOOD), seen(1, *BAD), seen(2, *BAD))
    assert (pulse.is_dead, said(pulse, of)) == (False, "")
    pulse = rounds(of, seen(3, *GOOD), seen(4, *BAD), seen(5, *BAD), before=pulse)
    assert not pulse.is_dead
    pulse = rounds(of, seen(6, *BAD), before=pulse)
    assert pulse.is_dead
    assert "unhealthy for 0 s: what goes into it is unreachable" in said(pulse, of)
    assert "ping 10.0.0.1: last answer 30 s ago (observed 0 s ago)" in said(pulse, of)
    assert "ping fd00::1 was never answered, 7 times in a row" in said(pulse, of)
    pulse = rounds(of, seen(7, *GOOD), seen(8, *GOOD), before=pulse)
    assert pulse.is_dead
    assert not pulse.works
    pulse = rounds(of, seen(9, *GOOD), before=pulse)
    assert (pulse.is_dead, pulse.works, said(pulse, of)) == (False, True, "")


def test_who_never_answered_proves_nothing() -> None:
    """A wrong address is said, and cuts nothing off."""
    of = pinging()
    pulse = rounds(of, *(seen(n, *BAD) for n in range(9)))
    assert not pulse.is_dead
    assert "ping 10.0.0.1 was never answered, 9 times in a row" in said(pulse, of)


def test_who_could_not_be_asked_proves_nothing() -> None:
    of = pinging()
    pulse = rounds(of, seen(0, *GOOD), *(seen(n, "Network is unreachable", "no such device") for n in range(1, 9)))
    assert not pulse.is_dead
    assert "ping 10.0.0.1 cannot be sent through it: Network is unreachable" in said(pulse, of)


def test_data_that_comes_in_proves_life() -> None:
    """The only target died; the tunnel did not."""
    of = pinging()
    pulse = rounds(of, seen(0, *GOOD), *(seen(n, *BAD, rx_packets=n * 50) for n in range(1, 9)))
    assert not pulse.is_dead
    assert "though data comes in" in said(pulse, of)
    assert rounds(of, *(seen(n, *BAD, rx_packets=400 + n) for n in range(9, 13)), before=pulse).is_dead, (
        "a packet a round is none"
    )


def test_no_carrier_is_dead_whoever_answered() -> None:
    assert rounds(pinging(), *(seen(n, *GOOD, carrier=False) for n in range(3))).is_dead


@pytest.mark.parametrize(
    ("keepalive_s", "handshake_s", "dead"),
    [(25, NOW_S - 500, True), (25, NOW_S - 20, False), (25, None, True), (None, NOW_S - 500, False), (None, None, False)],
    ids=["stale", "fresh", "never", "nobody talks", "nobody ever talked"],
)
def test_handshakes(keepalive_s: int | None, handshake_s: int | None, dead: bool) -> None:
    of = talking(keepalive_s)
    assert rounds(of, *(seen(n, peers=peer(handshake_s)) for n in range(6))).is_dead is dead


def test_grace_for_a_new_tunnel() -> None:
    pulse = rounds(talking(25), *(seen(0, now_us=NOW_S * 10**6 + n * 10**6, peers=peer(None)) for n in range(10)))
    assert pulse.bad == 0


def test_data_that_nobody_answers() -> None:
    """Long before the handshake is too old; keepalives do not count, they are not answered."""
    of = talking(25)
    quiet = rounds(of, *(seen(n, peers=peer(NOW_S, rx=500, tx=32 * n)) for n in range(9)))
    assert said(quiet, of) == ""
    assert quiet.works
    pulse = rounds(of, *(seen(n, peers=peer(NOW_S, rx=500, tx=1000 * n)) for n in range(9)))
    assert pulse.is_dead
    assert "peer berlin: data is sent and nothing comes back for 80 s" in said(pulse, of)
    answered = rounds(of, seen(9, peers=peer(NOW_S, rx=600, tx=9000)), before=pulse)
    assert "comes back" not in said(answered, of)


def test_an_engine_that_could_not_be_asked_proves_nothing() -> None:
    pulse = rounds(talking(25), seen(0, peers=peer(NOW_S)), *(seen(n, peers=None) for n in range(1, 9)))
    assert (pulse.is_dead, pulse.bad) == (False, 0)


def restarts(of: Intent, count: int, *, owner: bool = True, is_online: bool = True) -> list[int]:
    """In which rounds the program is condemned, of a tunnel that never works again; each successor is another process."""
    pulse, pid, found = rounds(of, seen(0, *GOOD, owner=(100, 1))), 100, []
    for number in range(1, count):
        pulse = after(pulse, of, seen(number, *BAD, owner=(pid, 1) if owner else None, is_online=is_online))
        if pulse.condemned is not None:
            assert pulse.condemned == (pid, 1)
            found.append(number)
            pid += 1
    return found


def test_a_restart_and_no_storm() -> None:
    """At once, then after three more rounds and the delays 5, 10, 20, 40, 60, 60 s."""
    found = restarts(pinging("restart"), 60)
    assert found[:3] == [3, 7, 11]
    gaps = [b - a for a, b in pairwise(found)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 6
    assert restarts(pinging("restart", Restart(base_s=200, max_s=300)), 60) == [3, 23, 53]


def test_a_restart_only_where_it_can_help() -> None:
    assert restarts(pinging("none"), 20) == []
    assert restarts(pinging("restart"), 20, owner=False) == []
    assert restarts(pinging("restart"), 20, is_online=False) == []


def test_a_restart_is_given_up() -> None:
    of = pinging("restart", Restart(attempts=2))
    assert len(restarts(of, 60)) == 2
    pulse = rounds(of, seen(0, *GOOD, owner=(1, 1)), *(seen(n, *BAD, owner=(n, n)) for n in range(1, 30)))
    assert pulse.gave_up(of.tunnel)
    assert "gave up restarting it (attempts = 2)" in said(pulse, of)
    again = of._replace(generation=2)
    assert after(pulse, again, seen(30, *BAD, owner=(9, 9))).restarts == 0, "a new generation"


def test_a_new_interface_begins_again_but_for_its_restarts() -> None:
    of = pinging("restart")
    pulse = rounds(of, seen(0, *GOOD, owner=(1, 1)), *(seen(n, *BAD, owner=(1, 1)) for n in range(1, 4)))
    assert pulse.condemned
    fresh = after(pulse, of, seen(4, *BAD, ifindex=8, owner=(2, 2)))
    assert (fresh.ifindex, fresh.bad, fresh.is_dead, fresh.restarts, fresh.condemned) == (8, 1, True, 1, None)
    by_user = after(pulse._replace(condemned=None), of, seen(4, *BAD, ifindex=8, owner=(2, 2)))
    assert not by_user.is_dead
    assert not after(pulse, of, seen(4, *BAD, boot_id="other")).is_dead
    assert not after(pulse, of, seen(-9, *BAD)).is_dead, "it comes from another machine's future"


def set_by(clock_s: int, one: Seen) -> Seen:
    return one._replace(now_us=one.now_us + clock_s * 1_000_000)


@pytest.mark.parametrize("clock_s", [86_400, -86_400, 100, -100])
def test_a_clock_that_is_set_changes_nothing(clock_s: int) -> None:
    """F52: who works is not restarted, who is dead stays so and as long, pauses are as long as before, ages are told right."""
    peers = talking(25)
    alive = rounds(peers, *(seen(n, peers=peer(NOW_S, rx=500)) for n in range(3)))
    alive = rounds(peers, *(set_by(clock_s, seen(n, peers=peer(NOW_S, rx=500))) for n in range(3, 12)), before=alive)
    assert (alive.is_dead, alive.bad, said(alive, peers)) == (False, 0, ""), "the engine tells the handshake by the old clock"
    silent = rounds(peers, *(set_by(clock_s, seen(n, peers=peer(NOW_S, rx=500))) for n in range(18, 21)), before=alive)
    assert silent.is_dead, "180 s, whatever the clock says"
    anew = NOW_S + 200 + clock_s
    assert rounds(peers, *(set_by(clock_s, seen(n, peers=peer(anew))) for n in range(21, 24)), before=silent).works

    of, owner = pinging("restart", Restart(base_s=200, max_s=300)), (1, 1)
    dead = rounds(of, seen(0, *GOOD, owner=owner), *(seen(n, *BAD, owner=owner) for n in range(1, 4)))
    assert dead.condemned == owner
    waits = rounds(of, *(set_by(clock_s, seen(n, *BAD, owner=(2, 2))) for n in range(4, 23)), before=dead)
    assert (waits.is_dead, waits.condemned) == (True, None)
    assert "unhealthy for 190 s" in said(waits, of)
    assert "last answer 220 s ago" in said(waits, of)
    assert after(waits, of, set_by(clock_s, seen(23, *BAD, owner=(2, 2)))).condemned == (2, 2), "200 s after the first"


@pytest.mark.parametrize("clock_s", [-1000, -300, 1000])
def test_a_dead_peer_does_not_come_to_life_when_the_clock_shows_the_same_time_again(clock_s: int) -> None:
    """A handshake of before a step back looks new as soon as the clock is there again, if nobody remembers it."""
    of, since_boot = talking(25), NOW_S * 1_000_000 - BOOT_US

    def found(number: int) -> Seen:
        at = BOOT_US + number * EVERY_S * 1_000_000
        clock = Timeline(at, since_boot + clock_s * 1_000_000, (Setting(since_boot, BOOT_US + 25 * 1_000_000),))
        told = clock.translated(NOW_S * 1_000_000) // 1_000_000
        return set_by(clock_s, seen(number, peers=(peer(NOW_S)[0]._replace(latest_handshake_s=told),)))

    before = rounds(of, *(seen(n, peers=peer(NOW_S)) for n in range(3)))
    dead = rounds(of, *(found(n) for n in range(3, 25)), before=before)
    assert dead.is_dead
    for number in range(25, 150):
        dead = rounds(of, found(number), before=dead)
        assert dead.is_dead, f"{number * EVERY_S} s after it"


def test_a_tun_has_nothing_to_restart() -> None:
    of = intent(Tunnel(NAME, "tun", DEV, tun=Tun(), health=Health(None, (ONE,))))
    assert rounds(of, seen(0, ""), *(seen(n, None) for n in range(1, 9))).condemned is None


def test_as_a_file(tmp_path: Path) -> None:
    of = pinging("restart")
    pulse = rounds(of, seen(0, *GOOD, owner=(1, 1)), *(seen(n, *BAD, owner=(1, 1)) for n in range(1, 4)))
    pulse = after(pulse, of, seen(4, "", "no", peers=peer(5, 6, 7), owner=(1, 1)))
    with pytest.raises(FileNotFoundError):
        pulses.write(tmp_path, NAME, pulse)
    (tmp_path / "tunnels" / NAME).mkdir(parents=True)
    pulses.write(tmp_path, NAME, pulse)
    assert pulses.read(tmp_path, NAME) == pulse
    path = tmp_path / "tunnels" / NAME / pulses.FILE
    assert path.stat().st_mode & 0o777 == 0o644
    text = path.read_text()
    changed = [('"bad": 0', '"bad": "x"'), ('"version": 1', '"version": 2'), ('"10.0.0.1"', '"ten"'), ('"hears"', '"ears"')]
    for wrong in ("", "[]", "{}", "null", text[:-9], "[" * 100_000, *(text.replace(*words) for words in changed)):
        path.write_text(wrong)
        assert wrong != text
        assert pulses.read(tmp_path, NAME) is None, wrong[:60]
    pulses.drop(tmp_path, NAME)
    pulses.drop(tmp_path, NAME)
    assert pulses.read(tmp_path, NAME) is None
