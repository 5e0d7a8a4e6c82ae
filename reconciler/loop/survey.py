"""One look at everything: facts, found, wanted, and the plan that follows. Standard library only: `status` starts here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from reconciler import observe, plan
from reconciler.errors import TunctlError
from reconciler.host.machine import Machine
from reconciler.kinds.peer import Peer
from reconciler.kinds.route import Route
from reconciler.model.facts import Facts
from reconciler.model.found import Found
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import TunnelName
from reconciler.model.plan import Plan
from reconciler.model.resource import Resource
from reconciler.model.tunnel import Host
from reconciler.observe import facts as observe_facts
from reconciler.observe.question import Question
from reconciler.store.stored import Stored
from reconciler.verdict import HANDSHAKE_MAX_AGE_S
from reconciler.wanted import Wanted, wanted


class Survey(NamedTuple):
    """What is, what should be, and the difference."""

    stored: Stored
    numbers: Numbers
    facts: Facts
    found: Found
    wanted: Wanted
    plan: Plan

    def error_of(self, tunnel: TunnelName) -> TunctlError | None:
        """Why this machine cannot have the tunnel at all."""
        return next((error for name, error in self.wanted.impossible if name == tunnel), None)


def survey(
    machine: Machine,
    stored: Stored,
    *,
    resolve: bool,
    privileged: bool,
    adopt: frozenset[TunnelName] = frozenset(),
    without: frozenset[TunnelName] = frozenset(),
    every_mark: bool = False,
) -> Survey:
    """Looks at the machine once. `resolve`: look endpoint names up. `without`: as if these tunnels were to be down.
    `every_mark`: the store is lost, so whatever carries any mark of tunctl is taken for ours."""
    numbers = numbers_of(source.host for source in stored.sources)
    question = Question(
        stored.intents, None if every_mark else stored.store_id or "", numbers, privileged=privileged, adopt=adopt
    )
    found = observe.look(machine, question)
    gathered = observe_facts.gather(machine, stored.intents, found.links, resolve=resolve, privileged=privileged)
    facts = gathered._replace(working_endpoints=_working(gathered, found))
    want = wanted((i for i in stored.intents if i.name not in without), facts, numbers)
    found = _with_foreign_routes(machine, want.resources, found)
    impossible = [name for name, _ in want.impossible]
    made = plan.plan(want.resources, found.resources, blind=found.is_unobserved, untouched=impossible)
    return Survey(stored, numbers, facts, found, want, made)


def numbers_of(hosts: Iterable[Host]) -> Numbers:
    """The marks, tables and priorities in force: the defaults, moved by what the sources declare (never differently)."""
    numbers = Numbers()
    for host in hosts:
        if host.mark is not None:
            numbers = numbers._replace(fwmark=host.mark[0], fwmask=host.mark[1])
        moved = {
            "table_base": host.table_base,
            "priority_base": host.priority_base,
            "link_group": host.link_group,
        }
        numbers = numbers._replace(**{name: value for name, value in moved.items() if value is not None})
    return numbers


def _working(facts: Facts, found: Found) -> dict[str, str]:
    """Of the endpoints that were set, those whose peer has talked to us lately: it may have roamed, leave it alone."""
    oldest_s = facts.now_us // 1_000_000 - HANDSHAKE_MAX_AGE_S
    fresh = {
        f"{r.tunnel} {r.public_key}"
        for r in found.resources
        if isinstance(r, Peer) and r.endpoints and (r.latest_handshake_s or 0) > oldest_s
    }
    return {key: text for key, text in facts.working_endpoints.items() if key in fresh}


def _with_foreign_routes(machine: Machine, resources: Iterable[Resource], found: Found) -> Found:
    """What others have where routes of ours are missing; only then their tables are read."""
    ours = {r[1:5] for r in found.resources if isinstance(r, Route)}
    missing = {r[1:5] for r in resources if isinstance(r, Route)} - ours
    if not missing or found.is_unobserved("route", None):
        return found
    try:
        foreign = observe.foreign_routes(machine, missing)
    except TunctlError as error:
        return found._replace(unobserved=(*found.unobserved, observe.unobserved("route", error)))
    return found._replace(resources=(*found.resources, *foreign))


def intent_of(stored: Stored, name: TunnelName) -> Intent | None:
    """The intent with this name."""
    return next((intent for intent in stored.intents if intent.name == name), None)
