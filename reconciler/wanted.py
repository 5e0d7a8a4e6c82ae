"""Intents and facts → wanted. Pure. What few tunnels ask for (nat, dns) is loaded for those."""

from __future__ import annotations

from reconciler import drivers
from reconciler.drivers import Driver
from reconciler.errors import NotObserved, TunctlError, Unavailable
from reconciler.kinds import address, rule
from reconciler.kinds.link import Link
from reconciler.kinds.routes import Some
from reconciler.kinds.rule import Rule
from reconciler.layout import lan, overlaps, routes, rules, shared
from reconciler.layout.ground import Ground
from reconciler.layout.lay import Excluded, Lay, lay
from reconciler.layout.overlaps import Overlaps
from reconciler.model.facts import Connected, Facts, Unknown
from reconciler.model.intent import Intent
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.nameservice import Resolvers
from reconciler.model.policy import Policy
from reconciler.model.prefix import AF_INET, AF_INET6, Prefix, ntop
from reconciler.model.resource import Resource
from reconciler.typed import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from reconciler.layout.passage import Passage


_new = tuple.__new__  # as in `kinds.routes`


class Wanted(NamedTuple):
    """The objects that are to be there, and what is to be said of them."""

    resources: tuple[Resource, ...]
    impossible: tuple[tuple[TunnelName, TunctlError], ...] = ()  # what this machine cannot have, and why
    refused: tuple[tuple[TunnelName, TunctlError], ...] = ()  # what of it this machine cannot have; the rest goes on
    kept: frozenset[str] = frozenset()  # kinds of which HOST keeps what it has: what they follow from is not known now
    excluded: Mapping[TunnelName, tuple[Excluded, ...]] = {}
    degraded: tuple[tuple[TunnelName, str], ...] = ()  # reasons
    warnings: tuple[str, ...] = ()
    armed: frozenset[TunnelName] = frozenset()  # they block their prefixes, whatever stands in their way
    ground: Ground | None = None  # what the host's own routes and rules follow from

    def served(self, one: Some | Rule) -> frozenset[TunnelName]:
        """The tunnels that do not work without this route or rule of the host's own."""
        return shared.served(self.ground, one) if self.ground else frozenset()

    def guards(self, one: Resource) -> bool:
        """What makes armed tunnels block, and keeps everything else out of there: the rules that lead to their tables, and
        the host's own routes and rules, but for those that lead into other tunnels."""
        lays = self.ground.lays if self.ground and self.armed else ()
        if isinstance(one, Rule):
            home = next((laid.intent.name for laid in lays if laid.owns_table and laid.table == one.table), None)
            return home in self.armed if home else bool(lays) and one.tunnel == HOST and not one.is_judged
        return one.kind == "route" and bool(lays) and one.tunnel == HOST and one.dev not in {laid.dev for laid in lays}


class _Up(NamedTuple):
    """A tunnel that is to be up, and what it wants apart from routes."""

    lay: Lay
    resources: Sequence[Resource]
    passages: tuple[Passage, ...] = ()  # what its `nat` lets through


def wanted(intents: Iterable[Intent], facts: Facts, policy: Policy) -> Wanted:
    """The objects that follow from intents and facts; nothing for a tunnel that is to be down."""
    due = [intent for intent in intents if intent.is_wanted_up(facts.boot_id)]
    if isinstance(facts.connected, Unknown):
        error = NotObserved(f"which networks are local is not known: {facts.connected.reason}")
        return Wanted((), tuple((intent.name, error) for intent in due), kept=_HOST_KINDS | _NOTHING_KNOWN | {"resolver"})
    kept = lan.kept(facts.connected, policy)
    ups, impossible = _ups(due, facts, policy, kept)
    ground = Ground([up.lay for up in ups], kept, _endpoints(ups, facts), facts, policy, _publishing(ups, facts))
    without = _stranded(ground)
    stranded = [up for up in ups if up.lay.intent.name in without] if without else []
    fresh = [up for up in stranded if not up.lay.intent.progress.worked]
    if fresh:
        ups = [up for up in ups if up not in fresh]
        impossible += [(up.lay.intent.name, _no_gateway()) for up in fresh]
        ground = Ground([up.lay for up in ups], kept, ground.endpoints, facts, policy, _publishing(ups, facts))
    lays = ground.lays
    given = overlaps.overlaps(lays, facts, policy.numbers) if ground.special else Overlaps()
    names = _resolvers(lays, facts, kept)
    vouched = _vouched(due, facts)
    lost = _lost(facts, {name for name, _ in impossible})
    keeping = [up.lay for up in stranded if up not in fresh]
    degraded = (*_degraded(ups, keeping, ground), *names.reasons, *vouched.expired, *lost)
    keeps = isinstance(facts.uplinks, Unknown) or isinstance(facts.leading6, Unknown) or bool(keeping)
    filtered = _filtered(ups, ground, unknown=[name for name, _ in impossible], keeps=keeps)
    return Wanted(
        (*_resources(ups, ground, given), *filtered, *names.resources),
        tuple(impossible),
        (*names.refused, *vouched.refused),
        _HOST_KINDS if keeps else frozenset(),
        {laid.intent.name: laid.excluded for laid in ground.special if laid.excluded},
        degraded,
        (
            *_warnings(ground),
            *overlaps.told(given, ground.special),
            *(f"{name}: {reason}" for name, reason in degraded),
            *names.warnings,
            *vouched.warnings,
        ),
        frozenset([laid.intent.name for laid in ground.special if laid.blocks and laid.intent.progress.worked]),
        ground,
    )


_HOST_KINDS = frozenset(("route", "rule"))
_NOTHING_KNOWN = frozenset(("nat",))


def _ups(
    due: Iterable[Intent], facts: Facts, policy: Policy, kept: tuple[Connected, ...]
) -> tuple[list[_Up], list[tuple[TunnelName, TunctlError]]]:
    ups: list[_Up] = []
    impossible: list[tuple[TunnelName, TunctlError]] = []
    local = [one.prefix for one in kept]
    covered = frozenset(one.prefix for one in lan.connected(facts)).difference(local)
    for intent in due:
        tunnel = intent.tunnel
        try:
            driver = drivers.of(tunnel)
            pulse = facts.pulse(tunnel.name) if facts.vitals else None
            laid = lay(intent, interface(intent, facts), driver.prefixes(tunnel), kept, policy.numbers, covered)
            laid = laid._replace(is_dead=True) if pulse and pulse.is_dead else laid
            covered -= laid.displaced  # a second tunnel with the same prefix is refused, as anywhere else
        except TunctlError as error:
            impossible.append((intent.name, error))
            continue
        try:
            resources = _engine(driver, laid, facts, policy, local)
            ups.append(_new(_Up, (laid, resources, _passages(laid, facts, resources) if tunnel.nat else ())))
        except TunctlError as error:
            impossible.append((intent.name, error))
            if intent.progress.worked:  # nothing of it is touched, and what goes through it must not go beside it
                ups.append(_Up(laid, ()))
    return ups, impossible


def _passages(laid: Lay, facts: Facts, resources: Iterable[Resource]) -> tuple[Passage, ...]:
    from reconciler.layout import passage

    return passage.passages(laid, facts, next((r.mtu for r in resources if isinstance(r, Link)), None))


def _engine(driver: Driver, laid: Lay, facts: Facts, policy: Policy, local: Sequence[Prefix]) -> list[Resource]:
    """What one tunnel wants when it is up, apart from routes and rules. `local`: networks that stay where they are."""
    intent, dev, blocks, numbers = laid.intent, laid.dev, laid.blocks, policy.numbers
    link = driver.link(intent, facts, numbers, dev)
    if blocks or not intent.tunnel.tun:
        link = link._replace(dies_openly=blocks or None)  # a program that is gone leaves no hole, if possible
    out: list[Resource] = [link]
    owner = driver.owner(intent, facts, dev)
    if owner:
        pulse = facts.pulse(intent.name)
        out.append(owner._replace(condemned=pulse.condemned) if pulse else owner)
    out += driver.engine(intent, facts, numbers, dev)
    out += address.wanted(intent, dev, local, lambda network: routes.is_in_place_of_connected(laid, network))
    return out


def _resources(ups: list[_Up], ground: Ground, given: Overlaps) -> list[Resource]:
    """Shared objects first: nobody's packets may go the wrong way for a moment."""
    facts, numbers = ground.facts, ground.policy.numbers
    out: list[Resource] = [*shared.shared(ground, given), *rules.of_tables(ground.open, facts, numbers)]
    if ground.judged_for:
        from reconciler.layout import begun

        out += begun.held_back(ground.lays, facts, numbers)
    for laid, resources, passages in ups:
        out += resources
        out += routes.of_tunnel(laid, facts)
        if laid.intent.tunnel.rules:
            out += rule.wanted(laid.intent, numbers)
        if passages:
            from reconciler.layout import nat

            out += nat.of_tunnel(laid, passages, facts)
    return out


def _filtered(ups: list[_Up], ground: Ground, *, unknown: Sequence[TunnelName], keeps: bool) -> Iterator[Resource]:
    """The packet filter of all tunnels."""
    full = [laid.intent.name for laid in ground.full]
    passages = [one for up in ups if up.passages for one in up.passages]
    if full or passages or ground.judged_for or ground.facts.forwarding.rules:
        from reconciler.layout import nat

        yield from nat.filtered(passages, full, ground, unknown=unknown, keeps=keeps)


def _resolvers(lays: Sequence[Lay], facts: Facts, kept: Sequence[Connected]) -> Resolvers:
    if facts.name_service is None:
        return Resolvers()
    from reconciler.layout.resolvers import resolvers

    return resolvers(lays, facts, kept)


class _Vouched(NamedTuple):
    """What is to be said of endpoints that manifests vouch for."""

    refused: tuple[tuple[TunnelName, TunctlError], ...] = ()
    expired: tuple[tuple[TunnelName, str], ...] = ()
    warnings: tuple[str, ...] = ()


def _vouched(due: Sequence[Intent], facts: Facts) -> _Vouched:
    if not facts.whereabouts:
        return _Vouched()
    from reconciler.layout import whereabouts as told

    return _Vouched(tuple(told.refused(due, facts)), tuple(told.expired(due, facts)), tuple(told.warnings(due, facts)))


def _unpassable(ups: Iterable[_Up], facts: Facts) -> Iterator[tuple[TunnelName, str]]:
    """Why not all of what `nat` entries say can be."""
    ways = [(up.lay, up.passages) for up in ups if up.lay.intent.tunnel.nat]
    if ways:
        from reconciler.layout import nat

        yield from nat.reasons(ways, facts)


def _publishing(ups: Sequence[_Up], facts: Facts) -> frozenset[IfName]:
    """Uplinks from which the host forwards, or is to, while a full tunnel is up: answers come from others then."""
    if isinstance(facts.uplinks, Unknown) or not any(up.lay.full for up in ups):
        return frozenset()
    outs = {one.out for up in ups for one in up.passages if one.forward}
    return facts.forwarding.open_uplinks | (outs & {uplink.dev for uplink in facts.uplinks})


def _endpoints(ups: Iterable[_Up], facts: Facts) -> dict[TunnelName, tuple[bytes, ...]]:
    """Of each tunnel that has any."""
    found = {}
    for up in ups if facts.resolved else ():
        tunnel = up.lay.intent.tunnel
        packed: list[bytes] = []
        for host in drivers.of(tunnel).endpoints(tunnel, facts):
            addresses = facts.resolved.get(host, ())
            # a name that cannot be looked up now: its pin is one of these, and none of them may go
            packed += facts.pinned if isinstance(addresses, Unknown) else addresses
        if packed:
            found[tunnel.name] = tuple(dict.fromkeys(packed))
    return found


def _stranded(ground: Ground) -> set[TunnelName]:
    """They need a gateway, and the host has none."""
    return set() if isinstance(ground.facts.uplinks, Unknown) else shared.needing_uplink(ground)


def _no_gateway() -> TunctlError:
    return Unavailable("no default gateway available to pin endpoint", hint="bring the uplink up; tunctl reconcile tries again")


def _degraded(ups: Sequence[_Up], stranded: Sequence[Lay], ground: Ground) -> Iterator[tuple[TunnelName, str]]:
    """Reasons why a tunnel is not all that it could be."""
    last = " and ".join(map(ntop, ground.facts.gateways)) or "what was set by the last one"
    for laid in stranded:
        yield laid.intent.name, f"gateway unknown, keeping {last}"
    yield from _unpassable(ups, ground.facts)
    yield from lan.public(ground.kept, ground.full, (AF_INET,))


def _lost(facts: Facts, impossible: Container[TunnelName]) -> Iterator[tuple[TunnelName, str]]:
    """Ports that were a tunnel's and are somebody else's now."""
    for name, ports in facts.ports.items():
        if not isinstance(ports, Unknown) and name not in impossible:
            yield from ((name, port.lost) for port in ports if port.lost)


def _warnings(ground: Ground) -> Iterator[str]:
    for name, text in lan.public(ground.kept, ground.full, (AF_INET6,)):  # in IPv6 most are: that is no fault of anything
        yield f"{name}: {text}"
    if ground.is_full and ground.policy.lan != "tunnel":
        for one in lan.connected(ground.facts):
            if not lan.is_believed(one.prefix):
                yield f"connected network {one.prefix} on {one.dev} is too wide to be believed: it does not stay local"
    for laid in ground.special:
        if routes.leaks_ipv6(laid, ground.facts):
            yield f"{laid.intent.name}: IPv6 is unreachable while it is up, but for the LAN (ipv6_leak)"
        for packed in ground.endpoints.get(laid.intent.name, ()) if laid.direct else ():
            for length in laid.direct.around(Prefix(packed, len(packed) * 8)):
                where = f"the endpoint {ntop(packed)} lies in direct {Prefix(packed, length).network}"
                yield f"{laid.intent.name}: {where}, it stays outside the tunnel anyway"
        for prefix, reason in laid.excluded[:20]:
            yield f"{laid.intent.name}: {prefix} stays out of the tunnel: {reason}"


def interface(intent: Intent, facts: Facts) -> IfName:
    """The name of a tunnel's link; for "auto" the one that the facts found for it."""
    return intent.tunnel.interface or facts.interfaces[intent.name]
