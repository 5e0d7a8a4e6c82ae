"""What the loop has to know after a pass: the only thing that comes back from there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from reconciler.daemon.tally import measured
from reconciler.host.resolve import is_literal
from reconciler.loop.reconcile import Pass
from reconciler.loop.survey import Survey
from reconciler.loop.watch import Known
from reconciler.model.facts import Unknown
from reconciler.model.intent import Intent
from reconciler.model.meter import Work
from reconciler.model.names import IfName, TunnelName
from reconciler.model.plan import Outcome
from reconciler.model.policy import INTERVAL_S, policy_of
from reconciler.model.resource import Verb
from reconciler.model.tunnel import Restart
from reconciler.store.stored import Line

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping


class Repaired(NamedTuple):
    """A step that was done."""

    tunnel: TunnelName
    key: Hashable  # kind and identity
    verb: Verb
    text: str


class Report(NamedTuple):
    """One pass, in short."""

    steps: tuple[Repaired, ...] = ()
    work: Work = Work()  # the same and what failed, in figures
    errors: tuple[tuple[TunnelName, str], ...] = ()
    notes: tuple[str, ...] = ()
    apart: frozenset[TunnelName] = frozenset()
    known: Known = Known()
    owners: tuple[tuple[TunnelName, int, int], ...] = ()  # name, pid, start ticks
    restarts: tuple[tuple[TunnelName, int, Restart], ...] = ()  # name, generation, how patient
    retries: tuple[tuple[TunnelName, float], ...] = ()  # who waits for the next attempt, how many seconds from now
    interval_s: float = INTERVAL_S
    warnings: tuple[str, ...] = ()  # of manifests, also those that were said before
    files: frozenset[str] = frozenset()  # a change of one of these is a reason to look
    lines: tuple[Line, ...] = ()  # of the history, to be written when there is time
    names: Mapping[str, tuple[bytes, ...] | Unknown] = {}  # what those of endpoints meant
    asks_health: bool = False  # some tunnel that is to be up has health checks
    failure: str = ""
    locked: bool = False  # another tunctl was at work
    goes_on: bool = False  # its process waits for the next request


def report(passed: Pass) -> Report:
    """Of a pass that came to its end."""
    seen = passed.after
    stored = seen.stored
    up = [intent for intent in stored.intents if intent.is_wanted_up(seen.facts.boot_id)]
    states = {i.name: passed.moves[i.name][0] if i.name in passed.moves else i.progress for i in up}
    owners = [(name, own.pid, own.start_ticks) for name in seen.there if (own := seen.owner_of(name)) is not None]
    return Report(
        tuple(repaired(passed.outcomes)),
        measured(passed.outcomes),
        tuple((name, error.message) for name, error in passed.errors),
        passed.warnings,
        passed.apart,
        _known(seen, [i.tunnel.interface for i in up if i.tunnel.interface]),
        tuple((name, pid, ticks) for name, pid, ticks in owners if pid and ticks),
        tuple((i.name, i.generation, i.tunnel.restart) for i in up),
        tuple((name, one.rest_us(seen.facts.now_us) / 1e6) for name, one in states.items() if one.state == "waiting"),
        min((policy_of(source.host for source in stored.sources).interval_s, *_refreshes_s(up))),
        _warnings(seen),
        _files(up),
        passed.lines,
        {host: known for host, known in seen.facts.resolved.items() if not is_literal(host)},
        any(intent.tunnel.health for intent in up),
        goes_on=not any(o.step.resource.kind == "owner" for o in passed.outcomes),  # else its children would be zombies
    )


def repaired(outcomes: Iterable[Outcome]) -> Iterator[Repaired]:
    """What was done. A few routes are told apart: somebody may undo one of them now, and all of them the next time."""
    for step in (part for o in outcomes if not o.error and not o.skipped for part in o.step.told_apart()):
        yield Repaired(step.tunnel, step.identity, step.verb, str(step.resource))


def _known(seen: Survey, names: list[IfName]) -> Known:
    links = {one.ifindex: name for name in seen.there if (one := seen.link_of(name)) is not None and one.ifindex}
    return Known(
        links,
        frozenset(names),
        seen.numbers,
        seen.table is not None,
        seen.found.name_service is not None,
    )


def _refreshes_s(up: Iterable[Intent]) -> Iterator[float]:
    """How often manifests are read again, whether their files tell of a change or not."""
    return (one.refresh_s for intent in up for one in intent.tunnel.manifests.values())


def _warnings(seen: Survey) -> tuple[str, ...]:
    if not seen.facts.whereabouts:
        return ()
    from reconciler.layout import whereabouts

    intents = seen.stored.intents
    expired = (f"{name}: {reason}" for name, reason in whereabouts.expired(intents, seen.facts))
    return (*whereabouts.warnings(intents, seen.facts), *expired)


def _files(up: list[Intent]) -> frozenset[str]:
    if not any(intent.tunnel.manifests for intent in up):
        return frozenset()
    from reconciler.observe import manifest

    return manifest.paths(up)
