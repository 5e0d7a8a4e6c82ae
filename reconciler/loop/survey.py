"""One look at everything: facts, found, wanted, and the plan that follows. Standard library only: `status` starts here."""

from __future__ import annotations

from _operator import attrgetter
from itertools import compress

from reconciler import observe, plan
from reconciler.errors import TunctlError
from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.nat import Table
from reconciler.kinds.owner import Owner
from reconciler.kinds.peer import Peer
from reconciler.kinds.resolver import Resolver
from reconciler.kinds.route import Route
from reconciler.kinds.routes import Places, Routes, missing
from reconciler.kinds.rule import Rule
from reconciler.lean import cached_property, defaultdict
from reconciler.model.facts import Facts
from reconciler.model.found import Found
from reconciler.model.intent import Intent
from reconciler.model.marks import Numbers
from reconciler.model.names import HOST, TunnelName
from reconciler.model.plan import Conflict, Plan, Step
from reconciler.model.policy import Policy, policy_of
from reconciler.model.resource import Resource, Verb
from reconciler.observe import facts as observe_facts
from reconciler.observe.question import Question
from reconciler.observe.route import tables
from reconciler.store.stored import Stored
from reconciler.typed import TYPE_CHECKING, Any, Enum, TypeVar
from reconciler.wanted import Wanted, wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, KeysView, Mapping, Sequence

R = TypeVar("R", bound=Resource)
_NOTHING = Plan()
_ROUTES = frozenset((Route, Routes))
PATIENCE_S = 2.0  # a pass that is blind to something has failed: it waits longer than `status` does


class Others(Enum):
    """What becomes of other stores' objects, and of those that name no store and may be theirs."""

    SPARED = "left alone"
    SWEPT = "those that name no store go"
    OURS = "taken for ours: the store is lost"


class Survey:
    """What is, what should be, and the difference. By tunnel too: there may be a thousand of them."""

    def __init__(self, stored: Stored, numbers: Numbers, facts: Facts, found: Found, wanted: Wanted, plan: Plan) -> None:
        self.stored = stored
        self.numbers = numbers
        self.facts = facts
        self.found = found
        self.wanted = wanted
        self.plan = plan

    @cached_property
    def intents(self) -> dict[TunnelName, Intent]:
        return {intent.name: intent for intent in self.stored.intents}

    @cached_property
    def there(self) -> KeysView[TunnelName]:
        """The tunnels of which something is there."""
        return dict.fromkeys(filter(None, map(attrgetter("tunnel"), self.found.resources))).keys()

    @cached_property
    def table(self) -> Table | None:
        """The packet filter of ours that is there."""
        return next(iter(self.found.of(Table)), None)

    @cached_property
    def resolved(self) -> frozenset[TunnelName | None]:
        """Tunnels whose links have name servers of ours in systemd-resolved."""
        return frozenset(resolver.tunnel for resolver in self.found.of(Resolver) if resolver.backend == "resolved")

    @cached_property
    def owners_wanted(self) -> dict[TunnelName, Owner]:
        return {r.tunnel: r for r in self.wanted.resources if isinstance(r, Owner) and r.tunnel}

    def found_of(self, tunnel: TunnelName) -> Sequence[Resource]:
        return self._found.get(tunnel, ())

    def link_of(self, tunnel: TunnelName) -> Link | None:
        """The found link of a tunnel."""
        return self._links.get(tunnel)

    def owner_of(self, tunnel: TunnelName) -> Owner | None:
        """The found owner of a tunnel."""
        return self._owners.get(tunnel)

    def plan_of(self, tunnel: TunnelName) -> Plan:
        """What is left to do for one tunnel."""
        return self._plans.get(tunnel, _NOTHING)

    def lacks_of(self, tunnel: TunnelName) -> Sequence[str]:
        """What it asked for and does not get here, and why."""
        return self._lacks.get(tunnel, ())

    @cached_property
    def _found(self) -> dict[TunnelName, list[Resource]]:
        return _by_tunnel(self.found.resources)

    @cached_property
    def _links(self) -> dict[TunnelName, Link]:
        """The first one of each tunnel."""
        return {link.tunnel: link for link in reversed(self.found.of(Link)) if link.tunnel}

    @cached_property
    def _owners(self) -> dict[TunnelName, Owner]:
        return {owner.tunnel: owner for owner in reversed(self.found.of(Owner)) if owner.tunnel}

    @cached_property
    def _plans(self) -> dict[TunnelName, Plan]:
        steps: dict[TunnelName, list[Step]] = {}
        conflicts: dict[TunnelName, list[Conflict]] = {}
        for step in self.plan.steps:
            steps.setdefault(step.tunnel, []).append(step)
            for name in self.named(step):
                steps.setdefault(name, []).append(step)
        for conflict in self.plan.conflicts:
            conflicts.setdefault(conflict.tunnel, []).append(conflict)
        return {name: Plan(tuple(steps.get(name, ())), tuple(conflicts.get(name, ()))) for name in {*steps, *conflicts}}

    @cached_property
    def routes_of(self) -> Mapping[TunnelName | None, int]:
        """How many are there of each tunnel."""
        numbers: defaultdict[TunnelName | None, int] = defaultdict(int)
        for like, prefixes in self.found.of(Routes):
            numbers[like.tunnel] += len(prefixes)
        for route in self.found.of(Route):
            numbers[route.tunnel] += 1
        return numbers

    @cached_property
    def peers_of(self) -> Mapping[TunnelName, list[Peer]]:
        """Those that are there of each tunnel."""
        return _by_tunnel(self.found.of(Peer))

    @cached_property
    def _lacks(self) -> Mapping[TunnelName, Sequence[str]]:
        lacks: defaultdict[TunnelName, list[str]] = defaultdict(list)
        for name, text in self.wanted.degraded:
            lacks[name].append(text)
        for name, error in self.wanted.refused:
            lacks[name].append(error.message)
        return lacks

    def named(self, step: Step) -> frozenset[TunnelName]:
        """Tunnels that a step of the host's own is about: those whose name servers it sets or removes, whose rules it
        changes in the packet filter, or whose packets go by the route or rule."""
        if isinstance(step.resource, Table):
            old = step.found if isinstance(step.found, Table) and step.verb is not Verb.DELETE else None
            return frozenset(step.resource.meant(old))
        if step.tunnel == HOST and isinstance(step.resource, Route | Routes | Rule):
            of_table = tables(tuple(self.intents.values()), self.numbers).get(step.resource.table)
            return self.wanted.served(step.resource) if of_table is None else frozenset((of_table,))
        return frozenset(r.owner for r in (step.resource, step.found) if isinstance(r, Resolver)) - {step.tunnel}

    @cached_property
    def errors(self) -> dict[TunnelName, TunctlError]:
        """Tunnels that this machine cannot have at all, and why."""
        return dict(self.wanted.impossible)


def _by_tunnel(resources: Iterable[R]) -> dict[TunnelName, list[R]]:
    out: defaultdict[TunnelName, list[R]] = defaultdict(list)
    several = list(resources)
    for tunnel, resource in zip(map(attrgetter("tunnel"), several), several, strict=True):
        if tunnel:
            out[tunnel].append(resource)
    return {**out}


def survey(
    machine: Machine,
    stored: Stored,
    *,
    resolve: bool,
    privileged: bool,
    adopt: frozenset[TunnelName] = frozenset(),
    without: frozenset[TunnelName] = frozenset(),
    others: Others = Others.SPARED,
    patience_s: float = PATIENCE_S,
) -> Survey:
    """Looks at the machine once. `resolve`: look endpoint names up. `without`: as if these tunnels were to be down.
    `others`: what becomes of what is, or may be, another store's.
    `patience_s`: how long an engine, or another slow look, may take before it is unobserved.
    """
    policy = policy_of(source.host for source in sorted(stored.sources, key=lambda source: not source.forgotten))
    numbers = policy.numbers
    question = Question(
        stored.intents, None if others is Others.OURS else stored.store_id or "", numbers, privileged=privileged, adopt=adopt,
        patience_s=patience_s,
    )  # fmt: skip
    found = observe.look(machine, question)
    gathered = observe_facts.gather(machine, stored.intents, found, policy, resolve=resolve, privileged=privileged)
    facts = _with_endpoints_tried(_alone(gathered) if others is Others.SWEPT else gathered, found, stored)
    intents = [i for i in stored.intents if i.name not in without] if without else list(stored.intents)
    want = _wanted(intents, facts, policy)
    found = _with_foreign_routes(machine, want.resources, found)
    found = _with(found, observe.settled(machine, want.resources, found))
    made = _planned(want, found)
    refused = _refused(want, found, made)
    if refused:  # what the host would do for them is not needed either
        without_them = wanted([i for i in intents if i.name not in refused], facts, policy)
        want = without_them._replace(impossible=want.impossible, excluded=want.excluded, warnings=want.warnings)
        made = _planned(want, found, refused)._replace(conflicts=made.conflicts)
    made = made._replace(warnings=want.warnings)
    return Survey(stored, numbers, facts, found, want, made if others is Others.SWEPT else _spared(made, found, stored))


def _alone(facts: Facts) -> Facts:
    """As if no other store had rules in the packet filter."""
    return facts._replace(forwarding=facts.forwarding._replace(strangers=frozenset()))


def _spared(made: Plan, found: Found, stored: Stored) -> Plan:
    """The plan, without what another store may need as long as links of one are here."""
    if not made.steps or not found.orphans:
        return made
    from reconciler.loop.spare import spared

    return spared(made, found, frozenset(intent.name for intent in stored.intents))


_last: tuple[tuple[list[Intent], Facts, Policy], Wanted] | None = None


def _wanted(intents: list[Intent], facts: Facts, policy: Policy) -> Wanted:
    """What follows from the same follows again: the last answer is kept, and is right as long as nothing is another."""
    global _last  # noqa: PLW0603 - of a pure function
    question = (intents, facts._replace(now_us=0), policy)  # nothing is wanted because of the time
    if _last is None or _last[0] != question:
        _last = question, wanted(*question)
    return _last[1]


def _planned(want: Wanted, found: Found, refused: frozenset[TunnelName] = frozenset()) -> Plan:
    """The plan, and nothing for tunnels whose wishes are not known or that are refused."""
    owners_unseen = [u for u in found.unobserved if u.kind == "owner" and not u.privilege]

    def is_blind(kind: str, tunnel: TunnelName | None) -> bool:
        if kind == "link" and any(u.tunnel in (None, tunnel) for u in owners_unseen):
            return True  # an owner is stopped before its link is touched; one that was not seen cannot be
        return found.is_unobserved(kind, tunnel)

    made = plan.plan(
        want.resources, found.resources, blind=is_blind if found.unobserved else None,
        untouched={name for name, _ in want.impossible} | refused, armed=want.armed, guards=want.guards, kept=want.kept,
    )  # fmt: skip
    if not any(u.kind == "nat" and not u.privilege for u in found.unobserved):
        return made
    return made._replace(steps=tuple(s for s in made.steps if not (isinstance(s.resource, Rule) and s.resource.is_judged)))


def _refused(want: Wanted, found: Found, made: Plan) -> frozenset[TunnelName]:
    """Tunnels that are not up and will not come up, because something foreign stands in their place."""
    if not made.conflicts:
        return frozenset()
    up = {link.tunnel for link in found.of(Link)}
    return frozenset(conflict.tunnel for conflict in made.conflicts) - up - want.armed - {HOST}


def _with_endpoints_tried(facts: Facts, found: Found, stored: Stored) -> Facts:
    if not any(map(attrgetter("tunnel.wireguard"), stored.intents)):
        return facts
    from reconciler.loop.turns import tried

    return tried(facts, found, {intent.name: intent for intent in stored.intents})


def _with_foreign_routes(machine: Machine, resources: Sequence[Resource], found: Found) -> Found:
    """What others have where routes of ours are missing; only then their tables are read."""
    wanted: list[Any] = [*compress(resources, map(_ROUTES.__contains__, map(type, resources)))]
    lacking = missing(wanted, [*found.of(Route), *found.of(Routes)])
    if not lacking or found.is_unobserved("route", None):
        return found
    try:
        foreign = observe.foreign_routes(machine, Places(lacking))
    except TunctlError as error:
        return found._replace(unobserved=(*found.unobserved, observe.unobserved("route", error)))
    return _with(found, foreign)


def _with(found: Found, more: Sequence[Resource]) -> Found:
    return found._replace(resources=(*found.resources, *more)) if more else found
