"""Gathers what the machine is like now, as far as it decides what is wanted. Reads only."""

from __future__ import annotations

import time
from _operator import attrgetter

from reconciler.host.machine import Machine
from reconciler.kinds.link import Link
from reconciler.kinds.owner import Owner
from reconciler.kinds.route import BLOCK_METRIC, Route
from reconciler.kinds.routes import Routes
from reconciler.model.facts import Facts, Unknown, Uplink
from reconciler.model.found import Found, LinkState
from reconciler.model.intent import Intent
from reconciler.model.names import HOST, IfName, TunnelName
from reconciler.model.policy import Policy
from reconciler.model.tunnel import Tunnel
from reconciler.observe import network, sysctl
from reconciler.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from reconciler.host.resolve import Names


_asking = attrgetter("wireguard", "exec_", "dns", "listen", "health")


def gather(
    machine: Machine, intents: Iterable[Intent], found: Found, policy: Policy, *, resolve: bool, privileged: bool
) -> Facts:
    """The facts of this moment. `resolve`: look endpoint names up (bounded, 3 s); `privileged`: try to read secrets."""
    intents = tuple(intents)
    asking = [intent for intent in intents if _asks(intent.tunnel)]
    links, there = found.links, present(found)
    uplinks = network.uplinks(machine, found, policy, frozenset(there.values()))
    of_host = [route for route in found.of(Route) if route.tunnel == HOST]
    of_host += [route for some in found.of(Routes) if some.tunnel == HOST for route in some.each()]
    facts = Facts(
        boot_id=machine.handles.boot_id,
        run_dir=str(machine.run_dir),
        now_us=time.time_ns() // 1000,
        interfaces=interfaces(machine, intents, links, there),
        linked=frozenset(i.name for i in asking if i.name in there and (i.tunnel.wireguard or i.tunnel.dns)),
        leading6=network.leading6(found, there),
        name_service=found.name_service,
        uplinks=uplinks,
        uplink_tables=network.tables_of_uplinks(of_host, policy.numbers),
        connected=network.connected(found),
        pinned=_pinned(of_host),
        gateways=tuple(sorted({route.via for route in of_host if route.via})),
        reached=frozenset(network.path_mtus(machine, found, _servers(asking), 0)),
        ipv6=network.has_ipv6(),
        forwarding=sysctl.forwarding(intents, found, uplinks),
        working_endpoints=_endpoints_set(machine, asking),
    )
    return _with_more(facts, machine, asking, found, policy, resolve=resolve, privileged=privileged) if asking else facts


def _asks(tunnel: Tunnel) -> bool:
    """Does it follow from more than the links, addresses and routes of the host? A mere device does not."""
    device = tunnel.tun
    return any(_asking(tunnel)) or (device is not None and bool(device.owner or device.group))


def _with_more(
    facts: Facts, machine: Machine, intents: Sequence[Intent], found: Found, policy: Policy, *, resolve: bool, privileged: bool
) -> Facts:
    """What else tunnels ask about."""
    serving = [intent for intent in intents if intent.tunnel.listen and intent.is_wanted_up(facts.boot_id)]
    if serving:
        from reconciler.observe.ports import ports

        facts = facts._replace(ports=ports(machine, serving, found))
    if any(intent.tunnel.health for intent in intents):
        from reconciler.observe import pulse

        facts = facts._replace(vitals=pulse.look(machine, intents, present(found), found.links, policy, facts.now_us))
    facts = _with_engines(facts, intents, found.links, privileged=privileged)
    facts = _with_manifests(facts, intents, privileged=privileged)
    facts = _with_endpoints(facts, machine, intents, found, policy, names=resolve)
    return _with_accounts(facts, intents, patient=resolve)


def _with_engines(facts: Facts, intents: Iterable[Intent], links: Mapping[IfName, LinkState], *, privileged: bool) -> Facts:
    engines = [intent.tunnel.wireguard for intent in intents if intent.tunnel.wireguard]
    if not engines:
        return facts
    from reconciler.observe import engine

    return facts._replace(
        kernel_wireguard=engine.in_kernel(engines, links),
        public_keys=engine.public_keys(engines, privileged=privileged),
        preshared=engine.preshared(engines, privileged=privileged),
    )


def _with_manifests(facts: Facts, intents: Iterable[Intent], *, privileged: bool) -> Facts:
    vouched_for = [intent for intent in intents if intent.tunnel.manifests and intent.is_wanted_up(facts.boot_id)]
    if not vouched_for:
        return facts
    from reconciler.observe import manifest

    return facts._replace(whereabouts=manifest.gather(vouched_for, facts.now_us, privileged=privileged))


def _with_endpoints(
    facts: Facts, machine: Machine, intents: Sequence[Intent], found: Found, policy: Policy, *, names: bool
) -> Facts:
    hosts = tuple(_hosts(intents, facts))
    if not hosts:
        return facts
    resolved = _addresses(machine, hosts, found, facts.uplinks, policy.numbers.fwmark if names else None)
    mtus = network.path_mtus(machine, found, _automatic(intents, resolved, facts), policy.numbers.fwmark)
    return facts._replace(resolved=resolved, path_mtu=mtus)


def _with_accounts(facts: Facts, intents: Sequence[Intent], *, patient: bool) -> Facts:
    users, groups = tuple(_users(intents)), tuple(_groups(intents))
    if not (users or groups):
        return facts
    from reconciler.observe import account

    return facts._replace(users=account.users(users, patient=patient), groups=account.groups(groups, patient=patient))


def _addresses(
    machine: Machine, hosts: Sequence[str], found: Found, uplinks: tuple[Uplink, ...] | Unknown, mark: int | None
) -> Names:
    """Of all endpoints; a name is looked up once in a pass, by packets with this mark (None: not now). Where a tunnel
    answers for names, the name servers of the uplinks are asked before it."""
    from reconciler.host.resolve import TIMEOUT_S, is_literal, resolve

    unseen = [host for host in hosts if host not in machine.names]
    patience_s = (
        0.0 if mark is None or all(map(is_literal, unseen)) else TIMEOUT_S if machine.names_s is None else machine.names_s
    )
    if not patience_s or mark is None or found.name_service is None:
        answers = resolve(unseen, timeout_s=patience_s)
    else:
        from reconciler.observe.upstream import upstream

        answers = resolve(unseen, timeout_s=patience_s, beside=upstream(machine, found, uplinks, mark))
    if patience_s:
        machine.names.update((host, answer) for host, answer in answers.items() if not is_literal(host))
    return {host: answers.get(host) or machine.names[host] for host in hosts}


def _pinned(routes: Iterable[Route]) -> tuple[bytes, ...]:
    """Where routes of the host's own lead past the tunnels to single addresses: what blocks behind a pin outlives its link."""
    blocks = (route for route in routes if route.metric == BLOCK_METRIC)
    return tuple(sorted({route.packed for route in blocks if route.length == len(route.packed) * 8}))


def _automatic(intents: Iterable[Intent], resolved: Mapping[str, tuple[bytes, ...] | Unknown], facts: Facts) -> Iterator[bytes]:
    """Endpoints of tunnels whose MTU follows from the way to them."""
    for intent in intents:
        for host in _hosts((intent,), facts) if intent.tunnel.mtu is None else ():
            packed = resolved.get(host, ())
            yield from packed if not isinstance(packed, Unknown) else ()


def _servers(intents: Iterable[Intent]) -> Iterator[bytes]:
    for intent in intents:
        yield from intent.tunnel.dns.servers if intent.tunnel.dns else ()


def _hosts(intents: Iterable[Intent], facts: Facts) -> Iterator[str]:
    """Where the engines of all tunnels talk to."""
    for intent in intents:
        tunnel = intent.tunnel
        if tunnel.wireguard:
            known = (facts.endpoint(tunnel.name, peer) for peer in tunnel.wireguard.peers)
            yield from (endpoint.host for endpoint in known if endpoint)
        if tunnel.exec_:
            vouched = facts.vouched(tunnel.name)
            yield from (*tunnel.exec_.remote, *((vouched.host,) if vouched else ()))


def _users(intents: Iterable[Intent]) -> Iterator[str]:
    for intent in intents:
        settings, device = intent.tunnel.exec_, intent.tunnel.tun
        if settings and settings.user:
            yield settings.user
        if device and device.owner:
            yield device.owner


def _groups(intents: Iterable[Intent]) -> Iterator[str]:
    for intent in intents:
        if intent.tunnel.tun and intent.tunnel.tun.group:
            yield intent.tunnel.tun.group


def present(found: Found) -> dict[TunnelName, IfName]:
    """The link of each tunnel that has one: with its mark, or made by its program and not marked yet."""
    held = {o.tunnel: o.holds for o in found.of(Owner) if o.tunnel and o.holds and o.holds in found.links}
    marked = {link.tunnel: link.name for link in found.of(Link) if link.tunnel}
    return {**held, **marked}


def interfaces(
    machine: Machine, intents: Iterable[Intent], links: Mapping[IfName, LinkState], there: Mapping[TunnelName, IfName]
) -> dict[TunnelName, IfName]:
    """What `interface = "auto"` means for each tunnel that says so: the link that it has, else the name it had if that
    is still free, else the first free tunN (tapN)."""
    intents = tuple(intents)
    automatic = [intent for intent in intents if intent.tunnel.interface is None]
    if not automatic:
        return {}
    taken = set(links) | {intent.tunnel.interface for intent in intents if intent.tunnel.interface}
    chosen = {intent.name: there[intent.name] for intent in automatic if intent.name in there}
    for intent in sorted(automatic, key=_is_made_by_us):  # a program that chooses takes the first free name, and starts first
        if intent.name in chosen:
            continue
        handle = machine.handles.get(intent.name)
        before = handle.interface if handle and handle.id == intent.mark.id else None
        name = before if before and before not in taken else _first_free(intent, taken)
        chosen[intent.name] = name
        taken.add(name)
    return chosen


def _is_made_by_us(intent: Intent) -> bool:
    return intent.tunnel.exec_ is None or intent.tunnel.exec_.device == "tunctl"


def _first_free(intent: Intent, taken: set[IfName]) -> IfName:
    stem = intent.tunnel.tun.mode if intent.tunnel.tun else "tun"
    number = 0
    while f"{stem}{number}" in taken:
        number += 1
    return IfName(f"{stem}{number}")


def _endpoints_set(machine: Machine, intents: Iterable[Intent]) -> dict[str, str]:
    """The endpoint texts that were set in this boot; whether they work is for the loop to say, it has seen the peers."""
    found = {}
    for intent in intents:
        handle = machine.handles.get(intent.name) if intent.tunnel.wireguard else None
        for public_key, text in (handle.endpoints if handle else {}).items():
            found[f"{intent.name} {public_key}"] = text
    return found
