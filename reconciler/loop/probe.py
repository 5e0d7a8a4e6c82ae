"""A round of health checks: look, ask, judge, write down. It changes nothing on the machine and holds no lock: what follows
from it is for a pass to do. By the daemon in a process of its own, by a one-shot pass before it looks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from reconciler import health
from reconciler.errors import TunctlError
from reconciler.host import pulses
from reconciler.host.machine import Machine
from reconciler.host.ping import ping
from reconciler.host.pulses import boot_us
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.lean import suppress
from reconciler.model.found import LinkState
from reconciler.model.intent import Intent
from reconciler.model.names import IfName, TunnelName
from reconciler.model.policy import policy_of
from reconciler.model.pulse import Pulse, is_silent
from reconciler.model.tunnel import Health
from reconciler.observe import link, owner
from reconciler.observe.question import Question
from reconciler.store.stored import Line, Stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

ANSWER_S = 3.0  # for an echo; less where rounds follow faster
PATIENCE_S = 1.0  # for an engine
_UNHEALTHY = "unhealthy: "
EARLY = 0.9  # of an interval: timers are not exact


class Round(NamedTuple):
    """What came of it."""

    turned: frozenset[TunnelName] = frozenset()  # a pass has something to do for these now
    next_s: float | None = None  # until the next round is due; None: nobody asks for any
    told: tuple[tuple[TunnelName, str], ...] = ()  # what has changed, in words

    @property
    def lines(self) -> tuple[Line, ...]:
        """The same for the history."""
        now_us = _now_us()
        return tuple(
            Line(now_us, name, "unhealthy" if words.startswith(_UNHEALTHY) else "healthy", words.removeprefix(_UNHEALTHY))
            for name, words in self.told
        )


class _Patient(NamedTuple):
    """A tunnel that is there and due."""

    intent: Intent
    health: Health
    state: LinkState
    before: Pulse | None


def make_round(run_dir: str | Path, stored: Stored, only: Collection[TunnelName] | None = None) -> Round:
    """Of all tunnels that are due, or of those of them in `only`. NotObserved when not even the links can be seen."""
    with Machine(run_dir) as machine:
        boot_id = machine.handles.boot_id
        intents = tuple(i for i in stored.intents if i.tunnel.health and i.is_wanted_up(boot_id))
        if not intents:
            return Round()
        policy = policy_of(source.host for source in stored.sources)
        question = Question(intents, stored.store_id or "", policy.numbers, patience_s=PATIENCE_S)
        states, links = link.look(machine, question)
        now_us = _now_us()
        due = _alike(_due(machine, intents, links, states, now_us, only))
        turned = _looked_after(machine, due, question, states, links) if due else {}
        told = tuple((name, words) for name, words in turned.items() if words)
        return Round(frozenset(turned), _next_s(intents, {one.intent.name for one in due}, machine, now_us), told)


def _due(
    machine: Machine,
    intents: Iterable[Intent],
    links: Iterable[Link],
    states: Mapping[IfName, LinkState],
    now_us: int,
    only: Collection[TunnelName] | None,
) -> Iterable[_Patient]:
    there = {one.tunnel: one for one in links if one.tunnel}
    for intent in intents:
        one, settings = there.get(intent.name), intent.tunnel.health
        if one is None or settings is None or (only is not None and intent.name not in only):
            continue
        before = _read(machine, intent.name, now_us)
        is_same = before is not None and before.ifindex == one.ifindex and before.generation == intent.generation
        if is_same and before and 0 <= now_us - before.at_us < settings.interval_s * EARLY * 1e6:
            continue
        yield _Patient(intent, settings, states[one.name], before)


def _alike(due: Iterable[_Patient]) -> list[_Patient]:
    """Those that wait the shortest time for an answer; the others have the next round, at once."""
    ordered = sorted(due, key=_answer_s)
    return [one for one in ordered if _answer_s(one) == _answer_s(ordered[0])]


def _answer_s(one: _Patient) -> float:
    return min(ANSWER_S, one.health.interval_s)


def _looked_after(
    machine: Machine, due: Sequence[_Patient], question: Question, states: Mapping[IfName, LinkState], links: Sequence[Link]
) -> dict[TunnelName, str]:
    """The tunnels that a pass has to see to now, and what there is to say of them."""
    asked = [(one.state.name, target) for one in due for target in one.health.ping]
    answers = ping(asked, _answer_s(due[0])) if asked else {}
    owners, peers = _engines(machine, [one.intent for one in due], question, states, links)
    now = {state.name: state for state in machine.rtnl.links(counted=True)}
    is_online = any(state.carrier and state.up and not state.loopback and state.mark is None for state in now.values())
    turned = {}
    for one in due:
        name, state = one.intent.name, now.get(one.state.name)
        if state is None or state.ifindex != one.state.ifindex:
            continue  # it is another one now
        received = state.counters.rx_packets if state.counters else 0
        seen = health.Seen(
            _now_us(), machine.handles.boot_id, state.ifindex, state.carrier, received,
            {target: answers[state.name, target] for target in one.health.ping}, peers.get(name), owners.get(name), is_online,
            boot_us(),
        )  # fmt: skip
        pulse = health.after(one.before, one.intent, seen)
        with suppress(OSError):  # a full disk: the next round has another try
            pulses.write(machine.run_dir, name, pulse)
            if _effect(pulse) != _effect(one.before):
                turned[name] = _words(one, pulse)
    return turned


def _words(one: _Patient, pulse: Pulse) -> str:
    """The news; "" when there is none to tell."""
    before = one.before
    if pulse.condemned is not None and (before is None or pulse.condemned != before.condemned):
        why = ", ".join(pulse.evidence(one.intent.tunnel, pulse.at_us)) or "it answers nothing"
        return f"{_UNHEALTHY}{why}; its program (pid {pulse.condemned[0]}) is started anew"
    if pulse.is_dead and not (before and before.is_dead):
        return (
            f"{_UNHEALTHY}{', '.join(pulse.evidence(one.intent.tunnel, pulse.at_us)) or 'it has no carrier, or no handshake'}"
        )
    return "works again" if before and before.is_dead and not pulse.is_dead else ""


def _effect(pulse: Pulse | None) -> object:
    """What a pass goes by: it blocks, starts a program anew, and looks up again where a silent peer may be."""
    if pulse is None:
        return False, None, frozenset()
    return pulse.is_dead, pulse.condemned, frozenset(t.public_key for t in pulse.talks if is_silent(t, pulse.at_us))


def _engines(
    machine: Machine, intents: Sequence[Intent], question: Question, states: Mapping[IfName, LinkState], links: Sequence[Link]
) -> tuple[dict[TunnelName, tuple[int, int]], dict[TunnelName, tuple[Peer, ...]]]:
    """The programs, and what WireGuard engines say of their peers; who could not be asked is in neither."""
    question = question._replace(intents=tuple(intents))
    if all(intent.tunnel.tun for intent in intents):
        return {}, {}
    found, _ = owner.look(machine, question, states)
    owners = {one.tunnel: (one.pid, one.start_ticks) for one in found if _is_known(one)}
    peers: dict[TunnelName, tuple[Peer, ...]] = {}
    if any(intent.tunnel.wireguard for intent in intents):
        from reconciler.observe import wireguard

        with suppress(TunctlError):
            devices, told, _ = wireguard.look(machine, question, links, found)
            peers = {one.tunnel: tuple(p for p in told if p.tunnel == one.tunnel) for one in devices if one.tunnel}
    return {name: (pid, ticks) for name, (pid, ticks) in owners.items() if name and pid and ticks}, peers


def _is_known(one: Owner) -> bool:
    return bool(one.tunnel and one.pid and one.start_ticks)


def _next_s(intents: Iterable[Intent], looked_after: Collection[TunnelName], machine: Machine, now_us: int) -> float:
    """Until the first of them is due."""
    waits = []
    for intent in intents:
        interval_s = intent.tunnel.health.interval_s if intent.tunnel.health else 0.0
        pulse = None if intent.name in looked_after else _read(machine, intent.name, now_us)
        passed_s = (now_us - pulse.at_us) / 1e6 if pulse else 0.0
        waits.append(interval_s - min(max(passed_s, 0.0), interval_s))
    return min(waits)


def _read(machine: Machine, name: TunnelName, now_us: int) -> Pulse | None:
    known = pulses.read(machine.run_dir, name)
    return known and known.by_clock(now_us, boot_us())


def _now_us() -> int:
    return time.time_ns() // 1000
